"""Settings of hypothesis for all tests: machines are shared, so slowness alone is no failure."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from fake_slurm import FakeSlurm

settings.register_profile(
    "shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared machine")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Return a SLURM of which no command is there yet; the test runs in none of its jobs."""
    folder = tmp_path / "fake commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("SLURM_JOB_ID", "SLURM_JOB_END_TIME", "SLURM_JOB_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    return FakeSlurm(folder)
