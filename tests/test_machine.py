"""What a process may use: the machine, bound by the control groups that it is in."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from denoise5d import machine
from denoise5d.machine import Machine, available_cpus, this_machine

GIB = 2**30


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty tree of control groups that the module takes for the machine's."""
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: type("Memory", (), {"total": 256 * GIB})()
    )
    return tmp_path


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_without_control_groups_it_is_the_machine(groups: Path) -> None:
    assert not list(groups.iterdir())
    assert this_machine() == Machine(64, 256 * GIB)


def test_without_affinity_all_processors_count(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert groups.exists()
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert available_cpus() == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cpus() == 1


def test_a_container_of_version_2(groups: Path) -> None:
    write(groups / "own", "0::/\n")
    write(groups / "cgroup/memory.max", f"{8 * GIB}\n")
    write(groups / "cgroup/cpu.max", "250000 100000\n")
    assert this_machine() == Machine(3, 8 * GIB)


def test_a_batch_job_of_version_2_is_bound_by_all_groups_above_it(groups: Path) -> None:
    write(groups / "own", "0::/system.slice/slurmstepd.scope/job_77/step_batch\n")
    job = groups / "cgroup/system.slice/slurmstepd.scope/job_77"
    write(job / "memory.max", f"{64 * GIB}\n")
    write(job / "step_batch/memory.max", "max\n")
    write(job / "step_batch/cpu.max", "max 100000\n")
    write(groups / "cgroup/system.slice/memory.max", f"{200 * GIB}\n")
    assert this_machine() == Machine(64, 64 * GIB)


def test_a_container_of_version_1(groups: Path) -> None:
    write(groups / "own", "9:name=systemd:/x\n5:cpu,cpuacct:/box\n4:memory:/box\n0::/\n")
    write(groups / "cgroup/memory/box/memory.limit_in_bytes", f"{4 * GIB}\n")
    write(groups / "cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    write(groups / "cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "400000\n")
    write(groups / "cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000\n")
    assert this_machine() == Machine(4, 4 * GIB)


def test_no_limit_of_version_1(groups: Path) -> None:
    write(groups / "own", "4:memory:/\n5:cpu:/\n")
    write(groups / "cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    write(groups / "cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write(groups / "cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert this_machine() == Machine(64, 256 * GIB)


def test_a_part_of_a_processor_counts_as_one(groups: Path) -> None:
    write(groups / "own", "0::/\n")
    write(groups / "cgroup/cpu.max", "50000 100000\n")
    assert available_cpus() == 1


def test_groups_that_cannot_be_seen_do_not_bind(groups: Path) -> None:
    write(groups / "own", "0::/../../somewhere else\n")
    assert this_machine() == Machine(64, 256 * GIB)


def test_this_very_machine() -> None:
    found = this_machine()
    assert 1 <= found.cpus <= (os.cpu_count() or 1)
    assert 2**27 < found.memory_bytes <= psutil.virtual_memory().total
