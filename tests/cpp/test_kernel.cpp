// The library without Python: run under the address and undefined-behaviour sanitizers by CTest.
#include "denoise5d/denoise.hpp"
#include "denoise5d/dispatch.hpp"
#include "denoise5d/input.hpp"
#include "denoise5d/stabilise.hpp"

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

using namespace denoise5d;

namespace {

int failures = 0;

void check(bool holds, const char* what, int line) {
    if (holds) return;
    std::printf("line %d: %s\n", line, what);
    ++failures;
}
#define CHECK(condition) check(condition, #condition, __LINE__)

template <class Error> bool throws(const std::function<void()>& call, const std::string& words) {
    try {
        call();
    } catch (const Error& error) {
        return std::string(error.what()).find(words) != std::string::npos;
    }
    return false;
}

// A small generator of our own: the same data on every machine.
struct Random {
    std::uint32_t state = 12345;
    std::uint32_t next() { return state = state * 1664525U + 1013904223U; }
};

std::vector<std::uint16_t> image_of(const Index& shape) {
    Random random;
    std::vector<std::uint16_t> image;
    for (std::ptrdiff_t i = 0; i < shape[0] * shape[1] * shape[2] * shape[3]; ++i)
        image.push_back(
            static_cast<std::uint16_t>(100 + (i / 5 % 2) * 80 + random.next() % 4096 / 128));
    return image;
}

const NoiseModel kCamera{3.92, -388, 2};

Parameters parameters(const Index& patch, std::vector<Index> windows,
                      const RidgeParameters& ridge = {}) {
    return {{patch, std::move(windows), 20.0F}, ridge};
}

std::vector<float> denoise_box(const std::vector<std::uint16_t>& image, const Index& shape,
                               const Parameters& safir, const Box& core, const Box& padded,
                               int threads, const Loops& loops) {
    const auto strides = contiguous_strides(shape);
    const auto* corner = image.data() + padded.start[0] * strides[0] +
                         padded.start[1] * strides[1] + padded.start[2] * strides[2] +
                         padded.start[3];
    std::vector<float> out(core.voxels());
    Execution execution;
    execution.threads = threads;
    execution.loops = &loops;
    denoise_channel(input_of(corner, strides), {shape, padded, core}, kCamera, safir, execution,
                    View<float>{out.data(), contiguous_strides(core.shape())});
    return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void test_blocks_threads_and_instruction_sets() {
    const std::vector<std::pair<Index, Parameters>> cases = {
        {{1, 1, 40, 45}, parameters({0, 0, 1, 1}, {{0, 0, 1, 1}, {0, 0, 2, 2}})},
        {{3, 5, 14, 17}, parameters({0, 1, 1, 1}, {{1, 1, 1, 1}})},
        {{4, 1, 20, 9}, parameters({1, 0, 2, 1}, {{1, 0, 1, 1}, {1, 0, 2, 1}, {1, 0, 3, 2}})},
        {{1, 1, 1, 64}, parameters({0, 0, 0, 3}, {{0, 0, 0, 8}})},
        {{1, 1, 40, 45},
         parameters({0, 0, 1, 1}, {{0, 0, 1, 1}},
                    {{0, 0, 2, 2}, {0, 0, 5, 4}, {1, 1, 4, 3}, 20, 1})},
        {{4, 9, 21, 23},
         parameters({0, 0, 1, 1}, {{1, 0, 1, 1}},
                    {{0, 1, 1, 1}, {1, 0, 1, 1}, {1, 2, 3, 2}, 8, 1})},
        {{1, 1, 50, 70},
         parameters({0, 0, 0, 0}, {{0, 0, 1, 1}},
                    {{0, 0, 1, 1}, {0, 0, 2, 2}, {1, 1, 2, 2}, 33, 2})},
        {{2, 2, 2, 2},
         parameters({0, 0, 0, 0}, {{1, 1, 1, 1}},
                    {{0, 0, 0, 0}, {1, 1, 1, 1}, {1, 1, 1, 1}, 32, 1})},
        {{1, 1, 1, 1}, parameters({0, 0, 0, 0}, {{0, 0, 0, 0}})},
    };
    for (const auto& [shape, safir] : cases) {
        const auto image = image_of(shape);
        const Box whole{{}, shape};
        const auto expected =
            denoise_box(image, shape, safir, whole, whole, 1, *available_loops()[0]);
        for (const auto* loops : available_loops())
            for (const int threads : {1, 2, 5})
                CHECK(same_bits(denoise_box(image, shape, safir, whole, whole, threads, *loops),
                                expected));
        Box core;
        for (int a = 0; a < kAxes; ++a) {
            core.start[a] = shape[a] / 3;
            core.stop[a] = core.start[a] + (shape[a] + 2) / 3;
        }
        const auto block = denoise_box(image, shape, safir, core, grown(core, reach(safir), whole),
                                       2, loops_named("auto"));
        std::vector<float> part;
        const auto strides = contiguous_strides(shape);
        for (auto t = core.start[0]; t < core.stop[0]; ++t)
            for (auto z = core.start[1]; z < core.stop[1]; ++z)
                for (auto y = core.start[2]; y < core.stop[2]; ++y)
                    for (auto x = core.start[3]; x < core.stop[3]; ++x)
                        part.push_back(
                            expected[t * strides[0] + z * strides[1] + y * strides[2] + x]);
        CHECK(same_bits(block, part));
    }
}

// Images that are smaller than windows, patches and vectors, of every shape up to 3.
void test_tiny_images() {
    for (std::ptrdiff_t i = 0; i < 81; ++i) {
        const Index shape = {1 + i / 27, 1 + i / 9 % 3, 1 + i / 3 % 3, 1 + i % 3};
        RidgeParameters ridge{{}, {}, {1, 1, 1, 1}, 5, 1};
        Index patch{}, window{};
        for (int a = 0; a < kAxes; ++a) {
            window[a] = ridge.search[a] = shape[a] - 1;
            ridge.patch[a] = (shape[a] - 1) / 2;
            patch[a] = a == 0 ? 0 : shape[a] - 1;
        }
        const Box whole{{}, shape};
        const auto image = image_of(shape);
        for (const auto& windows : {std::vector{window}, std::vector{window, window}}) {
            const auto both = parameters(patch, windows, ridge);
            const auto first =
                denoise_box(image, shape, both, whole, whole, 1, *available_loops()[0]);
            for (const auto* loops : available_loops())
                CHECK(same_bits(denoise_box(image, shape, both, whole, whole, 1, *loops), first));
        }
    }
}

void test_halo_that_is_too_small_stays_inside() {
    // Approximate halos are allowed: nothing may be read beyond the padded box.
    const Index shape = {1, 3, 30, 30};
    const auto image = image_of(shape);
    const Box core{{0, 1, 10, 10}, {1, 2, 20, 20}}, padded{{0, 1, 9, 10}, {1, 2, 21, 20}};
    const auto safir = parameters({0, 1, 2, 2}, {{0, 1, 2, 2}, {0, 1, 4, 4}},
                                  {{0, 0, 2, 2}, {0, 1, 3, 3}, {1, 1, 2, 2}, 16, 1});
    const auto cut = padded.shape();
    std::vector<std::uint16_t> only(padded.voxels());
    for (std::ptrdiff_t y = 0; y < cut[2]; ++y)
        for (std::ptrdiff_t x = 0; x < cut[3]; ++x)
            only[y * cut[3] + x] = image[900 + (y + 9) * 30 + x + 10];
    std::vector<float> out(core.voxels());
    Execution execution;
    execution.loops = &loops_named("auto");
    denoise_channel(input_of(only.data(), contiguous_strides(cut)), {shape, padded, core}, kCamera,
                    safir, execution, View<float>{out.data(), contiguous_strides(core.shape())});
    for (const float value : out) CHECK(std::isfinite(value));
}

void test_inverse_undoes_forward() {
    const Stabiliser gaussian(NoiseModel{0, 25, 5});
    float value = 35;
    gaussian.forward(&value, 1, loops_named("baseline"));
    CHECK(std::abs(value - 7) < 1e-6);
    CHECK(std::abs(gaussian.inverse(7) - 35) < 1e-5);

    const Stabiliser camera(kCamera); // bright light: the mean of the root is the root of the mean
    for (const float level : {5000.0F, 20000.0F, 65535.0F}) {
        value = level;
        camera.forward(&value, 1, loops_named("baseline"));
        // E[z] lies 1/(4 root) below: the inverse answers with a quarter of a grey level more.
        CHECK(std::abs(camera.inverse(value) - level) < 0.3 * 3.92);
    }
    value = -1000; // below anything a camera gives: still a number
    camera.forward(&value, 1, loops_named("baseline"));
    CHECK(value == 0);
    CHECK(std::isfinite(camera.inverse(value)));
}

void test_axis_map_mirrors_at_the_image_only() {
    const AxisMap left(-2, 5, 0, 10, 20); // the array holds [0, 10) of 20
    const std::vector<float> row = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    std::vector<float> out(5);
    const auto same = [](float v) { return v; };
    left.gather(row.data(), out.data(), same);
    CHECK((out == std::vector<float>{2, 1, 0, 1, 2}));
    const AxisMap right(8, 5, 0, 10, 20); // beyond the array, inside the image: its last voxel
    right.gather(row.data(), out.data(), same);
    CHECK((out == std::vector<float>{8, 9, 9, 9, 9}));
    const AxisMap end(18, 5, 10, 20, 20);
    end.gather(row.data(), out.data(), same);
    CHECK((out == std::vector<float>{8, 9, 8, 7, 6}));
    const AxisMap far(-5, 5, 0, 2, 2); // farther than the image is long
    far.gather(row.data(), out.data(), same);
    CHECK((out == std::vector<float>{1, 0, 1, 0, 1}));
    const AxisMap single(-1, 3, 0, 1, 1);
    CHECK(single[0] == 0 && single[1] == 0 && single[2] == 0);
}

void test_bad_input_is_refused() {
    const Index shape = {1, 2, 3, 4};
    std::vector<float> image(24, 1.0F), out(24);
    const Box whole{{}, shape};
    const auto strides = contiguous_strides(shape);
    Execution execution;
    execution.threads = 2;
    execution.loops = &loops_named("auto");
    const auto run = [&](const BlockPlace& place, const NoiseModel& noise,
                         const Parameters& safir) {
        denoise_channel(input_of(image.data(), strides), place, noise, safir, execution,
                        View<float>{out.data(), strides});
    };
    const auto good = parameters({0, 1, 1, 1}, {{0, 1, 1, 1}});
    const BlockPlace place{shape, whole, whole};
    using Bad = std::invalid_argument;
    CHECK(
        throws<Bad>([&] { run({{1, 2, 3, 3}, whole, whole}, kCamera, good); }, "inside the image"));
    CHECK(throws<Bad>([&] { run(place, {-1, 5, 0}, good); }, "gain must not be negative"));
    CHECK(throws<Bad>([&] { run(place, {0, 0, 0}, good); },
                      "variance of the noise must be positive"));
    CHECK(throws<Bad>([&] { run(place, kCamera, parameters({0, 9, 1, 1}, {{0, 1, 1, 1}})); },
                      "patch radius"));
    CHECK(throws<Bad>([&] { run(place, kCamera, parameters({0, 1, 1, 1}, {})); },
                      "at least one iteration"));
    const auto refused = [&](const RidgeParameters& ridge, const char* words) {
        return throws<Bad>(
            [&] { run(place, kCamera, parameters({0, 1, 1, 1}, {{0, 1, 1, 1}}, ridge)); }, words);
    };
    CHECK(refused({{0, 0, 2, 1}, {0, 0, 1, 1}, {1, 1, 1, 1}, 8, 1}, "must fit into the image"));
    CHECK(refused({{0, 0, 1, 4}, {0, 0, 1, 1}, {1, 1, 1, 1}, 8, 1}, "longer than 8 voxels"));
    CHECK(refused({{0, 0, 1, 1}, {0, 0, 1, 1}, {1, 1, 4, 1}, 8, 1}, "every voxel needs one"));
    CHECK(refused({{0, 0, 1, 1}, {0, 0, 1, 1}, {1, 1, 1, 1}, 0, 1}, "a group must be"));
    CHECK(refused({{0, 0, 1, 1}, {0, 0, 1, 1}, {1, 1, 1, 1}, 8, 9}, "0 to 8 rounds"));
    CHECK(throws<Bad>([] { loops_named("z80"); }, "no instruction set 'z80'"));

    image[7] = std::numeric_limits<float>::infinity();
    image[20] = std::nanf("");
    try {
        run(place, kCamera, good);
        CHECK(false);
    } catch (const NonFinite& error) {
        CHECK(error.count == 2);
        CHECK((error.first == Index{0, 0, 1, 3}));
    }
}

void test_interrupt_stops_the_threads() {
    const Index shape = {1, 8, 300, 300};
    const auto image = image_of(shape);
    const Box whole{{}, shape};
    std::vector<float> out(whole.voxels());
    std::atomic<int> asked = 0;
    Execution execution{2, &loops_named("auto"), [&] { return ++asked >= 2; }};
    const auto safir = parameters({0, 1, 3, 3}, {{0, 2, 8, 8}});
    CHECK(throws<Interrupted>(
        [&] {
            denoise_channel(input_of(image.data(), contiguous_strides(shape)),
                            {shape, whole, whole}, kCamera, safir, execution,
                            View<float>{out.data(), contiguous_strides(shape)});
        },
        "interrupted"));
    CHECK(asked >= 2);
}

} // namespace

int main() {
    test_blocks_threads_and_instruction_sets();
    test_tiny_images();
    test_halo_that_is_too_small_stays_inside();
    test_inverse_undoes_forward();
    test_axis_map_mirrors_at_the_image_only();
    test_bad_input_is_refused();
    test_interrupt_stops_the_threads();
    std::printf(failures == 0 ? "all passed\n" : "%d failed\n", failures);
    return failures == 0 ? 0 : 1;
}
