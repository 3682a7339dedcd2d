#include "denoise5d/tiling.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <new>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace denoise5d {
namespace {

constexpr std::size_t kScratchBytes = std::size_t{4} << 20; // about a core's share of the caches

std::ptrdiff_t ceil_div(std::ptrdiff_t a, std::ptrdiff_t b) {
    return (a + b - 1) / b;
}

// Work per voxel of a tile: how much larger its patch sums are than itself, on average.
double overhead(const Index& size, const TileWork& work) {
    double factor = 1;
    for (int a = 0; a < kAxes; ++a) {
        const auto n = static_cast<double>(size[a]), patch = static_cast<double>(work.patch[a]);
        const auto window = static_cast<double>(work.window[a]);
        // Along x whole lines are summed, their margin too.
        factor *= 1 + (a == 3 ? 2 * window + 4 * patch : 0.5 * window + 3 * patch) / n;
    }
    return factor;
}

// Time lost because the last round of tiles leaves threads without work.
double imbalance(const Index& shape, const Index& size, int threads) {
    std::ptrdiff_t tiles = 1;
    for (int a = 0; a < kAxes; ++a) tiles *= ceil_div(shape[a], size[a]);
    return static_cast<double>(ceil_div(tiles, threads) * threads) / static_cast<double>(tiles);
}

bool thread_zero() {
#ifdef _OPENMP
    return omp_get_thread_num() == 0;
#else
    return true;
#endif
}

// Asks `interrupted` at most every 50 ms, from the calling thread only; remembers a yes.
class Poll {
  public:
    explicit Poll(const Execution& execution) : execution_(execution) {}

    [[nodiscard]] bool stopped() const { return stopped_; }
    void stop() { stopped_ = true; }
    void ask() {
        using namespace std::chrono_literals;
        if (!thread_zero()) return;
        const auto now = std::chrono::steady_clock::now();
        if (now - last_ < 50ms) return;
        last_ = now;
        if (execution_.interrupted()) stopped_ = interrupted_ = true;
    }
    [[nodiscard]] bool interrupted() const { return interrupted_; }

  private:
    const Execution& execution_;
    std::chrono::steady_clock::time_point last_{};
    std::atomic<bool> stopped_{false};
    bool interrupted_ = false;
};

} // namespace

std::ptrdiff_t kept_planes(const Index& size, const TileWork& work) {
    const auto& p = work.patch;
    if (p[0] == 0) return 2 * p[1] + 1;
    return (2 * p[0] + 1) * (size[1] + work.window[1] + 4 * p[1]);
}

std::size_t tile_floats(const Index& size, const TileWork& work) {
    const auto lines = [&](int a) { return size[a] + 2 * (work.window[a] + 2 * work.patch[a]); };
    const auto planes = work.guides * lines(0) * lines(1) + work.sums * size[0] * size[1] + 2 +
                        2 * kept_planes(size, work);
    return static_cast<std::size_t>(planes * lines(2) * lines(3) + kLane);
}

Index choose_tile(const Index& shape, const TileWork& work, int threads) {
    Index best{};
    double least = 0;
    for (std::ptrdiff_t t = 1; t <= 16; t *= 2)
        for (std::ptrdiff_t z = 1; z <= 32; z *= 2)
            for (std::ptrdiff_t y = 8; y <= 128; y *= 2)
                for (std::ptrdiff_t x = 32; x <= 256; x *= 2) {
                    Index size = {t, z, y, x};
                    for (int a = 0; a < kAxes; ++a) // cut the axis into equal parts
                        size[a] = ceil_div(shape[a], ceil_div(shape[a], size[a]));
                    const bool fits = tile_floats(size, work) * 4 <= kScratchBytes;
                    if (!fits && best[0] != 0) continue; // the smallest one is always allowed
                    const double cost = overhead(size, work) * imbalance(shape, size, threads);
                    if (best[0] == 0 || cost < least) {
                        best = size;
                        least = cost;
                    }
                }
    return best;
}

void for_each_index(std::ptrdiff_t count, std::size_t scratch_floats, const Execution& execution,
                    const std::function<void(float*, std::ptrdiff_t)>& work) {
    Poll poll(execution);
    std::exception_ptr failure;
#pragma omp parallel num_threads(execution.threads)
    {
        const std::unique_ptr<float[]> scratch(new (std::nothrow) float[scratch_floats]);
#pragma omp for schedule(dynamic, 1)
        for (std::ptrdiff_t i = 0; i < count; ++i) {
            poll.ask();
            if (poll.stopped()) continue;
            try {
                if (!scratch) throw std::bad_alloc();
                work(scratch.get(), i);
            } catch (...) { // an exception must not leave a parallel region
#pragma omp critical
                failure = std::current_exception();
                poll.stop();
            }
        }
    }
    if (failure) std::rethrow_exception(failure);
    if (poll.interrupted()) throw Interrupted();
}

void for_each_tile(const Box& region, const Index& tile, std::size_t scratch_floats,
                   const Execution& execution,
                   const std::function<void(float*, const Box&)>& work) {
    Index counts{};
    std::ptrdiff_t total = 1;
    for (int a = 0; a < kAxes; ++a) {
        counts[a] = ceil_div(region.shape()[a], tile[a]);
        total *= counts[a];
    }
    for_each_index(total, scratch_floats, execution, [&](float* scratch, std::ptrdiff_t i) {
        Box box;
        for (int a = kAxes - 1; a >= 0; --a) {
            box.start[a] = region.start[a] + i % counts[a] * tile[a];
            box.stop[a] = std::min(box.start[a] + tile[a], region.stop[a]);
            i /= counts[a];
        }
        work(scratch, box);
    });
}

} // namespace denoise5d
