"""Runs handed to SLURM as jobs: submitted, followed by one another, requeued, cancelled."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from batch_runs import BLOCKS, BatchRun, wrapper
from denoise5d import execute
from denoise5d.errors import (
    ClusterError,
    ConfigError,
    LockedError,
    PlanError,
    RefusedError,
)
from denoise5d.ledger import run_folder
from denoise5d.lock import OutputLock, Owner
from denoise5d.submit import submit
from mini_slurm import MiniSlurm
from runs import PATIENCE_SECONDS, Project

SCRIPTS = Path(__file__).parents[2] / "slurm"


@pytest.fixture
def batch(slurm: MiniSlurm, tmp_path: Path) -> BatchRun:
    return BatchRun(slurm, Project(tmp_path))


def follow(batch: BatchRun, job: int) -> int:
    """Return the job that is to follow; it waits for the end of the first one."""
    later = batch.slurm.wait(
        lambda: [j for j in batch.jobs("successor") if j > job], what="a successor"
    )
    facts = batch.slurm.job(later[0])
    assert facts["JobState"] == "PENDING"
    assert facts["Dependency"].startswith(f"afterany:{job}")
    return later[0]


def warn(batch: BatchRun, job: int) -> None:
    """Send what SLURM sends ahead of the end."""
    batch.slurm.run("scancel", "--batch", "--signal=USR1", str(job))


def lose(batch: BatchRun, job: int) -> None:
    """Kill the node of a job."""
    node = batch.slurm.job(job)["NodeList"]
    batch.slurm.kill_node(node)
    batch.slurm.declare_down(node)


def queued(batch: BatchRun) -> list[int]:
    return [job.id for job in batch.slurm.queue() if job.state in ("PENDING", "RUNNING")]


# -- submitting ------------------------------------------------------------------------------------


def test_what_run_would_refuse_is_not_submitted(
    batch: BatchRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, batch.slurm.env[name])
    batch.write(kind="allocation")

    def refused(error: type[RefusedError], message: str) -> None:
        with pytest.raises(error, match=message):
            submit(batch.project.config())
        assert not run_folder(batch.project.output).exists()
        assert batch.slurm.queue() == []

    batch.write(kind="allocation", walltime="00:01:00", signal_lead=59)
    with monkeypatch.context() as patch:
        patch.setattr("denoise5d.forecast._RATES", dict.fromkeys(RATES, (1e-4, 1e-4)))
        refused(PlanError, r"takes about .* and a job has 1 s \(cluster.walltime less")
    with monkeypatch.context() as patch:
        patch.setattr("denoise5d.space.free_bytes", lambda _: 1)
        refused(PlanError, "make room, or choose another output.path")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        refused(ClusterError, "there is no sbatch here")
    batch.write(kind="allocation", walltime="a day")
    refused(ConfigError, "walltime")


RATES = [(False, False), (True, False), (False, True), (True, True)]


def test_what_slurm_refuses(batch: BatchRun) -> None:
    """Said with the key, and not recorded."""
    batch.write(kind="allocation", extra_directives=["--partition=nowhere"])
    done = batch.command("submit")
    assert done.returncode == 2
    assert "SLURM refuses the job" in done.stderr
    assert "cluster.partition" in done.stderr
    assert batch.jobs() == []


def test_print_does_nothing(batch: BatchRun) -> None:
    done = batch.write(kind="slurm", jobs=2).command("submit", "--print")
    assert done.returncode == 0
    assert done.stdout.startswith("#!/bin/bash\n")
    assert not run_folder(batch.project.output).exists()
    assert batch.slurm.queue() == []


@pytest.mark.parametrize("own_name", [[], ["--job-name=mine"]])
def test_one_submission_at_a_time(batch: BatchRun, own_name: list[str]) -> None:
    """While it waits; what was submitted is kept; cancel takes out what is the run's own."""
    other = batch.slurm.submit("sleep 1000", "--job-name=denoise5d")
    batch.write(kind="allocation", partition="down", extra_directives=own_name)
    job = batch.submit()
    kept = (run_folder(batch.project.output) / "allocation.sbatch").read_text()
    assert (
        batch.slurm.run("scontrol", "write", "batch_script", str(job), "-").strip() == kept.strip()
    )
    again = batch.command("submit")
    assert again.returncode == 2
    assert f"waits in the queue already, as job {job};" in again.stderr
    assert "denoise5d cancel" in again.stderr
    done = batch.command("cancel")
    assert done.stdout == f"Cancelled {job}.\n", done.stderr
    assert queued(batch) == [other]


def test_modules_and_prologue_come_before_python(batch: BatchRun) -> None:
    """In the driver and in its worker; `module` may be a function of the shell."""
    told = batch.project.folder / "told"
    profile = batch.project.folder / "profile"
    profile.write_text(f'module() {{ echo "module $*" >> {told}; }}\n')
    modules = {"modules": ["python/3.11", "rhel8/default"], "prologue": f"echo prologue >> {told}"}
    batch.write(kind="slurm", **modules)
    batch.slurm.env["BASH_ENV"] = str(profile)
    try:
        job = batch.submit()
        batch.ends(job)
    finally:
        del batch.slurm.env["BASH_ENV"]
    batch.check()
    once = ["module load python/3.11", "module load rhel8/default", "prologue"]
    assert told.read_text().splitlines() == once * 2
    assert len(batch.jobs("worker")) == 1
    assert queued(batch) == []

    batch.project.write(
        cluster={"kind": "slurm", "workers": None, "walltime": "00:10:00"},
        denoise={"method": "safir", "pvalue": 0.01},
    )
    changed = batch.command("submit")
    assert changed.returncode == 2
    assert "denoise.pvalue" in changed.stderr
    assert batch.jobs("driver") == [job]


def test_the_drivers_script_of_the_repository(batch: BatchRun) -> None:
    folder = wrapper(batch.project.folder / "bin")
    batch.write(kind="slurm")
    path = f"--export=ALL,PATH={folder}:{batch.slurm.env['PATH']}"
    script = SCRIPTS / "driver.sbatch"
    out = batch.slurm.run("sbatch", "--parsable", path, "--time=10", script, batch.project.yaml)
    job = int(out)
    batch.ends(job)
    batch.check()
    assert f"{BLOCKS} of {BLOCKS} in this run" in batch.slurm.output(job)
    assert batch.jobs("driver") == [job]


NAMES = [
    "a b; touch pwned",
    "%j %x %%",
    "#SBATCH --hold",
    "'\"$(touch pwned)`touch pwned`",
    "Übersicht – Zelle №5 日本",
]


def test_any_path_is_a_path_and_nothing_else(slurm: MiniSlurm, tmp_path: Path) -> None:
    """All of it, what sbatch opens by the name in its line too."""
    folder = tmp_path
    for name in NAMES:
        folder /= name
    folder.mkdir(parents=True)
    batch = BatchRun(slurm, Project(folder)).write(kind="allocation")
    job = batch.submit()
    assert "24 of 24 in this run" in batch.ends(job)
    batch.check()
    found = {file.name for where in (tmp_path, slurm.work) for file in where.rglob("pwned")}
    assert not found


# -- jobs that follow one another ------------------------------------------------------------------


def test_until_done(batch: BatchRun) -> None:
    """A job that SLURM starts again, with the same arguments; one warned of its end; none idle."""
    batch.write(kind="allocation", until="done").pace(0.4)
    first = batch.submit("--overwrite")
    batch.wait_for_blocks(3)
    second = follow(batch, first)
    lose(batch, first)
    done = batch.project.lines()
    batch.wait_for_blocks(3)
    assert batch.slurm.job(first)["Restarts"] == "1"
    assert batch.project.lines()[: len(done)] == done, "begun anew once, not twice"
    assert batch.jobs("successor") == [second], "the second life has none of its own"
    warn(batch, first)
    assert "stopping: no new blocks" in batch.ends(first, "FAILED", 75)

    third = follow(batch, second)
    batch.ends(second)
    batch.check()
    assert batch.slurm.state(third) == "CANCELLED"
    assert queued(batch) == []


def test_a_chain_of_two(batch: BatchRun) -> None:
    """The node of the first one is lost for good; the second one is the last."""
    batch.write(kind="allocation", extra_directives=["--no-requeue"]).pace(0.4)
    first = batch.submit("--chain", "1")
    batch.wait_for_blocks(3)
    second = follow(batch, first)
    lose(batch, first)
    batch.slurm.wait_for_state(first, "NODE_FAIL")
    batch.ends(second)
    batch.check()
    assert batch.jobs("successor") == [second]
    assert queued(batch) == []


def test_jobs_that_get_nowhere(batch: BatchRun) -> None:
    """Two, and the third one does not begin: no chain without an end.

    Its time is over before a block is: jobs believe that they end in 18 seconds, and are warned of
    it after some.
    """
    end = "export SLURM_JOB_END_TIME=$(($(date +%s) + 18))"
    batch.write(
        kind="allocation", until="done", prologue=f"{end}\n(sleep 5; kill -USR1 $$) &"
    ).pace(1000)
    first = batch.submit()
    second = follow(batch, first)
    assert "24 of 24 blocks are left" in batch.ends(first, "FAILED", 75)
    third = follow(batch, second)
    batch.ends(second, "FAILED", 75)
    log = batch.ends(third, "FAILED", 2)
    assert "two jobs in a row finished no block, so this one does not begin" in log
    assert "denoise5d submit" in log
    assert batch.jobs("successor") == [second, third]
    assert queued(batch) == []


def test_no_block_is_begun_that_cannot_end(batch: BatchRun) -> None:
    """Once it is known how long one takes; nobody need warn the driver."""
    batch.write(
        kind="allocation", prologue="export SLURM_JOB_END_TIME=$(($(date +%s) + 15 + 12))"
    ).pace(2.5)
    log = batch.ends(batch.submit(), "FAILED", 75)
    assert "no block is begun any more: one takes up to 3 s" in log
    assert 0 < len(batch.project.records()) < BLOCKS
    assert "died" not in log


def test_sbatch_is_not_for_jobs_at_some_sites(batch: BatchRun) -> None:
    """Then no job follows, and this one works all the same."""
    refusing = batch.project.folder / "refusing"
    refusing.mkdir()
    script = refusing / "sbatch"
    script.write_text("#!/bin/sh\necho 'sbatch: error: not from here' >&2\nexit 1\n")
    script.chmod(0o755)
    batch.write(kind="allocation", until="done", prologue=f"PATH={refusing}:$PATH")
    log = batch.ends(batch.submit())
    assert "no job follows this one (SLURM refuses the job (sbatch: error: not from here)" in log
    batch.check()


def test_the_lock_of_a_job_that_has_ended_is_no_lock(
    batch: BatchRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only SLURM knows: on a file system whose locks do not reach the other machines."""
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, batch.slurm.env[name])
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "mini")
    monkeypatch.setattr("denoise5d.lock._flock_spans_hosts", lambda _: False)
    ended, running = batch.slurm.submit("true"), batch.slurm.submit("sleep 1000")
    batch.slurm.wait_for_state(ended, "COMPLETED")
    batch.slurm.wait_for_state(running, "RUNNING")
    path = batch.project.folder / "lock"

    def taken(job: int, **facts: str) -> bool:
        elsewhere = {"host": "elsewhere", "boot": "", "cluster": "mini"} | facts
        owner = replace(Owner.of_this_process(), job=str(job), **elsewhere)
        path.write_text(json.dumps(asdict(owner)))
        try:
            with OutputLock(path, execute._has_ended):
                return False
        except LockedError:
            return True

    assert not taken(ended)
    assert taken(running)
    assert taken(ended, cluster="another cluster with the same numbers")
    assert taken(999999), "a job that SLURM does not know may be anybody's"
    monkeypatch.setenv("SLURM_JOB_ID", str(running))
    assert taken(running), "another driver in this very job"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert not taken(running), "the life of this job before it was requeued"
    batch.slurm.stop_controller()
    assert taken(ended)


# -- the end ---------------------------------------------------------------------------------------


def test_a_driver_cancelled_by_hand_is_not_followed(batch: BatchRun) -> None:
    batch.write(kind="allocation", until="done").pace(1)
    first = batch.submit()
    batch.wait_for_blocks(1)
    second = follow(batch, first)
    batch.slurm.run("scancel", str(first))
    batch.slurm.wait_for_state(first, "CANCELLED")
    batch.slurm.wait(lambda: not batch.slurm.queue(), what="an empty queue")
    assert batch.slurm.state(second) == "CANCELLED"


def test_a_driver_that_had_no_time_to_end_is_not_followed(batch: BatchRun) -> None:
    """Its blocks take longer than SLURM waits before it kills: the next job looks for itself."""
    batch.write(kind="slurm", until="done").pace(1000)
    first = batch.submit()
    batch.wait_for_kernel()
    second = follow(batch, first)
    batch.slurm.run("scancel", str(first))
    log = batch.ends(second, "FAILED", 2)
    assert batch.slurm.state(first) == "CANCELLED"
    assert f"job {first}, which this one follows, was cancelled" in log
    assert len(batch.jobs("successor")) == 1


def test_cancel_lets_blocks_end_and_takes_only_what_is_its_own(batch: BatchRun) -> None:
    others = [batch.slurm.submit("sleep 1000", f"--job-name={n}") for n in ("denoise5d", "mine")]
    batch.write(kind="allocation", until="done").pace(1)
    first = batch.submit()
    batch.wait_for_blocks(1)
    second = follow(batch, first)
    done = batch.command("cancel")
    assert done.returncode == 0, done.stderr
    assert f"Cancelled {second}" in done.stdout
    assert f"of SLURM job {first}" in done.stdout
    log = batch.ends(first, "FAILED", 75)
    assert "stopped early" in log
    assert "died" not in log
    assert sorted(queued(batch)) == others


def test_cancel_now(batch: BatchRun) -> None:
    batch.write(kind="slurm").pace(1000)
    job = batch.submit()
    batch.wait_for_kernel()
    (worker,) = batch.jobs("worker")
    done = batch.command("cancel", "--now")
    assert done.stdout == f"Cancelled {job}, {worker}.\n", done.stderr
    for ended in (job, worker):
        batch.slurm.wait_for_state(ended, "CANCELLED", "FAILED")
    batch.slurm.wait(lambda: not batch.slurm.queue(), what="an empty queue")


def test_a_driver_outside_of_any_job_is_cancelled_too(batch: BatchRun) -> None:
    """It has no job, and would submit new workers in place of the cancelled ones."""
    batch.write(kind="slurm", interface="lo").pace(1000)
    process = subprocess.Popen(
        [sys.executable, "-m", "denoise5d", "run", str(batch.project.yaml)],
        env=batch.slurm.env, cwd=batch.slurm.work, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        batch.wait_for_kernel()
        done = batch.command("cancel", "--now")
        assert "Cancelled" in done.stdout, done.stderr
        assert process.wait(PATIENCE_SECONDS) == 75
    finally:
        process.kill()
        process.communicate()
    batch.slurm.wait(lambda: not batch.slurm.queue(), what="an empty queue")
