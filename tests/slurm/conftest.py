"""One SLURM for all tests of this folder, as good as new for each of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from mini_slurm import INSTALL, MiniSlurm, mini_slurm, missing_programs

REQUIRED = "DENOISE5D_REQUIRE_SLURM"
"""Environment variable with which a missing SLURM is a failure."""


@pytest.fixture(scope="session")
def slurm() -> Iterator[MiniSlurm]:
    """A SLURM of three nodes, each with 4 processors and 16000 MiB."""
    if missing := missing_programs():
        reason = f"{', '.join(missing)} not found: {INSTALL}"
        if os.environ.get(REQUIRED):
            pytest.fail(f"{REQUIRED} is set, and {reason}")
        pytest.skip(reason)
    with mini_slurm() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _as_new(slurm: MiniSlurm) -> Iterator[None]:
    yield
    slurm.restore()
