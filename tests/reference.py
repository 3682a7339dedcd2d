"""The estimator once more, slow and obvious: voxel by voxel from the formulas, in float64.

Shares nothing with the kernel but the formulas (docs/algorithm.md): no box sums, no tiles, no
symmetry of pairs. Good for a few hundred voxels.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from scipy import stats

RHO = 3.0
FLAT, WIDTH = 0.9, 4.0
VARIANCE_FLOOR = 0.03
FLAT_VARIANCE = 0.03


def mirror(index: int, n: int) -> int:
    if n == 1:
        return 0
    index = abs(index) % (2 * (n - 1))
    return index if index < n else 2 * (n - 1) - index


def around(radius):
    return list(product(*(range(-r, r + 1) for r in radius)))


def plus(a, b):
    return tuple(i + j for i, j in zip(a, b, strict=True))


def inside(x, shape):
    return all(0 <= i < n for i, n in zip(x, shape, strict=True))


def weight(distance, threshold):
    excess = max(0.0, distance / threshold - FLAT) / WIDTH
    return max(0.0, 1.0 - excess) ** 8


def patch_weight(u, v, x, y, patch, threshold):
    """w_d(x) for y = x + d: how well the patches at x and y agree; 0 unless both are inside."""
    if not (inside(x, u.shape) and inside(y, u.shape)):
        return 0.0
    distance = 0.0
    for k in patch:
        a = tuple(mirror(i, n) for i, n in zip(plus(x, k), u.shape, strict=True))
        b = tuple(mirror(i, n) for i, n in zip(plus(y, k), u.shape, strict=True))
        distance += (u[a] - u[b]) ** 2 * 0.25 * (1 / v[a] + 1 / v[b])
    return weight(distance, threshold)


def estimate(data, u, v, patch_radius, window, threshold):
    """One iteration: the new mean and variance of every voxel."""
    shape = data.shape
    patch, offsets = around(patch_radius), around(window)
    floor = np.maximum(v, VARIANCE_FLOOR)
    mean, variance = np.empty(shape), np.empty(shape)

    @cache  # every patch votes for all of its voxels: the same pair comes up again and again
    def agreement(c, d):
        return patch_weight(u, floor, c, plus(c, d), patch, threshold)

    for x in np.ndindex(shape):
        total = values = squares = 0.0
        for d in offsets:
            if not inside(plus(x, d), shape):
                continue
            votes = sum(agreement(plus(x, k), d) for k in patch)
            total += votes
            values += votes * data[plus(x, d)]
            squares += votes**2
        mean[x] = values / total
        variance[x] = squares / total**2
    return mean, variance


def safir(data, patch_radius, windows, threshold):
    """All iterations on data of unit variance; axes T, Z, Y, X."""
    mean, variance = estimate(data, data, np.ones(data.shape), patch_radius, windows[0], threshold)
    low, high = mean - RHO * np.sqrt(variance), mean + RHO * np.sqrt(variance)
    stopped = np.zeros(data.shape, bool)
    for window in windows[1:]:
        new, spread = estimate(data, mean, variance, patch_radius, window, threshold)
        stopped |= (new < low) | (new > high)
        take = ~stopped & (spread < variance)
        mean, variance = np.where(take, new, mean), np.where(take, spread, variance)
        low = np.where(take, np.maximum(low, new - RHO * np.sqrt(spread)), low)
        high = np.where(take, np.minimum(high, new + RHO * np.sqrt(spread)), high)
    return mean


def lattice(n, patch, stride):
    """Centres of reference patches on one axis: inside the image, the last one always there."""
    return sorted({*range(patch, n - 1 - patch, stride), n - 1 - patch})


def ridge(data, pilot, patch_radius, search, stride, group):
    """One round of refinement: similar patches of the pilot, combined linearly (NL-Ridge)."""
    shape = data.shape
    centres = [
        [c for c in range(n) if p <= c <= n - 1 - p]
        for n, p in zip(shape, patch_radius, strict=True)
    ]
    cells = around(patch_radius)
    sums, weights = np.zeros(shape), np.zeros(shape)

    def patch_of(image, centre):
        return np.array([image[plus(centre, k)] for k in cells])

    axes = zip(shape, patch_radius, stride, strict=True)
    for reference in product(*(lattice(n, p, s) for n, p, s in axes)):
        own = patch_of(pilot, reference)
        candidates = []
        for number, d in enumerate(sorted(around(search), key=lambda d: sum(i * i for i in d))):
            centre = plus(reference, d)
            if all(c in allowed for c, allowed in zip(centre, centres, strict=True)):
                distance = ((patch_of(pilot, centre) - own) ** 2).sum()
                candidates.append((distance, number, centre))
        nearest = sorted(candidates)[:group]
        mean = own.mean()
        flat = FLAT_VARIANCE * len(cells)
        if nearest[-1][0] <= flat and ((own - mean) ** 2).sum() <= flat:
            for _, _, centre in nearest:  # noise is all there is: Theta is 0
                for cell in cells:
                    sums[plus(centre, cell)] += len(nearest) * mean
                    weights[plus(centre, cell)] += len(nearest)
            continue
        X = np.array([patch_of(pilot, c) - mean for _, _, c in nearest]).T
        Y = np.array([patch_of(data, c) - mean for _, _, c in nearest]).T
        n, k = X.shape
        theta = np.linalg.solve(X.T @ X + n * np.eye(k), X.T @ X)
        estimates = mean + Y @ theta
        for j, (_, _, centre) in enumerate(nearest):
            weight = 1 / ((theta[:, j] ** 2).sum() + 1 / k)
            for i, cell in enumerate(cells):
                sums[plus(centre, cell)] += weight * estimates[i, j]
                weights[plus(centre, cell)] += weight
    return sums / weights


def stabilise(image, gain, offset):
    inner = gain * np.asarray(image, float) + 0.375 * gain**2 + offset
    return 2 / gain * np.sqrt(np.maximum(0.0, inner))


def stabilise_mean_inverse(grey, gain, offset, read_noise):
    """The stabilised mean that belongs to a grey level: the kernel's inverse turned back."""
    black = (read_noise**2 - offset) / gain
    photons = np.concatenate([np.linspace(0, 20, 101), np.linspace(21, 150, 130)])
    roots = [mean_of_stabilised(p, read_noise / gain) for p in photons]
    return np.interp((grey - black) / gain, photons, roots)


@cache
def mean_of_stabilised(photons, read_noise_photons):
    """E[z] for Poisson data with read noise, by brute force over both."""
    counts = np.arange(int(photons + 12 * np.sqrt(photons + 1) + 30))
    normal = np.linspace(-8, 8, 2001)
    density = np.exp(-0.5 * normal**2)
    s = read_noise_photons
    inner = counts[:, None] + s * normal + s * s + 0.375
    roots = (2 * np.sqrt(np.maximum(0, inner))) @ density / density.sum()
    return float(np.sum(stats.poisson.pmf(counts, photons) * roots))
