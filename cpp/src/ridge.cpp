#include "denoise5d/ridge.hpp"

#include "denoise5d/tiling.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

namespace denoise5d {
namespace {

constexpr Index kTile = {4, 8, 32, 64}; // reference patches' voxels that one thread does at a time

std::ptrdiff_t round_up(std::ptrdiff_t n, std::ptrdiff_t unit) {
    return (n + unit - 1) / unit * unit;
}

// The tiles are cells of a lattice anchored to the image. Two cells of one colour lie a whole cell
// apart, so that their patches never meet: colours one after the other, each in parallel, add up
// in an order that is the same for every voxel in every block.
Index tile_size(const RidgeParameters& p) {
    Index size{};
    for (int a = 0; a < kAxes; ++a)
        size[a] = round_up(std::max(kTile[a], 2 * (p.search[a] + p.patch[a])), p.stride[a]);
    return size;
}

// One axis of the lattice of reference patches: p, p + stride, ..., and always n - 1 - p, the last
// patch inside the image; those of them within [from, to).
std::vector<std::ptrdiff_t> references(std::ptrdiff_t patch, std::ptrdiff_t stride,
                                       std::ptrdiff_t n, std::ptrdiff_t from, std::ptrdiff_t to) {
    std::vector<std::ptrdiff_t> positions;
    const auto last = n - 1 - patch;
    for (auto i = patch; i < last; i += stride)
        if (i >= from && i < to) positions.push_back(i);
    if (last >= from && last < to) positions.push_back(last);
    return positions;
}

std::vector<Index> offsets_within(const Index& radius) {
    std::vector<Index> offsets;
    for (auto t = -radius[0]; t <= radius[0]; ++t)
        for (auto z = -radius[1]; z <= radius[1]; ++z)
            for (auto y = -radius[2]; y <= radius[2]; ++y)
                for (auto x = -radius[3]; x <= radius[3]; ++x) offsets.push_back({t, z, y, x});
    return offsets;
}

// The same, the nearest first: of equally similar patches the near ones are taken, and of them all
// the reference patch itself.
std::vector<Index> nearest_first(const Index& radius) {
    auto offsets = offsets_within(radius);
    const auto squared = [](const Index& d) {
        return d[0] * d[0] + d[1] * d[1] + d[2] * d[2] + d[3] * d[3];
    };
    std::stable_sort(offsets.begin(), offsets.end(),
                     [&](const Index& a, const Index& b) { return squared(a) < squared(b); });
    return offsets;
}

// What a thread works on, cut out of one piece of memory.
struct Scratch {
    float* data;      // the stabilised data around the tile
    float* distances; // [reference of a row][offset]
    float* column_sums;
    float* box_sums;
    float* pilot; // of the group, see Group
    float* sides;
    float* matrix;
    float* weights;
};

// The stabilised data around a tile.
struct Surroundings {
    Box box;
    Index strides;
    const float* data;

    // Where x = 0 of a row would lie.
    [[nodiscard]] const float* row(std::ptrdiff_t t, std::ptrdiff_t z, std::ptrdiff_t y) const {
        return data + (t - box.start[0]) * strides[0] + (z - box.start[1]) * strides[1] +
               (y - box.start[2]) * strides[2] - box.start[3];
    }
};

class Round {
  public:
    Round(const Input& input, const BlockPlace& place, const Box& target, const Estimate& pilot,
          const Stabiliser& stabiliser, const RidgeParameters& parameters,
          const Execution& execution)
        : input_(input), place_(place), target_(target), pilot_(pilot), stabiliser_(stabiliser),
          parameters_(parameters), execution_(execution),
          offsets_(nearest_first(parameters.search)), cells_(offsets_within(parameters.patch)) {}

    Estimate run();

  private:
    using Positions = std::vector<std::ptrdiff_t>;
    using Keys = std::vector<std::uint64_t>;

    [[nodiscard]] std::vector<Box> tiles_of(int colour) const;
    void add_tile(float* memory, const Box& tile);
    void add_row(const Scratch& scratch, const Surroundings& data, const Index& first,
                 const Positions& xs);
    void search_row(const Scratch& scratch, const Index& first, const Positions& xs) const;
    void select(const float* distances, Keys& keys) const;
    void gather(const Surroundings& data, const Index& reference, const Keys& keys,
                const Group& group, float mean) const;
    void scatter(const Surroundings& data, const Index& reference, const Keys& keys,
                 const Group& group, float mean);
    [[nodiscard]] float mean_of(const Index& reference) const;
    [[nodiscard]] Scratch carve(float* memory) const;
    void conclude();

    const Input& input_;
    const BlockPlace& place_;
    const Box& target_;
    const Estimate& pilot_;
    const Stabiliser& stabiliser_;
    const RidgeParameters& parameters_;
    const Execution& execution_;
    std::vector<Index> offsets_, cells_;
    Estimate sums_;                    // of weight * estimate, then the result
    std::unique_ptr<float[]> weights_; // their sums
};

int lanes(std::ptrdiff_t n) {
    return static_cast<int>(round_up(n, kLane));
}

struct Sizes {
    std::size_t data = 1, offsets = 1, cells = 1, row = 0, references = 0;
    int voxel_lanes = 0, patch_lanes = 0;

    explicit Sizes(const RidgeParameters& p) {
        const Index tile = tile_size(p);
        for (int a = 0; a < kAxes; ++a) {
            data *= static_cast<std::size_t>(tile[a] + 2 * (p.search[a] + p.patch[a]));
            offsets *= static_cast<std::size_t>(2 * p.search[a] + 1);
            cells *= static_cast<std::size_t>(2 * p.patch[a] + 1);
        }
        row = static_cast<std::size_t>(tile[3] + 2 * p.patch[3] + kLane);
        references = static_cast<std::size_t>(tile[3] / p.stride[3] + 2);
        voxel_lanes = lanes(static_cast<std::ptrdiff_t>(cells));
        patch_lanes = lanes(p.group);
    }
    [[nodiscard]] std::size_t side() const {
        return static_cast<std::size_t>(patch_lanes) * (voxel_lanes + patch_lanes);
    }
    [[nodiscard]] std::size_t floats() const {
        return data + references * offsets + 2 * row + cells * patch_lanes + side() +
               static_cast<std::size_t>(patch_lanes) * (patch_lanes + 1);
    }
};

Scratch Round::carve(float* memory) const {
    const Sizes sizes(parameters_);
    const auto take = [&memory](std::size_t n) {
        float* const begin = memory;
        memory += n;
        return begin;
    };
    Scratch scratch{};
    scratch.data = take(sizes.data);
    scratch.distances = take(sizes.references * sizes.offsets);
    scratch.column_sums = take(sizes.row);
    scratch.box_sums = take(sizes.row);
    scratch.pilot = take(sizes.cells * sizes.patch_lanes);
    scratch.sides = take(sizes.side());
    scratch.matrix = take(static_cast<std::size_t>(sizes.patch_lanes) * sizes.patch_lanes);
    scratch.weights = memory;
    return scratch;
}

Estimate Round::run() {
    sums_.box = target_;
    sums_.strides = contiguous_strides(target_.shape());
    sums_.mean.reset(new float[target_.voxels() + kLane]);
    weights_.reset(new float[target_.voxels()]);
    const auto voxels = static_cast<std::ptrdiff_t>(target_.voxels());
#pragma omp parallel for num_threads(execution_.threads)
    for (std::ptrdiff_t i = 0; i < voxels; ++i) sums_.mean[i] = weights_[i] = 0;
    const std::size_t floats = Sizes(parameters_).floats();
    for (int colour = 0; colour < 1 << kAxes; ++colour) {
        const auto tiles = tiles_of(colour);
        for_each_index(std::ssize(tiles), floats, execution_,
                       [&](float* memory, std::ptrdiff_t i) { add_tile(memory, tiles[i]); });
    }
    conclude();
    return std::move(sums_);
}

// The cells of one colour whose reference patches may touch the target, cut to those that do.
std::vector<Box> Round::tiles_of(int colour) const {
    const Index size = tile_size(parameters_);
    Box wanted;
    Index first{};
    Index counts{};
    for (int a = 0; a < kAxes; ++a) {
        const auto margin = parameters_.search[a] + parameters_.patch[a];
        wanted.start[a] = std::max<std::ptrdiff_t>(0, target_.start[a] - margin);
        wanted.stop[a] = std::min(place_.image_shape[a], target_.stop[a] + margin);
        first[a] = wanted.start[a] / size[a];
        if (first[a] % 2 != (colour >> a & 1)) ++first[a];
        const auto end = (wanted.stop[a] + size[a] - 1) / size[a];
        counts[a] = std::max<std::ptrdiff_t>(0, (end - first[a] + 1) / 2); // every other one
    }
    std::vector<Box> tiles;
    for (std::ptrdiff_t i = 0; i < counts[0] * counts[1] * counts[2] * counts[3]; ++i) {
        Box tile;
        auto rest = i;
        for (int a = kAxes - 1; a >= 0; --a) {
            const auto begin = (first[a] + 2 * (rest % counts[a])) * size[a];
            tile.start[a] = std::max(wanted.start[a], begin);
            tile.stop[a] = std::min(wanted.stop[a], begin + size[a]);
            rest /= counts[a];
        }
        tiles.push_back(tile);
    }
    return tiles;
}

void Round::add_tile(float* memory, const Box& tile) {
    Box around;
    Positions lattice[kAxes];
    for (int a = 0; a < kAxes; ++a) {
        const auto patch = parameters_.patch[a];
        const auto margin = parameters_.search[a] + patch;
        around.start[a] = std::max(pilot_.box.start[a], tile.start[a] - margin);
        around.stop[a] = std::min(pilot_.box.stop[a], tile.stop[a] + margin);
        // Patches lie inside what there is: the image, or with an approximate halo less.
        const auto from = std::max(tile.start[a], pilot_.box.start[a] + patch);
        const auto to = std::min(tile.stop[a], pilot_.box.stop[a] - patch);
        lattice[a] = references(patch, parameters_.stride[a], place_.image_shape[a], from, to);
        if (lattice[a].empty()) return;
    }
    const Scratch scratch = carve(memory);
    load_stabilised(input_, place_, around, {}, stabiliser_, *execution_.loops, scratch.data);
    const Surroundings data{around, contiguous_strides(around.shape()), scratch.data};
    for (const auto t : lattice[0])
        for (const auto z : lattice[1])
            for (const auto y : lattice[2])
                add_row(scratch, data, {t, z, y, lattice[3].front()}, lattice[3]);
}

void Round::add_row(const Scratch& scratch, const Surroundings& data, const Index& first,
                    const Positions& xs) {
    search_row(scratch, first, xs);
    const Sizes sizes(parameters_);
    Group group{};
    group.voxels = static_cast<int>(sizes.cells);
    group.voxel_lanes = sizes.voxel_lanes;
    group.patch_lanes = sizes.patch_lanes;
    group.pilot = scratch.pilot;
    group.sides = scratch.sides;
    group.matrix = scratch.matrix;
    group.weights = scratch.weights;
    Keys keys;
    for (std::size_t i = 0; i < xs.size(); ++i) {
        const Index reference = {first[0], first[1], first[2], xs[i]};
        select(scratch.distances + i * sizes.offsets, keys);
        group.patches = static_cast<int>(keys.size());
        const float mean = mean_of(reference);
        gather(data, reference, keys, group, mean);
        execution_.loops->solve_group(group);
        scatter(data, reference, keys, group, mean);
    }
}

// distances[reference][offset] for the references (first.t, first.z, first.y, xs); infinite where
// the patch would leave what there is.
void Round::search_row(const Scratch& scratch, const Index& first, const Positions& xs) const {
    const auto& p = parameters_.patch;
    const Sizes sizes(parameters_);
    std::vector<std::ptrdiff_t> planes;
    for (auto t = -p[0]; t <= p[0]; ++t)
        for (auto z = -p[1]; z <= p[1]; ++z)
            for (auto y = -p[2]; y <= p[2]; ++y)
                planes.push_back(t * pilot_.strides[0] + z * pilot_.strides[1] +
                                 y * pilot_.strides[2]);
    const float* const row = pilot_.mean.get() + pilot_.at(first[0], first[1], first[2]);
    for (std::size_t o = 0; o < offsets_.size(); ++o) {
        const Index& d = offsets_[o];
        bool inside = true;
        for (int a = 0; a < 3; ++a)
            inside = inside && first[a] + d[a] - p[a] >= pilot_.box.start[a] &&
                     first[a] + d[a] + p[a] < pilot_.box.stop[a];
        const auto begin = std::max(xs.front() - p[3], pilot_.box.start[3] - d[3]);
        const auto end = std::min(xs.back() + p[3] + 1, pilot_.box.stop[3] - d[3]);
        inside = inside && end - begin >= 2 * p[3] + 1;
        if (inside) {
            const auto shift = d[0] * pilot_.strides[0] + d[1] * pilot_.strides[1] +
                               d[2] * pilot_.strides[2] + d[3];
            execution_.loops->patch_distances(
                {row + begin, row + begin + shift, planes.data(), static_cast<int>(planes.size()),
                 static_cast<int>(2 * p[3] + 1), static_cast<int>(end - begin), scratch.column_sums,
                 scratch.box_sums});
        }
        for (std::size_t i = 0; i < xs.size(); ++i) {
            const bool here = inside && xs[i] - p[3] >= begin && xs[i] + p[3] < end;
            scratch.distances[i * sizes.offsets + o] = here
                                                           ? scratch.box_sums[xs[i] - p[3] - begin]
                                                           : std::numeric_limits<float>::infinity();
        }
    }
}

// The numbers of the `group` most similar patches, in order of the offsets; of equally similar ones
// the first. Distances are not negative, so their bits are in their order.
void Round::select(const float* distances, Keys& keys) const {
    keys.clear();
    for (std::size_t o = 0; o < offsets_.size(); ++o)
        if (distances[o] < std::numeric_limits<float>::infinity())
            keys.push_back(std::uint64_t{std::bit_cast<std::uint32_t>(distances[o])} << 32 | o);
    const auto most = static_cast<std::ptrdiff_t>(parameters_.group);
    if (std::ssize(keys) > most) {
        std::nth_element(keys.begin(), keys.begin() + most, keys.end());
        keys.resize(static_cast<std::size_t>(most));
    }
    for (auto& key : keys) key &= 0xffffffffU;
    std::sort(keys.begin(), keys.end());
}

float Round::mean_of(const Index& reference) const {
    float sum = 0;
    for (const Index& k : cells_)
        sum +=
            pilot_.mean[pilot_.at(reference[0] + k[0], reference[1] + k[1], reference[2] + k[2]) +
                        reference[3] + k[3]];
    return sum / static_cast<float>(cells_.size());
}

// Calls `row(t, z, y, i)` for the rows of the patch at `centre`, i counting its voxels.
template <class Row> void for_each_row(const Index& centre, const Index& patch, const Row& row) {
    std::ptrdiff_t i = 0;
    for (auto t = centre[0] - patch[0]; t <= centre[0] + patch[0]; ++t)
        for (auto z = centre[1] - patch[1]; z <= centre[1] + patch[1]; ++z)
            for (auto y = centre[2] - patch[2]; y <= centre[2] + patch[2]; ++y) {
                row(t, z, y, i);
                i += 2 * patch[3] + 1;
            }
}

Index plus(const Index& a, const Index& b) {
    return {a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]};
}

// The group's patches: of the pilot a column each, of the data a row each, with the identity
// beside.
void Round::gather(const Surroundings& data, const Index& reference, const Keys& keys,
                   const Group& group, float mean) const {
    const auto length = 2 * parameters_.patch[3] + 1;
    const auto width = group.voxel_lanes + group.patch_lanes;
    for (int j = 0; j < group.patch_lanes; ++j) {
        float* row = group.sides + j * width;
        std::fill(row + (j < group.patches ? group.voxels : 0), row + width, 0.0F);
        row[group.voxel_lanes + j] = 1;
    }
    if (group.patches < group.patch_lanes)
        std::fill_n(group.pilot, group.voxels * group.patch_lanes, 0.0F);
    for (int j = 0; j < group.patches; ++j) {
        const Index centre = plus(reference, offsets_[keys[static_cast<std::size_t>(j)]]);
        const auto x = centre[3] - parameters_.patch[3];
        for_each_row(centre, parameters_.patch, [&](auto t, auto z, auto y, auto voxel) {
            const float* pilot = pilot_.mean.get() + pilot_.at(t, z, y) + x;
            const float* raw = data.row(t, z, y) + x;
            float* column = group.pilot + voxel * group.patch_lanes + j;
            float* side = group.sides + j * width + voxel;
            for (std::ptrdiff_t i = 0; i < length; ++i, column += group.patch_lanes) {
                *column = pilot[i] - mean;
                side[i] = raw[i] - mean;
            }
        });
    }
}

// Adds the group's estimates, data - n * solution, to the sums of the voxels that they belong to.
void Round::scatter(const Surroundings& data, const Index& reference, const Keys& keys,
                    const Group& group, float mean) {
    const auto width = group.voxel_lanes + group.patch_lanes;
    const auto voxels = static_cast<float>(group.voxels);
    const auto inside = [this](std::ptrdiff_t i, int a) {
        return i >= target_.start[a] && i < target_.stop[a];
    };
    for (int j = 0; j < group.patches; ++j) {
        const Index centre = plus(reference, offsets_[keys[static_cast<std::size_t>(j)]]);
        const auto x = centre[3] - parameters_.patch[3];
        const auto begin = std::max(x, target_.start[3]) - x;
        const auto end = std::min(centre[3] + parameters_.patch[3] + 1, target_.stop[3]) - x;
        const float weight = group.weights[j];
        for_each_row(centre, parameters_.patch, [&](auto t, auto z, auto y, auto voxel) {
            if (!inside(t, 0) || !inside(z, 1) || !inside(y, 2)) return;
            const float* const raw = data.row(t, z, y) + x;
            const float* const solution = group.sides + j * width + voxel;
            float* const sum = sums_.mean.get() + sums_.at(t, z, y) + x;
            float* const total = weights_.get() + sums_.at(t, z, y) + x;
            // The three arrays never overlap: without saying so every voxel is read anew.
#pragma GCC ivdep
            for (auto i = begin; i < end; ++i) {
                const float estimate = mean + ((raw[i] - mean) - voxels * solution[i]);
                sum[i] += weight * estimate;
                total[i] += weight;
            }
        });
    }
}

// Sums to means; a voxel that no patch has reached (approximate halos only) keeps the pilot.
void Round::conclude() {
    const auto shape = target_.shape();
    const auto rows = shape[0] * shape[1] * shape[2];
#pragma omp parallel for num_threads(execution_.threads)
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
        const auto t = target_.start[0] + i / shape[2] / shape[1];
        const auto z = target_.start[1] + i / shape[2] % shape[1];
        const auto y = target_.start[2] + i % shape[2];
        const float* pilot = pilot_.mean.get() + pilot_.at(t, z, y) + target_.start[3];
        for (std::ptrdiff_t x = 0; x < shape[3]; ++x) {
            float& sum = sums_.mean[i * shape[3] + x];
            const float weight = weights_[i * shape[3] + x];
            sum = weight > 0 ? sum / weight : pilot[x];
        }
    }
}

} // namespace

Index ridge_reach(const RidgeParameters& parameters) {
    Index reach{};
    for (int a = 0; a < kAxes; ++a) reach[a] = 2 * (parameters.search[a] + parameters.patch[a]);
    return reach;
}

std::size_t ridge_floats(const RidgeParameters& parameters) {
    return Sizes(parameters).floats();
}

Estimate run_ridge(const Input& input, const BlockPlace& place, const Box& target,
                   const Estimate& pilot, const Stabiliser& stabiliser,
                   const RidgeParameters& parameters, const Execution& execution) {
    return Round(input, place, target, pilot, stabiliser, parameters, execution).run();
}

} // namespace denoise5d
