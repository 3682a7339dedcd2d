#include "denoise5d/stabilise.hpp"

#include <algorithm>
#include <cmath>

namespace denoise5d {
namespace {

constexpr double kTabulated = 150; // photons; beyond, the closed form is good to 1e-5
constexpr double kPerUnit = 64;    // entries of the table a unit of z

// exp(-x) for x >= 0 by halving the argument: libm's differs between machines.
double exp_minus(double x) {
    int halvings = 0;
    while (x > 0.03125) {
        x *= 0.5;
        ++halvings;
    }
    double sum = 1, term = 1;
    for (int k = 1; k < 12; ++k) {
        term *= -x / k;
        sum += term;
    }
    for (; halvings > 0; --halvings) sum *= sum;
    return sum;
}

// E[2 sqrt(max(0, n + sigma W + sigma^2 + 3/8))] over a unit normal W, for n = 0 .. count - 1.
std::vector<double> mean_roots(double sigma, int count) {
    constexpr double kStep = 1.0 / 128, kReach = 7;
    std::vector<double> nodes, masses;
    double total = 0;
    for (double w = -kReach; w <= kReach; w += kStep) {
        nodes.push_back(sigma * w + sigma * sigma + 0.375);
        masses.push_back(exp_minus(0.5 * w * w));
        total += masses.back();
    }
    std::vector<double> roots(count);
    for (int n = 0; n < count; ++n) {
        double sum = 0;
        for (std::size_t i = 0; i < nodes.size(); ++i)
            sum += masses[i] * std::sqrt(std::max(0.0, n + nodes[i]));
        roots[n] = 2 * sum / total;
    }
    return roots;
}

struct Moments {
    double mean;  // E[z | photons]
    double slope; // its derivative
};

Moments poisson_mean(const std::vector<double>& roots, double photons) {
    double probability = exp_minus(photons), mean = 0, slope = 0;
    for (std::size_t n = 0; n + 1 < roots.size(); ++n) {
        mean += probability * roots[n];
        slope += probability * (roots[n + 1] - roots[n]);
        probability *= photons / static_cast<double>(n + 1);
    }
    return {mean, slope};
}

double closed_form(double z, double sigma) {
    const double root = std::sqrt(1.5), inverse = 1 / z;
    return 0.25 * z * z - 0.125 - sigma * sigma +
           inverse * (0.25 * root + inverse * (-1.375 + inverse * 0.625 * root));
}

} // namespace

Stabiliser::Stabiliser(const NoiseModel& noise) : gaussian_(noise.gain == 0), gain_(noise.gain) {
    if (gaussian_) {
        sigma_ = std::sqrt(noise.offset);
        scale_ = static_cast<float>(1 / sigma_);
        return;
    }
    sigma_ = noise.read_noise / gain_;
    black_level_ = (noise.read_noise * noise.read_noise - noise.offset) / gain_;
    scale_ = static_cast<float>(gain_);
    offset_ = static_cast<float>(0.375 * gain_ * gain_ + noise.offset);
    factor_ = static_cast<float>(2 / gain_);
    tabulate(sigma_);
}

void Stabiliser::tabulate(double sigma) {
    const auto roots = mean_roots(sigma, static_cast<int>(kTabulated * 2 + 40));
    const auto dark = poisson_mean(roots, 0);
    first_ = dark.mean;
    slope_ = 1 / dark.slope;
    double photons = 0;
    for (int i = 0; photons < kTabulated; ++i) {
        const double z = first_ + i / kPerUnit;
        for (int step = 0; step < 2; ++step) { // Newton, from the entry before: E[z] is concave
            const auto at = poisson_mean(roots, photons);
            photons = std::max(0.0, photons + (z - at.mean) / at.slope);
        }
        photons_.push_back(static_cast<float>(photons));
    }
}

void Stabiliser::forward(float* row, std::ptrdiff_t n, const Loops& loops) const {
    if (!gaussian_) return loops.stabilise(row, n, scale_, offset_, factor_);
    for (std::ptrdiff_t i = 0; i < n; ++i) row[i] *= scale_;
}

float Stabiliser::inverse(float z) const {
    if (gaussian_) return static_cast<float>(z * sigma_);
    const double at = (z - first_) * kPerUnit;
    const auto last = static_cast<double>(photons_.size() - 1);
    double photons = 0;
    if (at < 0) { // below the mean of darkness: go on straight, or noise there would turn to light
        photons = (z - first_) * slope_;
    } else if (at >= last) {
        photons = closed_form(z, sigma_);
    } else {
        const auto i = static_cast<std::size_t>(at);
        const double share = at - static_cast<double>(i);
        photons = photons_[i] * (1 - share) + photons_[i + 1] * share;
    }
    return static_cast<float>(gain_ * photons + black_level_);
}

} // namespace denoise5d
