"""One job of several nodes, on the SLURM of the tests: how it ends, whatever happens in it."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from batch_runs import BLOCKS, BatchRun, wrapper
from mini_slurm import MiniSlurm
from runs import Project

SCRIPTS = Path(__file__).parents[2] / "slurm"


@pytest.fixture
def batch(slurm: MiniSlurm, tmp_path: Path) -> BatchRun:
    return BatchRun(slurm, Project(tmp_path))


def test_a_worker_on_each_node_and_the_driver_in_the_batch_script(batch: BatchRun) -> None:
    visited = batch.project.folder / "visited"
    batch.write(kind="allocation", nodes=3, prologue=f"echo $SLURMD_NODENAME >> {visited}")
    batch.pace(0.3)
    job = batch.submit()
    batch.wait_for_blocks(1)
    assert [len(batch.workers(job, node)) for node in batch.slurm.nodes] == [1, 1, 1]
    driver = next(p for p in batch.processes(job) if "run" in p.cmdline())
    assert driver.environ()["SLURMD_NODENAME"] == "node1"
    assert psutil.Process(driver.ppid()).name() == "slurmstepd", "no shell takes its signals"
    batch.ends(job)
    batch.check()
    records = batch.project.records()
    assert {record.job for record in records} == {str(job)}
    assert {record.worker for record in records} == {"w1", "w2", "w3"}
    assert visited.read_text() == "node1\n", "the workers have the driver's environment"
    assert batch.jobs() == [job, job], "submitted, begun, followed by none"


def test_a_killed_worker_and_a_lost_node(batch: BatchRun) -> None:
    """One comes back, the other does not; what they had is done again."""
    batch.write(kind="allocation", nodes=3).pace(1)
    job = batch.submit()
    batch.wait_for_blocks(2)
    (worker,) = batch.workers(job, "node2")
    worker.kill()
    batch.slurm.kill_node("node3")
    batch.wait_for_blocks(4)
    batch.slurm.wait(lambda: batch.workers(job, "node2"), what="another worker on node2")
    log = batch.ends(job)
    batch.check()
    assert "it took more memory on node2 than it has and was killed" in log, "signal 9"
    assert "it died on node3" in log


def test_a_mistake_that_breaks_every_worker(batch: BatchRun) -> None:
    batch.write(kind="allocation", nodes=2, prologue="export BREAK_WORKERS=1")
    log = batch.ends(batch.submit(), "FAILED", 2)
    assert "workers in a row ended without a block done" in log
    assert "this Python is broken" in log


def test_fewer_threads_than_planned(batch: BatchRun) -> None:
    batch.write(kind="allocation", cpus=2, prologue="export OMP_THREAD_LIMIT=1")
    log = batch.ends(batch.submit(), "FAILED", 2)
    assert "1 threads instead of cluster.cpus = 2" in log
    assert "OMP_THREAD_LIMIT" in log


def test_blocks_that_take_more_memory_than_planned(batch: BatchRun) -> None:
    batch.write(
        kind="allocation", blocks={"retries": 0}, prologue="export BLOCK_BYTES=$((500 << 20))"
    )
    log = batch.ends(batch.submit(), "FAILED", 3)
    assert "it took more memory on node1 than it has and was killed (planned were 0.39 GiB" in log
    assert "the job asks for --mem=9G a node); a higher blocks.memory_factor" in log


def test_outside_of_a_job(batch: BatchRun) -> None:
    done = batch.write(kind="allocation").command("run")
    assert done.returncode == 2
    assert "cluster.kind: allocation runs inside a job of SLURM" in done.stderr
    assert "denoise5d submit" in done.stderr


def test_the_script_of_the_repository(batch: BatchRun) -> None:
    """By hand, with the command on the path; a job of too few nodes is refused."""
    folder = wrapper(batch.project.folder / "bin")
    batch.write(kind="allocation", nodes=2)
    path = f"--export=ALL,PATH={folder}:{batch.slurm.env['PATH']}"

    def submit(nodes: int) -> int:
        script = SCRIPTS / "allocation.sbatch"
        options = ["--parsable", path, "--time=10", f"--nodes={nodes}"]
        return int(batch.slurm.run("sbatch", *options, script, batch.project.yaml))

    few = submit(1)
    batch.ends(few, "FAILED", 2)
    assert "cluster.nodes is 2, and this job has 1" in batch.slurm.output(few)
    job = submit(2)
    batch.ends(job)
    batch.check()
    assert f"{BLOCKS} of {BLOCKS} in this run" in batch.slurm.output(job)
