"""What the numbers of a report say, in words: right, doubtful, or wrong, and by which bounds.

The bounds were set by images of which the truth is known (`denoise5d demo`): what the defaults give
is well inside, and a blur of one voxel, a wrong gain, or noise left in the result is well outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from denoise5d.errors import NoiseError
from denoise5d.noise_survey import ChannelNoise
from denoise5d.quantities import grey_level, number
from denoise5d.residuals import CELL, ResidualStatistics
from denoise5d.seams import Seams


class Grade(Enum):
    """How good something is."""

    GOOD = "right"
    DOUBT = "look here"
    BAD = "wrong"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is thought of one thing.

    Attributes
    ----------
    subject : str
        What it is about.
    grade : Grade
        How good it is.
    words : str
        A sentence or two, with the numbers.
    """

    subject: str
    grade: Grade
    words: str


MEAN_BOUNDS = (0.05, 0.15)
LEVEL_BOUNDS = (0.15, 0.3)
"""Largest mean of z, overall and at one grey level, that is right, and that is doubtful."""

VARIANCE_BOUNDS = ((0.8, 1.05), (0.6, 1.2))
"""Range of the variance of z that is right, and that is doubtful; in a plane 0.83 is usual."""

ALIKE_BOUNDS, OPPOSED_BOUNDS = (0.05, 0.1), (0.15, 0.25)
"""Largest correlation with the next voxel that is right, and that is doubtful, up and down: a mean
of N voxels, its own neighbours among them, leaves about -1/N."""

STRUCTURE_BOUNDS = (1.2, 1.6)
"""Largest variance of cell means, over that of white noise, that is right, and that is doubtful."""

SEAM_BOUNDS = (1.1, 1.2)
"""No seam below the latter, a seam above the former, each with three standard errors, and times the
largest jump at a plane beside the faces."""

_SURE = 3


def graded(value: float, bounds: tuple[float, float]) -> Grade:
    """Return the grade of a value that should be small."""
    good, doubtful = bounds
    return Grade.GOOD if value <= good else Grade.DOUBT if value <= doubtful else Grade.BAD


def _worse(one: Grade, other: Grade) -> Grade:
    return max(one, other, key=list(Grade).index)


def residual_verdicts(name: str, found: ResidualStatistics | None) -> list[Verdict]:
    """Return what is thought of the residual of one channel; `name` says which, may be empty."""
    if found is None:
        words = "Hardly a voxel can be judged: the image is small, or has one value only."
        return [Verdict(f"residual{name}", Grade.DOUBT, words)]
    return [
        _mean(name, found),
        _variance(name, found),
        _neighbours(name, found),
        _structure(name, found),
    ]


def _mean(name: str, found: ResidualStatistics) -> Verdict:
    worst = int(np.abs(found.level_means).argmax())
    at_level = abs(float(found.level_means[worst]))
    grade = _worse(graded(abs(found.mean), MEAN_BOUNDS), graded(at_level, LEVEL_BOUNDS))
    say = {
        Grade.GOOD: "Grey levels are kept",
        Grade.DOUBT: "Grey levels may be shifted a little",
        Grade.BAD: "Grey levels are shifted",
    }
    words = (
        f"{say[grade]}: the mean of the residual is {found.mean:+.3f} σ, and at most "
        f"{found.level_means[worst]:+.3f} σ at one grey level ({grey_level(found.levels[worst])})."
    )
    return Verdict(f"mean{name}", grade, words)


def _variance(name: str, found: ResidualStatistics) -> Verdict:
    (low, high), (lower, higher) = VARIANCE_BOUNDS
    value = found.variance
    if low <= value <= high:
        grade, say = Grade.GOOD, "As much was taken away as there is noise"
    elif value < low:
        grade = Grade.DOUBT if value >= lower else Grade.BAD
        say = "Less was taken away than there is noise: some is left, or the noise is less"
    else:
        grade = Grade.DOUBT if value <= higher else Grade.BAD
        say = "More was taken away than there is noise: structure went with it, or there is more"
    words = (
        f"{say}: the variance of the residual is {value:.3f} of the noise's "
        f"({low:g} to {high:g} is to be expected: a little noise is always left)."
    )
    return Verdict(f"variance{name}", grade, words)


def _neighbours(name: str, found: ResidualStatistics) -> Verdict:
    nearest = {axis: values[0] for axis, values in found.correlations.items()}
    high, low = max(nearest.values(), default=0.0), min(nearest.values(), default=0.0)
    alike, opposed = graded(high, ALIKE_BOUNDS), graded(-low, OPPOSED_BOUNDS)
    grade = _worse(alike, opposed)
    values = ", ".join(f"{axis} {value:+.3f}" for axis, value in nearest.items())
    say = "Neighbours in the residual know next to nothing of each other"
    if alike is not Grade.GOOD:
        say = "Neighbours in the residual are alike: structure, or noise that voxels share"
    elif opposed is not Grade.GOOD:
        say = "Neighbours in the residual are opposed: the result still has some of their noise"
    return Verdict(f"neighbours{name}", grade, f"{say}: correlation {values}.")


def _structure(name: str, found: ResidualStatistics) -> Verdict:
    ratios = found.structure_ratios
    highest = float(ratios[len(ratios) // 2 :].max())
    grade = graded(highest, STRUCTURE_BOUNDS)
    say = {
        Grade.GOOD: "No structure is to be seen in the residual",
        Grade.DOUBT: "There may be faint structure in the residual",
        Grade.BAD: "There is structure in the residual",
    }[grade]
    if grade is not Grade.GOOD and ratios[0] > STRUCTURE_BOUNDS[0]:
        say = (
            "Noise that neighbours share, or a pattern, is in the residual, also where all is flat"
        )
    words = (
        f"{say}: its means over {CELL} x {CELL} pixels vary {highest:.2f} times as much as those "
        f"of white noise, where there is most to see."
    )
    return Verdict(f"structure{name}", grade, words)


def seam_verdicts(seams: Sequence[Seams], *, exact: bool) -> list[Verdict]:
    """Return what is thought of the cuts between blocks; `exact`: the halo is the whole reach."""
    if not seams:
        return [Verdict("seams", Grade.GOOD, "There is no cut between blocks in the image.")]
    return [_seam(found, exact=exact) for found in seams]


def _seam(found: Seams, *, exact: bool) -> Verdict:
    subject = f"seams along {found.axis}"
    built = "The halo is exact: by construction there is none. "
    built = built if exact else "The halo is approximate: blocks do not fit perfectly. "
    if not found.patches:
        words = f"{built}It cannot be measured: the blocks, or the image, are too short."
        return Verdict(subject, Grade.GOOD if exact else Grade.DOUBT, words)
    ratio, error = found.ratio
    seam, none = (bound * found.beside for bound in SEAM_BOUNDS)
    numbers = (
        f"ratio {ratio:.3f} ± {2 * error:.3f}, jumps across faces to jumps beside them; planes "
        f"without a face reach {found.beside:.3f}"
    )
    if ratio - _SURE * error > seam:
        if exact:  # structure that lies just there is likelier
            words = (
                f"{built}Yet jumps are larger: {numbers}. Let `denoise5d verify` say whether the "
            )
            return Verdict(subject, Grade.DOUBT, f"{words}result is what it must be.")
        return Verdict(subject, Grade.BAD, f"A seam: {numbers}. {built}".rstrip())
    if ratio + _SURE * error <= none:
        return Verdict(subject, Grade.GOOD, f"No seam: {numbers}. {built}".rstrip())
    words = f"{built}Too little was measured to tell a seam from none: {numbers}."
    return Verdict(subject, Grade.GOOD if exact else Grade.DOUBT, words)


def noise_verdict(name: str, found: ChannelNoise) -> Verdict:
    """Return what is thought of the noise of one channel."""
    subject = f"noise{name}"
    if isinstance(found.found, NoiseError):
        words = f"It was given, and the image does not tell it: {found.found}"
        return Verdict(subject, Grade.DOUBT, words)
    if found.doubts:
        return Verdict(subject, Grade.DOUBT, " ".join(found.doubts))
    scatter = 100 * found.found.scatter
    words = f"It is a camera's: the points are typically {scatter:.1f} % off the line."
    return Verdict(subject, Grade.GOOD, words)


def memory_verdict(peak: int, projected: int | None) -> Verdict:
    """Return what is thought of the workers' memory; `projected` is None where it is not known."""
    gib = 2**30
    if projected is None:
        words = f"The largest of a worker was {peak / gib:.2f} GiB; the plan's is not known here."
        return Verdict("memory", Grade.GOOD, words)
    numbers = f"{peak / gib:.2f} GiB at most, {projected / gib:.2f} GiB planned a worker"
    if peak <= projected:
        return Verdict("memory", Grade.GOOD, f"No worker took more than planned: {numbers}.")
    return Verdict("memory", Grade.DOUBT, f"A worker took more than planned: {numbers}.")


def retry_verdict(blocks: int, retried: int, again: int) -> Verdict:
    """Return what is thought of the attempts: `again` is how often a block was done once more."""
    if not retried and not again:
        words = f"{number(blocks, 'block')}, each done at the first attempt of its driver."
        return Verdict("retries", Grade.GOOD, words)
    words = (
        f"{retried} of {blocks} blocks took more than one attempt, and are done now; the reasons "
        f"are below."
    )
    return Verdict("retries", Grade.DOUBT, words)
