"""The SLURM of the tests itself: what it promises to the tests that build on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import mini_slurm as mini_slurm_module
from mini_slurm import MiniSlurm, MiniSlurmError, mini_slurm

FOR_EVER = "sleep 1000"


def _run_for_ever(slurm: MiniSlurm, *options: str) -> int:
    job = slurm.submit(FOR_EVER, *options)
    slurm.wait_for_state(job, "RUNNING")
    slurm.wait(lambda: slurm.processes(job), what="the job's processes")
    return job


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_job_runs_and_writes(slurm: MiniSlurm) -> None:
    job = slurm.submit("echo on $SLURMD_NODENAME", "--nodelist=node2")
    slurm.wait_for_state(job, "COMPLETED")
    assert slurm.output(job) == "on node2\n"
    assert slurm.job(job)["ExitCode"] == "0:0"


def test_three_jobs_have_a_node_each(slurm: MiniSlurm) -> None:
    jobs = [_run_for_ever(slurm, "--exclusive", f"--job-name=job {n}") for n in range(3)]
    queue = slurm.queue()
    assert {(job.id, job.state) for job in queue} == {(job, "RUNNING") for job in jobs}
    assert sorted(job.node for job in queue) == slurm.nodes
    assert sorted(job.name for job in queue) == ["job 0", "job 1", "job 2"]


def test_what_the_nodes_have_not_is_refused(slurm: MiniSlurm) -> None:
    with pytest.raises(MiniSlurmError, match="Requested node configuration is not available"):
        slurm.submit(FOR_EVER, "--mem=17000M")


def test_a_job_over_its_memory_is_killed(slurm: MiniSlurm) -> None:
    hungry = f"{sys.executable} -c 'import time; kept = bytearray(100 << 20); time.sleep(1000)'"
    job = slurm.submit(hungry, "--mem=50M")
    state = slurm.wait_for_state(job, "FAILED", "OUT_OF_MEMORY", "CANCELLED", "COMPLETED")
    assert state in ("FAILED", "OUT_OF_MEMORY")
    assert slurm.job(job)["ExitCode"] == "0:9"
    enough = slurm.submit(hungry.replace("1000", "3"), "--mem=200M")
    assert slurm.wait_for_state(enough, "FAILED", "OUT_OF_MEMORY", "COMPLETED") == "COMPLETED"


def test_a_lost_node_fails_its_job_and_comes_back(slurm: MiniSlurm) -> None:
    lost = _run_for_ever(slurm, "--nodelist=node2", "--no-requeue")
    safe = _run_for_ever(slurm, "--nodelist=node3")
    slurm.kill_node("node2")
    assert slurm.processes(lost) == []
    slurm.wait_for_state(lost, "NODE_FAIL")  # by itself, without `declare_down`
    assert slurm.node_state("node2").startswith("DOWN")
    assert slurm.state(safe) == "RUNNING"
    slurm.revive_node("node2")
    again = slurm.submit("echo again", "--nodelist=node2")
    slurm.wait_for_state(again, "COMPLETED")


def test_a_job_of_a_node_declared_lost_is_requeued(slurm: MiniSlurm) -> None:
    job = _run_for_ever(slurm, "--nodelist=node1")
    slurm.kill_node("node1")
    slurm.declare_down("node1")
    assert slurm.state(job) == "PENDING"
    slurm.revive_node("node1")
    slurm.wait_for_state(job, "RUNNING")
    assert slurm.job(job)["Restarts"] == "1"


def test_jobs_outlive_the_controller(slurm: MiniSlurm) -> None:
    job = _run_for_ever(slurm)
    slurm.stop_controller()
    with pytest.raises(MiniSlurmError, match="Unable to contact slurm controller"):
        slurm.queue()
    assert slurm.processes(job)
    slurm.start_controller()
    assert slurm.state(job) == "RUNNING"


def test_a_job_in_a_partition_that_is_down_waits(slurm: MiniSlurm) -> None:
    job = slurm.submit(FOR_EVER, "--partition=down")
    slurm.wait(lambda: slurm.job(job)["Reason"] == "PartitionDown", what="the reason")
    (queued,) = slurm.queue()
    assert queued[:4] == (job, "PENDING", "PartitionDown", "")


def test_cancel_all_leaves_nothing_behind(slurm: MiniSlurm) -> None:
    deaf = slurm.submit(f"trap '' TERM; (setsid {FOR_EVER} &); {FOR_EVER}")  # and an orphan
    slurm.submit(FOR_EVER, "--partition=down")
    found = slurm.wait(lambda: len(slurm.processes(deaf)) == 3 and slurm.processes(deaf))
    slurm.cancel_all()
    assert slurm.queue() == []
    assert not any(_lives(pid) for pid in found)
    assert [slurm.node_state(name) for name in slurm.nodes] == ["IDLE"] * 3


def test_all_is_as_new_after_a_test(slurm: MiniSlurm) -> None:
    slurm.kill_node("node1")
    slurm.declare_down("node2")
    slurm.run("scontrol", "update", "NodeName=node3", "State=DRAIN", "Reason=test")
    slurm.restore()
    assert [slurm.node_state(name) for name in slurm.nodes] == ["IDLE"] * 3


def test_variables_of_an_outer_job_do_not_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_JOB_ID", "SLURMD_NODENAME", "SBATCH_PARTITION", "SLURM_CONF"):
        monkeypatch.setenv(name, "outer")
    env = MiniSlurm(tmp_path, nodes=1, cpus=1, memory_mib=100, node_timeout=6).env
    assert "outer" not in env.values()
    assert env["SLURM_CONF"] == str(tmp_path / "etc/slurm.conf")


def test_daemons_die_with_whoever_started_them() -> None:
    killed = "from mini_slurm import *\nwith mini_slurm() as s: print(s.root); os._exit(0)"
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-uc", killed], env=os.environ | {"PYTHONPATH": paths}, text=True,
        stdout=subprocess.PIPE, check=True, timeout=60,
    )  # fmt: skip
    root = Path(done.stdout.strip())
    assert (root / "etc/slurm.conf").exists()
    deadline = time.monotonic() + 60
    while any(_lives(pid) and _started_in(root, pid) for pid in psutil.pids()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    shutil.rmtree(root)


def _started_in(root: Path, pid: int) -> bool:
    try:
        return psutil.Process(pid).cwd().startswith(str(root))
    except psutil.Error:
        return False


def test_a_daemon_that_does_not_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = mini_slurm_module.CONFIGURATION + "Nonsense=1\n"
    monkeypatch.setattr(mini_slurm_module, "CONFIGURATION", wrong)
    with pytest.raises(MiniSlurmError, match="unrecognized key: Nonsense"), mini_slurm():
        pass
