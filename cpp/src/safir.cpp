#include "denoise5d/safir.hpp"

#include "denoise5d/tiling.hpp"

#include <algorithm>
#include <cmath>

namespace denoise5d {
namespace {

// The weight is 1 up to kFlat * threshold and 0 from (kFlat + kWidth) * threshold on.
constexpr float kFlat = 0.9F;
constexpr float kWidth = 4.0F;
// Half the width of a confidence interval in standard deviations.
constexpr float kRho = 3.0F;
// A variance below this is not believed when patches are compared: without a floor the distances
// of a later iteration reject everything.
constexpr float kVarianceFloor = 0.03F;

constexpr float kVarianceUnit = 1.0F / 65535.0F;
constexpr float kBoundUnit = kRho / 255.0F;

template <class T> std::unique_ptr<T[]> uninitialised(std::size_t n) {
    return std::unique_ptr<T[]>(new T[n]); // pages are first touched by the thread that fills them
}

std::uint16_t pack_variance(float variance) {
    return static_cast<std::uint16_t>(std::min(variance, 1.0F) * 65535.0F + 0.5F);
}

std::uint8_t pack_bound(float distance) {
    return static_cast<std::uint8_t>(std::clamp(distance, 0.0F, kRho) / kBoundUnit + 0.5F);
}

// What a voxel may still become: the intersection of its confidence intervals so far, as distances
// below and above its present estimate. Both 0: the voxel has stopped.
struct Bounds {
    std::unique_ptr<std::uint8_t[]> below;
    std::unique_ptr<std::uint8_t[]> above;
};

class Iteration {
  public:
    Iteration(const Input& input, const BlockPlace& place, const Stabiliser& stabiliser,
              const SafirParameters& parameters, const Execution& execution)
        : input_(input), place_(place), stabiliser_(stabiliser), parameters_(parameters),
          execution_(execution) {}

    // The next estimate on `region`, from `previous` (null for the first).
    Estimate run(const Box& region, const Index& window, const Estimate* previous, Bounds& bounds,
                 const Box& bounds_box);

  private:
    void load_data(const Box& box, const Index& margin, float* out) const;
    void load_guide(const Tile& tile, const Box& box, float* mean, float* precision) const;
    void begin_tile(Tile& tile, const Box& box, float* scratch) const;
    [[nodiscard]] bool all_stopped(const Box& box) const;
    void keep(const Box& box, Estimate& next) const;
    void conclude(const Tile& tile, const Box& box, Estimate& next) const;
    void conclude_row(const Tile& tile, std::ptrdiff_t sums, const Index& row, const Box& box,
                      Estimate& next) const;
    [[nodiscard]] std::ptrdiff_t bounds_at(std::ptrdiff_t t, std::ptrdiff_t z,
                                           std::ptrdiff_t y) const;

    const Input& input_;
    const BlockPlace& place_;
    const Stabiliser& stabiliser_;
    const SafirParameters& parameters_;
    const Execution& execution_;

    [[nodiscard]] TileWork work() const {
        return {window_, parameters_.patch, previous_ ? 3 : 1, variance_wanted() ? 3 : 2};
    }
    // One iteration alone needs none: nobody looks at it afterwards.
    [[nodiscard]] bool variance_wanted() const { return parameters_.windows.size() > 1; }

    Index window_{};
    const Estimate* previous_ = nullptr;
    Bounds* bounds_ = nullptr;
    Box bounds_box_;
};

std::ptrdiff_t Iteration::bounds_at(std::ptrdiff_t t, std::ptrdiff_t z, std::ptrdiff_t y) const {
    const auto strides = contiguous_strides(bounds_box_.shape());
    return (t - bounds_box_.start[0]) * strides[0] + (z - bounds_box_.start[1]) * strides[1] +
           (y - bounds_box_.start[2]) * strides[2] - bounds_box_.start[3];
}

// Calls `row(t, z, y, out)` for every row of the box with its margin, mapped into `held`.
template <class Row>
void for_each_row(const Box& box, const Index& margin, const Box& held, const Index& image,
                  const Row& row) {
    const auto map = [&](int a) {
        return AxisMap(box.start[a] - margin[a], box.stop[a] - box.start[a] + 2 * margin[a],
                       held.start[a], held.stop[a], image[a]);
    };
    const AxisMap t = map(0), z = map(1), y = map(2), x = map(3);
    std::ptrdiff_t out = 0;
    for (std::ptrdiff_t i = 0; i < t.size(); ++i)
        for (std::ptrdiff_t j = 0; j < z.size(); ++j)
            for (std::ptrdiff_t k = 0; k < y.size(); ++k, out += x.size())
                row(t[i], z[j], y[k], x, out);
}

void Iteration::load_guide(const Tile& tile, const Box& box, float* mean, float* precision) const {
    const Index margin = {tile.margin[0], tile.margin[1], tile.margin[2], tile.margin[3]};
    const auto& s = previous_->strides;
    for_each_row(
        box, margin, previous_->box, place_.image_shape,
        [&](auto t, auto z, auto y, const AxisMap& x, auto at) {
            const auto from = t * s[0] + z * s[1] + y * s[2];
            x.gather(previous_->mean.get() + from, mean + at, [](float m) { return m; });
            x.gather(previous_->variance.get() + from, precision + at, [](std::uint16_t v) {
                return 1.0F / std::max(static_cast<float>(v) * kVarianceUnit, kVarianceFloor);
            });
        });
}

void Iteration::begin_tile(Tile& tile, const Box& box, float* scratch) const {
    const Box& held = previous_ ? previous_->box : place_.padded;
    Index margin{};
    std::ptrdiff_t local = 1;
    for (int a = 0; a < kAxes; ++a) {
        const auto p = parameters_.patch[a], w = window_[a], n = box.stop[a] - box.start[a];
        margin[a] = w + 2 * p;
        tile.size[a] = static_cast<int>(n);
        tile.margin[a] = static_cast<int>(margin[a]);
        tile.patch[a] = static_cast<int>(p);
        tile.window[a] = static_cast<int>(w);
        // Beyond the margin nothing is asked for: the ends stay small numbers.
        tile.low[a] = static_cast<int>(std::max(held.start[a] - box.start[a], -margin[a]));
        tile.high[a] = static_cast<int>(std::min(held.stop[a] - box.start[a], n + margin[a]));
        local *= n + 2 * margin[a];
    }
    const auto take = [&scratch](std::ptrdiff_t n) {
        float* const begin = scratch;
        scratch += n;
        return begin;
    };
    float* const data = take(local);
    load_stabilised(input_, place_, box, margin, stabiliser_, *execution_.loops, data);
    tile.data = tile.guide = data;
    tile.precision = nullptr;
    if (previous_) {
        float* const mean = take(local);
        float* const precision = take(local);
        load_guide(tile, box, mean, precision);
        tile.guide = mean;
        tile.precision = precision;
    }
    tile.slope = 1.0F / (kWidth * parameters_.threshold);
    tile.top = 1.0F + kFlat / kWidth;
    const auto plane = (tile.size[2] + 2 * margin[2]) * (tile.size[3] + 2 * margin[3]);
    const auto sums = tile.size[0] * tile.size[1] * plane;
    tile.weight_sum = take(sums);
    tile.value_sum = take(sums);
    tile.square_sum = variance_wanted() ? take(sums) : nullptr;
    std::fill(tile.weight_sum, scratch, 0.0F);
    tile.plane = take(plane + kLane); // the weights are made in whole vectors
    tile.summed = take(plane);
    const auto kept = kept_planes(box.shape(), work());
    tile.distances = take(kept * plane);
    tile.votes = scratch;
}

bool Iteration::all_stopped(const Box& box) const {
    if (!previous_) return false;
    for (auto t = box.start[0]; t < box.stop[0]; ++t)
        for (auto z = box.start[1]; z < box.stop[1]; ++z)
            for (auto y = box.start[2]; y < box.stop[2]; ++y) {
                const auto at = bounds_at(t, z, y);
                for (auto x = box.start[3]; x < box.stop[3]; ++x)
                    if (bounds_->below[at + x] != 0 || bounds_->above[at + x] != 0) return false;
            }
    return true;
}

void Iteration::keep(const Box& box, Estimate& next) const {
    const auto n = box.stop[3] - box.start[3];
    for (auto t = box.start[0]; t < box.stop[0]; ++t)
        for (auto z = box.start[1]; z < box.stop[1]; ++z)
            for (auto y = box.start[2]; y < box.stop[2]; ++y) {
                const auto from = previous_->at(t, z, y) + box.start[3];
                const auto to = next.at(t, z, y) + box.start[3];
                std::copy_n(previous_->mean.get() + from, n, next.mean.get() + to);
                std::copy_n(previous_->variance.get() + from, n, next.variance.get() + to);
            }
}

void Iteration::conclude(const Tile& tile, const Box& box, Estimate& next) const {
    const std::ptrdiff_t pitch = tile.size[3] + 2 * tile.margin[3];
    const std::ptrdiff_t rows = tile.size[2] + 2 * tile.margin[2];
    for (auto t = box.start[0]; t < box.stop[0]; ++t)
        for (auto z = box.start[1]; z < box.stop[1]; ++z)
            for (auto y = box.start[2]; y < box.stop[2]; ++y) {
                const auto plane = (t - box.start[0]) * tile.size[1] + (z - box.start[1]);
                const auto from =
                    (plane * rows + (y - box.start[2]) + tile.margin[2]) * pitch + tile.margin[3];
                if (variance_wanted())
                    conclude_row(tile, from - box.start[3], {t, z, y, 0}, box, next);
                else
                    for (auto x = box.start[3]; x < box.stop[3]; ++x) {
                        const auto i = from + x - box.start[3];
                        next.mean[next.at(t, z, y) + x] = tile.value_sum[i] / tile.weight_sum[i];
                    }
            }
}

// The row of `box` at (row.t, row.z, row.y); x = 0 of it would lie at `sums` in the tile's sums.
void Iteration::conclude_row(const Tile& tile, std::ptrdiff_t sums, const Index& row,
                             const Box& box, Estimate& next) const {
    const auto to = next.at(row[0], row[1], row[2]), bound = bounds_at(row[0], row[1], row[2]);
    const auto from = previous_ ? previous_->at(row[0], row[1], row[2]) : 0;
    for (auto x = box.start[3]; x < box.stop[3]; ++x) {
        const auto i = sums + x;
        const float mean = tile.value_sum[i] / tile.weight_sum[i];
        const float variance = tile.square_sum[i] / (tile.weight_sum[i] * tile.weight_sum[i]);
        float below = kRho * std::sqrt(variance), above = below;
        if (previous_) {
            const float before = previous_->mean[from + x];
            const float step = mean - before;
            const float old_below = bounds_->below[bound + x] * kBoundUnit;
            const float old_above = bounds_->above[bound + x] * kBoundUnit;
            const bool inside = -old_below <= step && step <= old_above;
            const auto old = previous_->variance[from + x];
            if (!inside || pack_variance(variance) >= old) {
                next.mean[to + x] = before;
                next.variance[to + x] = old;
                if (!inside) bounds_->below[bound + x] = bounds_->above[bound + x] = 0;
                continue;
            }
            below = std::min(below, old_below + step);
            above = std::min(above, old_above - step);
        }
        next.mean[to + x] = mean;
        next.variance[to + x] = pack_variance(variance);
        bounds_->below[bound + x] = pack_bound(below);
        bounds_->above[bound + x] = pack_bound(above);
    }
}

Estimate Iteration::run(const Box& region, const Index& window, const Estimate* previous,
                        Bounds& bounds, const Box& bounds_box) {
    window_ = window;
    previous_ = previous;
    bounds_ = &bounds;
    bounds_box_ = bounds_box;
    Estimate next{region, contiguous_strides(region.shape()),
                  uninitialised<float>(region.voxels() + kLane),
                  variance_wanted() ? uninitialised<std::uint16_t>(region.voxels()) : nullptr};
    const Index size = choose_tile(region.shape(), work(), execution_.threads);
    for_each_tile(region, size, tile_floats(size, work()), execution_,
                  [&](float* scratch, const Box& box) {
                      if (all_stopped(box)) return keep(box, next);
                      Tile tile{};
                      begin_tile(tile, box, scratch);
                      execution_.loops->vote(tile);
                      conclude(tile, box, next);
                  });
    return next;
}

// What the iterations after the first `done` ones read around a voxel.
Index remaining_reach(const SafirParameters& parameters, std::size_t done) {
    Index total{};
    for (std::size_t n = done; n < parameters.windows.size(); ++n)
        for (int a = 0; a < kAxes; ++a)
            total[a] += parameters.windows[n][a] + 2 * parameters.patch[a];
    return total;
}

} // namespace

Index safir_reach(const SafirParameters& safir) {
    return remaining_reach(safir, 0);
}

void load_stabilised(const Input& input, const BlockPlace& place, const Box& box,
                     const Index& margin, const Stabiliser& stabiliser, const Loops& loops,
                     float* out) {
    for_each_row(box, margin, place.padded, place.image_shape,
                 [&](auto t, auto z, auto y, const AxisMap& x, auto at) {
                     input.row(t, z, y, x, out + at);
                     stabiliser.forward(out + at, x.size(), loops);
                 });
}

std::size_t safir_floats(const SafirParameters& safir, const Index& shape) {
    std::size_t most = 0;
    for (const auto& window : safir.windows) {
        const TileWork work{window, safir.patch, safir.windows.size() > 1 ? 3 : 1, 3};
        most = std::max(most, tile_floats(choose_tile(shape, work, 1), work));
    }
    return most;
}

Estimate run_safir(const Input& input, const BlockPlace& place, const Box& target,
                   const Stabiliser& stabiliser, const SafirParameters& parameters,
                   const Execution& execution) {
    Iteration iteration(input, place, stabiliser, parameters, execution);
    Estimate estimate;
    Bounds bounds;
    Box bounds_box;
    for (std::size_t n = 0; n < parameters.windows.size(); ++n) {
        const Box region = grown(target, remaining_reach(parameters, n + 1), place.padded);
        if (n == 0) {
            bounds_box = region;
            if (parameters.windows.size() > 1) {
                bounds.below = uninitialised<std::uint8_t>(region.voxels());
                bounds.above = uninitialised<std::uint8_t>(region.voxels());
            }
        }
        estimate = iteration.run(region, parameters.windows[n], n == 0 ? nullptr : &estimate,
                                 bounds, bounds_box);
    }
    return estimate;
}

} // namespace denoise5d
