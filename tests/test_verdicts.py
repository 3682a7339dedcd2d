"""Bounds and words of the verdicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from denoise5d import verdicts
from denoise5d.errors import NoiseError
from denoise5d.noise_survey import ChannelNoise
from denoise5d.residuals import ResidualStatistics
from denoise5d.verdicts import (
    Grade,
    graded,
    memory_verdict,
    noise_verdict,
    residual_verdicts,
    retry_verdict,
)

SOUND = ResidualStatistics(
    voxels=1000,
    left_out=0,
    mean=0.0,
    variance=0.97,
    levels=np.array([100.0, 200.0]),
    level_means=np.array([0.01, -0.02]),
    level_variances=np.array([0.98, 0.95]),
    correlations={"Y": (0.01, 0.0), "X": (-0.02, 0.0)},
    edges=np.array([-1.0, 0, 1]),
    density=np.array([0.5, 0.5]),
    structures=np.array([0.1, 1.0]),
    structure_ratios=np.array([1.0, 0.9]),
)


def test_grades_of_what_should_be_small() -> None:
    bounds = (1.0, 2.0)
    found = [graded(value, bounds) for value in (0, 1, 1.01, 2, 2.01)]
    assert found == [Grade.GOOD, Grade.GOOD, Grade.DOUBT, Grade.DOUBT, Grade.BAD]


def test_a_sound_residual() -> None:
    assert {v.grade for v in residual_verdicts("", SOUND)} == {Grade.GOOD}


@pytest.mark.parametrize(
    ("changed", "subject", "grade", "words"),
    [
        ({"mean": 0.1}, "mean", Grade.DOUBT, "may be shifted"),
        ({"mean": -0.2}, "mean", Grade.BAD, "are shifted: the mean of the residual is -0.200"),
        ({"level_means": np.array([0.0, -0.4])}, "mean", Grade.BAD, "-0.400 σ at one grey level"),
        ({"variance": 0.7}, "variance", Grade.DOUBT, "Less was taken away"),
        ({"variance": 0.5}, "variance", Grade.BAD, "Less was taken away"),
        ({"variance": 1.1}, "variance", Grade.DOUBT, "More was taken away"),
        ({"variance": 1.5}, "variance", Grade.BAD, "More was taken away"),
        ({"correlations": {"X": (0.08,)}}, "neighbours", Grade.DOUBT, "alike"),
        ({"correlations": {"X": (-0.3,)}}, "neighbours", Grade.BAD, "opposed"),
        ({"structure_ratios": np.array([1.0, 1.4])}, "structure", Grade.DOUBT, "faint structure"),
        ({"structure_ratios": np.array([1.0, 3.0])}, "structure", Grade.BAD, "There is structure"),
        ({"structure_ratios": np.array([1.5, 3.0])}, "structure", Grade.BAD, "where all is flat"),
    ],
)
def test_what_is_wrong_is_said(
    changed: dict[str, object], subject: str, grade: Grade, words: str
) -> None:
    found = residual_verdicts("", replace(SOUND, **changed))  # type: ignore[arg-type]
    (verdict,) = (v for v in found if v.grade is not Grade.GOOD)
    assert verdict.subject == subject
    assert verdict.grade is grade
    assert words in verdict.words


def test_the_documents_have_the_bounds() -> None:
    text = (Path(__file__).parents[1] / "docs/results.md").read_text()
    (low, high), (lower, higher) = verdicts.VARIANCE_BOUNDS
    rows = [
        f"| mean | up to {verdicts.MEAN_BOUNDS[0]} σ, {verdicts.LEVEL_BOUNDS[0]} σ at one grey "
        f"level | above {verdicts.MEAN_BOUNDS[1]} σ, {verdicts.LEVEL_BOUNDS[1]} σ |",
        f"| variance | {low} to {high} | below {lower}, above {higher} |",
        f"| neighbours | -{verdicts.OPPOSED_BOUNDS[0]} to {verdicts.ALIKE_BOUNDS[0]} "
        f"| below -{verdicts.OPPOSED_BOUNDS[1]}, above {verdicts.ALIKE_BOUNDS[1]} |",
        f"| structure | up to {verdicts.STRUCTURE_BOUNDS[0]} times white noise's variance "
        f"| above {verdicts.STRUCTURE_BOUNDS[1]} |",
    ]
    assert [row for row in rows if row not in text] == []
    seam, none = verdicts.SEAM_BOUNDS
    assert f"above {seam} by three standard errors is a seam, one below {none} by as much" in text


def test_memory() -> None:
    gib = 2**30
    assert memory_verdict(gib, 2 * gib).grade is Grade.GOOD
    assert memory_verdict(3 * gib, 2 * gib).grade is Grade.DOUBT
    assert "not known here" in memory_verdict(gib, None).words


def test_retries() -> None:
    assert retry_verdict(10, 0, 0).grade is Grade.GOOD
    assert retry_verdict(1, 0, 0).words.startswith("1 block, ")
    assert "2 of 10 blocks" in retry_verdict(10, 2, 3).words
    assert retry_verdict(10, 0, 1).grade is Grade.DOUBT  # a preempted job: no attempt, but again


def test_a_noise_that_cannot_be_told() -> None:
    found = noise_verdict("", ChannelNoise(0, NoiseError("it is all black"), (), None))
    assert found.grade is Grade.DOUBT
    assert "it is all black" in found.words
