// The noise model made flat: grey levels to unit variance and back without bias.
#pragma once

#include "denoise5d/tile.hpp"
#include "denoise5d/types.hpp"

#include <vector>

namespace denoise5d {

// Generalised Anscombe transform z = (2/g) sqrt(max(0, g y + 3/8 g^2 + e)) for Poisson-Gaussian
// noise of gain g and offset e (Murtagh, Starck & Bijaoui 1995), and z = y / sigma for gain 0.
//
// The inverse is the exact unbiased one of Makitalo & Foi (IEEE TIP 2013): it undoes the *mean* of
// z. Up to kTabulated photons it is a table of E[z | mean], made by quadrature with nothing but
// + - * / and sqrt, so that every machine gets the same table; beyond, their closed form.
class Stabiliser {
  public:
    explicit Stabiliser(const NoiseModel& noise);

    void forward(float* row, std::ptrdiff_t n, const Loops& loops) const;
    [[nodiscard]] float inverse(float z) const;

  private:
    void tabulate(double sigma);

    bool gaussian_;
    double gain_;
    double sigma_ = 1;       // of the Gaussian noise in grey levels; of the read noise in photons
    double black_level_ = 0; // the grey level of 0 photons
    float scale_, offset_, factor_;

    double first_ = 0;           // z of the table's first entry: the mean of z at 0 photons
    double slope_ = 0;           // photons per z below it
    std::vector<float> photons_; // at first_ + i / kPerUnit
};

} // namespace denoise5d
