#include "denoise5d/ridge.hpp"

#include "denoise5d/tiling.hpp"

#include <algorithm>
#include <limits>

namespace denoise5d {
namespace {

constexpr Index kTile = {4, 8, 32, 64}; // reference patches' voxels that one thread does at a time

// Where the pilot's deviations from the mean are below this variance, noise is all there is in it.
constexpr float kFlatVariance = 0.03F;

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

// What a thread works on, cut out of one piece of memory. The first four are the voxels around a
// tile, with kPatchRow floats more for rows of patches that are read and written eight at a time.
struct Scratch {
    float* pilot;
    float* data;      // stabilised
    float* sums;      // of weight * estimate
    float* totals;    // of the weights
    float* distances; // [reference of a row][offset]
    float* column_sums;
    float* columns; // of the group, see Group
    float* sides;
    float* matrix;
    float* theta;
};

int lanes(std::ptrdiff_t n) {
    return static_cast<int>(round_up(n, kLane));
}

struct Sizes {
    std::size_t around = kPatchRow, offsets = 1, cells = 1, row = 0, references = 0;
    std::size_t voxel_lanes = 0, patch_lanes = 0;

    explicit Sizes(const RidgeParameters& p) {
        const Index tile = tile_size(p);
        std::size_t box = 1;
        for (int a = 0; a < kAxes; ++a) {
            box *= static_cast<std::size_t>(tile[a] + 2 * (p.search[a] + p.patch[a]));
            offsets *= static_cast<std::size_t>(2 * p.search[a] + 1);
            cells *= static_cast<std::size_t>(2 * p.patch[a] + 1);
        }
        around += box;
        row = static_cast<std::size_t>(tile[3] + 2 * p.patch[3] + 2 * kLane);
        references = static_cast<std::size_t>(tile[3] / p.stride[3] + 2);
        // The last row of a patch is written as if it had eight voxels.
        voxel_lanes = lanes(static_cast<std::ptrdiff_t>(cells) + kPatchRow - (2 * p.patch[3] + 1));
        patch_lanes = lanes(p.group);
    }
    [[nodiscard]] std::size_t columns() const { // the estimates take their place
        return patch_lanes * std::max(cells, voxel_lanes);
    }
    [[nodiscard]] std::size_t floats() const {
        return 4 * around + references * offsets + row + columns() + patch_lanes * voxel_lanes +
               2 * patch_lanes * patch_lanes;
    }
};

// A tile at work: where its arrays lie in the image, and its lattice.
struct Neighbourhood {
    Box box;
    Index strides;
    std::vector<std::ptrdiff_t> lattice[kAxes];
    std::vector<std::ptrdiff_t> shifts; // of the offsets in the arrays
    std::vector<std::ptrdiff_t> planes; // of the rows of a patch, from its first voxel
    Scratch scratch;

    // Where a voxel lies in the arrays.
    [[nodiscard]] std::ptrdiff_t at(const Index& voxel) const {
        std::ptrdiff_t sum = 0;
        for (int a = 0; a < kAxes; ++a) sum += (voxel[a] - box.start[a]) * strides[a];
        return sum;
    }
};

class Round {
  public:
    Round(const Input& input, const BlockPlace& place, const Box& target, const Estimate& pilot,
          const Stabiliser& stabiliser, const RidgeParameters& parameters,
          const Execution& execution)
        : input_(input), place_(place), target_(target), pilot_(pilot), stabiliser_(stabiliser),
          parameters_(parameters), execution_(execution), sizes_(parameters),
          offsets_(nearest_first(parameters.search)) {}

    Estimate run();

  private:
    [[nodiscard]] std::vector<Box> tiles_of(int colour) const;
    void do_tile(float* memory, const Box& tile);
    [[nodiscard]] Neighbourhood surround(const Box& tile) const;
    void load(const Neighbourhood& around) const;
    void refine_row(const Neighbourhood& around, const Index& first) const;
    void search_row(const Neighbourhood& around, const Index& first) const;
    void add_up(const Neighbourhood& around);
    [[nodiscard]] Scratch carve(float* memory) const;
    void conclude();

    const Input& input_;
    const BlockPlace& place_;
    const Box& target_;
    const Estimate& pilot_;
    const Stabiliser& stabiliser_;
    const RidgeParameters& parameters_;
    const Execution& execution_;
    const Sizes sizes_;
    std::vector<Index> offsets_;
    Estimate sums_;                    // of weight * estimate, then the result
    std::unique_ptr<float[]> weights_; // their sums
};

Scratch Round::carve(float* memory) const {
    const auto take = [&memory](std::size_t n) {
        float* const begin = memory;
        memory += n;
        return begin;
    };
    Scratch scratch{};
    scratch.pilot = take(sizes_.around);
    scratch.data = take(sizes_.around);
    scratch.sums = take(sizes_.around);
    scratch.totals = take(sizes_.around);
    scratch.distances = take(sizes_.references * sizes_.offsets);
    scratch.column_sums = take(sizes_.row);
    scratch.columns = take(sizes_.columns());
    scratch.sides = take(sizes_.patch_lanes * sizes_.voxel_lanes);
    scratch.matrix = take(sizes_.patch_lanes * sizes_.patch_lanes);
    scratch.theta = memory;
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
    for (int colour = 0; colour < 1 << kAxes; ++colour) {
        const auto tiles = tiles_of(colour);
        for_each_index(std::ssize(tiles), sizes_.floats(), execution_,
                       [&](float* memory, std::ptrdiff_t i) { do_tile(memory, tiles[i]); });
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

void Round::do_tile(float* memory, const Box& tile) {
    Neighbourhood around = surround(tile);
    for (const auto& axis : around.lattice)
        if (axis.empty()) return;
    around.scratch = carve(memory);
    load(around);
    for (const auto t : around.lattice[0])
        for (const auto z : around.lattice[1])
            for (const auto y : around.lattice[2])
                refine_row(around, {t, z, y, around.lattice[3].front()});
    add_up(around);
}

Neighbourhood Round::surround(const Box& tile) const {
    Neighbourhood around{};
    const auto& p = parameters_.patch;
    for (int a = 0; a < kAxes; ++a) {
        const auto margin = parameters_.search[a] + p[a];
        around.box.start[a] = std::max(pilot_.box.start[a], tile.start[a] - margin);
        around.box.stop[a] = std::min(pilot_.box.stop[a], tile.stop[a] + margin);
        // Patches lie inside what there is: the image, or with an approximate halo less.
        const auto from = std::max(tile.start[a], pilot_.box.start[a] + p[a]);
        const auto to = std::min(tile.stop[a], pilot_.box.stop[a] - p[a]);
        around.lattice[a] =
            references(p[a], parameters_.stride[a], place_.image_shape[a], from, to);
    }
    around.strides = contiguous_strides(around.box.shape());
    const auto& s = around.strides;
    for (const Index& d : offsets_)
        around.shifts.push_back(d[0] * s[0] + d[1] * s[1] + d[2] * s[2] + d[3]);
    for (std::ptrdiff_t t = 0; t <= 2 * p[0]; ++t)
        for (std::ptrdiff_t z = 0; z <= 2 * p[1]; ++z)
            for (std::ptrdiff_t y = 0; y <= 2 * p[2]; ++y)
                around.planes.push_back(t * s[0] + z * s[1] + y * s[2]);
    return around;
}

// Calls `row(begin, from)` for every row along x of `part` of the box of `around`: where it begins
// in the image, and in the arrays.
template <class Row>
void for_each_row(const Neighbourhood& around, const Box& part, const Row& row) {
    for (auto t = part.start[0]; t < part.stop[0]; ++t)
        for (auto z = part.start[1]; z < part.stop[1]; ++z)
            for (auto y = part.start[2]; y < part.stop[2]; ++y) {
                const Index begin = {t, z, y, part.start[3]};
                row(begin, around.at(begin));
            }
}

void Round::load(const Neighbourhood& around) const {
    const Scratch& scratch = around.scratch;
    const auto voxels = around.box.voxels();
    load_stabilised(input_, place_, around.box, {}, stabiliser_, *execution_.loops, scratch.data);
    for_each_row(around, around.box, [&](const Index& begin, std::ptrdiff_t at) {
        const float* from = pilot_.mean.get() + pilot_.at(begin[0], begin[1], begin[2]) + begin[3];
        std::copy_n(from, around.box.shape()[3], scratch.pilot + at);
    });
    std::fill_n(scratch.pilot + voxels, kPatchRow, 0.0F);
    std::fill_n(scratch.data + voxels, kPatchRow, 0.0F);
    std::fill_n(scratch.sums, voxels + kPatchRow, 0.0F);
    std::fill_n(scratch.totals, voxels + kPatchRow, 0.0F);
}

// The groups of the reference patches (first.t, first.z, first.y, x) for all x of the lattice.
void Round::refine_row(const Neighbourhood& around, const Index& first) const {
    search_row(around, first);
    const auto& p = parameters_.patch;
    const Scratch& scratch = around.scratch;
    const Loops& loops = *execution_.loops;
    std::vector<int> chosen(offsets_.size());
    Group group{};
    group.rows = static_cast<int>(around.planes.size());
    group.width = static_cast<int>(2 * p[3] + 1);
    group.voxel_lanes = static_cast<int>(sizes_.voxel_lanes);
    group.patch_lanes = static_cast<int>(sizes_.patch_lanes);
    group.planes = around.planes.data();
    group.shifts = around.shifts.data();
    group.chosen = chosen.data();
    group.columns = scratch.columns;
    group.sides = scratch.sides;
    group.matrix = scratch.matrix;
    group.theta = scratch.theta;
    group.flat = kFlatVariance * static_cast<float>(sizes_.cells);
    const float* distances = scratch.distances;
    for (const auto x : around.lattice[3]) {
        const auto corner =
            around.at({first[0] - p[0], first[1] - p[1], first[2] - p[2], x - p[3]});
        group.pilot = scratch.pilot + corner;
        group.data = scratch.data + corner;
        group.sums = scratch.sums + corner;
        group.totals = scratch.totals + corner;
        group.patches = loops.select_least(distances, static_cast<int>(offsets_.size()),
                                           static_cast<int>(parameters_.group), chosen.data());
        group.farthest = 0;
        for (int j = 0; j < group.patches; ++j)
            group.farthest = std::max(group.farthest, distances[chosen[j]]);
        loops.estimate_group(group);
        distances += offsets_.size();
    }
}

// distances[reference][offset] for the references (first.t, first.z, first.y, xs); infinite where
// the patch would leave what there is.
void Round::search_row(const Neighbourhood& around, const Index& first) const {
    const auto& p = parameters_.patch;
    const auto& xs = around.lattice[3];
    const Box& box = around.box;
    float* const distances = around.scratch.distances;
    std::fill_n(distances, xs.size() * offsets_.size(), std::numeric_limits<float>::infinity());
    std::vector<int> columns;
    for (const auto x : xs) columns.push_back(static_cast<int>(x - xs.front()));
    SearchRow row{};
    row.planes = around.planes.data();
    row.rows = static_cast<int>(around.planes.size());
    row.width = static_cast<int>(2 * p[3] + 1);
    row.column_sums = around.scratch.column_sums;
    row.stride = std::ssize(offsets_);
    for (std::size_t o = 0; o < offsets_.size(); ++o) {
        const Index& d = offsets_[o];
        bool inside = true;
        for (int a = 0; a < 3; ++a)
            inside = inside && first[a] + d[a] - p[a] >= box.start[a] &&
                     first[a] + d[a] + p[a] < box.stop[a];
        const auto fits = [&](std::ptrdiff_t x) {
            return x + d[3] - p[3] >= box.start[3] && x + d[3] + p[3] < box.stop[3];
        };
        const auto begin = std::find_if(xs.begin(), xs.end(), fits);
        const auto end = std::find_if_not(begin, xs.end(), fits);
        if (!inside || begin == end) continue;
        const auto i = begin - xs.begin();
        row.here = around.scratch.pilot +
                   around.at({first[0] - p[0], first[1] - p[1], first[2] - p[2], *begin - p[3]});
        row.there = row.here + around.shifts[o];
        row.count = static_cast<int>(*(end - 1) - *begin) + row.width;
        row.references = static_cast<int>(end - begin);
        row.at = columns.data() + i;
        row.first = columns[static_cast<std::size_t>(i)];
        row.distances = distances + i * row.stride + static_cast<std::ptrdiff_t>(o);
        execution_.loops->patch_distances(row);
    }
}

// Adds a tile's sums to those of the round.
void Round::add_up(const Neighbourhood& around) {
    const Box part = grown(around.box, {}, target_);
    const auto length = part.stop[3] - part.start[3];
    for_each_row(around, part, [&](const Index& begin, std::ptrdiff_t from) {
        const auto to = sums_.at(begin[0], begin[1], begin[2]) + begin[3];
        for (std::ptrdiff_t x = 0; x < length; ++x) {
            sums_.mean[to + x] += around.scratch.sums[from + x];
            weights_[to + x] += around.scratch.totals[from + x];
        }
    });
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
