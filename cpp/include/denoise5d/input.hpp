// The input array of a block, of any real type, read row by row as float.
#pragma once

#include "denoise5d/types.hpp"

#include <iterator>
#include <type_traits>
#include <vector>

namespace denoise5d {

// Where the local indices of a tile lie on one axis of an array. Beyond the image's border they
// are mirrored (without repeating the border); beyond the array but inside the image, which only
// an approximate halo ever asks for, the array's last voxel stands in.
class AxisMap {
  public:
    // `begin` and `count` say which image coordinates are wanted, [low, high) is what the array
    // holds of an axis of `image` voxels.
    AxisMap(std::ptrdiff_t begin, std::ptrdiff_t count, std::ptrdiff_t low, std::ptrdiff_t high,
            std::ptrdiff_t image);

    [[nodiscard]] std::ptrdiff_t operator[](std::ptrdiff_t i) const { return index_[i]; }
    [[nodiscard]] std::ptrdiff_t size() const { return std::ssize(index_); }

    // out[i] = convert(row[(*this)[i]]), the stretch without mirroring as one loop.
    template <class T, class Convert> void gather(const T* row, float* out, Convert convert) const {
        for (std::ptrdiff_t i = 0; i < run_begin_; ++i) out[i] = convert(row[index_[i]]);
        const T* run = row + (run_begin_ < size() ? index_[run_begin_] - run_begin_ : 0);
        for (std::ptrdiff_t i = run_begin_; i < run_end_; ++i) out[i] = convert(run[i]);
        for (std::ptrdiff_t i = run_end_; i < size(); ++i) out[i] = convert(row[index_[i]]);
    }

  private:
    std::vector<std::ptrdiff_t> index_;
    std::ptrdiff_t run_begin_ = 0, run_end_ = 0; // where index_ counts up by one
};

struct NonFinite : std::invalid_argument {
    NonFinite(std::size_t count_, Index first_)
        : std::invalid_argument("the data are not finite"), count(count_), first(first_) {}
    std::size_t count;
    Index first; // voxel of the array
};

// A 4-D array of some real type. `data` is read through `load`, made by `input_of<T>`.
struct Input {
    const void* data = nullptr;
    Index strides{}; // in elements; the last is 1
    void (*load)(const void* data, std::ptrdiff_t offset, const AxisMap& x, float* out) = nullptr;
    bool may_be_non_finite = false;

    void row(std::ptrdiff_t t, std::ptrdiff_t z, std::ptrdiff_t y, const AxisMap& x,
             float* out) const {
        load(data, t * strides[0] + z * strides[1] + y * strides[2], x, out);
    }
};

template <class T> Input input_of(const T* data, const Index& strides) {
    const auto load = [](const void* base, std::ptrdiff_t offset, const AxisMap& x, float* out) {
        x.gather(static_cast<const T*>(base) + offset, out,
                 [](T value) { return static_cast<float>(value); });
    };
    return {data, strides, load, std::is_floating_point_v<T>};
}

} // namespace denoise5d
