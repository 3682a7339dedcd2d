"""Runs of kind ``slurm`` on a real SLURM, and what goes wrong there."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster_runs import BLOCKS, job_driver, run, slow_image, write
from mini_slurm import MiniSlurm
from runs import Project


@pytest.fixture
def slow(tmp_path: Path) -> Project:
    """A run of blocks that take some tenths of a second each, in a folder with a space in it."""
    folder = tmp_path / "an embryo"
    folder.mkdir()
    return write(slow_image(Project(folder)))


def test_end_to_end(slurm: MiniSlurm, slow: Project) -> None:
    with job_driver(slurm, slow) as driver:
        jobs = driver.wait_for_workers(2)
        assert driver.finish() == 0, driver.log()
        assert driver.recorded() == jobs
        assert not driver.private_folders()
    assert slurm.queue() == []
    assert {int(record.job) for record in slow.records()} == set(jobs)
    slow.check()
