"""Runs of kind ``slurm`` on a real SLURM, and what goes wrong there."""

from __future__ import annotations

import re
import signal
import stat
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from distributed import Client
from distributed.security import Security

from cluster_runs import JobDriver, job_driver, slow_image, write
from denoise5d.ledger import Ledger
from denoise5d.level_ledgers import level_ledger
from denoise5d.store import listed_datasets
from mini_slurm import MiniSlurm
from runs import Project, structured


@pytest.fixture
def slow(tmp_path: Path) -> Project:
    """A run of blocks that take some tenths of a second each, in a folder with a space in it."""
    folder = tmp_path / "an embryo"
    folder.mkdir()
    return write(slow_image(Project(folder)))


def test_end_to_end(slurm: MiniSlurm, slow: Project) -> None:
    """With a stranger at the door, on whatever network this machine has."""
    write(slow, interface=None)
    with job_driver(slurm, slow) as driver:
        driver.hold()
        jobs = driver.wait_for_workers(2)
        for job in jobs:
            assert re.search(rf"job {job}, 1 threads", driver.log())
        (private,) = driver.private_folders()
        assert _modes(private) == {"run": 0o700, "files": {0o600}}
        _refuses_strangers(driver.scheduler(), private)
        _shows_no_pages(driver)
        driver.let_go()
        assert driver.finish() == 0, driver.log()
        assert sorted(driver.recorded()) == sorted(jobs)
        assert not private.exists()
        assert "distributed" not in driver.log()
        driver.wait_for_no_jobs()
    assert {int(record.job or 0) for record in slow.records()} == set(jobs)
    assert {record.attempts for record in slow.records()} == {1}
    slow.check()


def _modes(private: Path) -> dict[str, object]:
    files = {stat.S_IMODE(file.stat().st_mode) for file in private.iterdir()}
    return {"run": stat.S_IMODE(private.stat().st_mode), "files": files}


def _refuses_strangers(address: str, private: Path) -> None:
    files = {part: str(private / f"{part}.pem") for part in ("ca", "cert", "key")}
    own = Security(
        tls_ca_file=files["ca"], tls_client_cert=files["cert"], tls_client_key=files["key"]
    )
    with Client(address, security=own, timeout="5s") as client:
        assert len(client.scheduler_info()["workers"]) == 2
    for security in (Security.temporary(), None):
        theirs = address if security else address.replace("tls://", "tcp://")
        with pytest.raises(OSError):
            Client(theirs, security=security, timeout="1s")


def _shows_no_pages(driver: JobDriver) -> None:
    """What answers to http does so on the loopback interface alone, and has nothing to say."""
    processes = [psutil.Process(driver.process.pid)]
    for job in driver.running():
        processes += driver.processes(job)
    listeners = {
        (listener.laddr.ip, listener.laddr.port)
        for process in processes
        for listener in process.net_connections("tcp4")
        if listener.status == psutil.CONN_LISTEN
    }
    web = {(ip, port) for ip, port in listeners if _answer(ip, port, "") is not None}
    assert len(web) == 3, "one of the scheduler and of each worker"
    assert len(listeners) == 3 + 1 + 2 * 2, "and TLS of the scheduler, workers and nannies"
    assert {ip for ip, _ in web} == {"127.0.0.1"}
    for ip, port in web:
        for page in ("status", "info/main/workers.html", "json/counts.json", "metrics", "health"):
            assert _answer(ip, port, page) == 404


def _answer(ip: str, port: int, page: str) -> int | None:
    """Return the status with which a web server answers, None if there is none."""
    try:
        with urllib.request.urlopen(f"http://{ip}:{port}/{page}", timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None


def test_cancelled_jobs_are_replaced_and_blame_nobody(slurm: MiniSlurm, slow: Project) -> None:
    """More often than a block may fail."""
    write(slow, blocks={"retries": 0})
    with job_driver(slurm, slow) as driver:
        driver.wait_for_blocks(1)
        driver.hold()
        for cancelled in range(2):
            newest = driver.wait_for_workers(2 + cancelled)[-1]
            driver.wait_for(lambda job=newest: bool(driver.kernels(job)))
            slurm.run("scancel", str(newest))
            driver.wait_for(lambda job=newest: f"job {job}: it was cancelled" in driver.log())
        driver.let_go()
        assert driver.finish() == 0, driver.log()
        assert len(driver.recorded()) >= 4
        assert "is done again" in driver.log()
        assert "failed, attempt" not in driver.log()
        driver.wait_for_no_jobs()
    assert {record.attempts for record in slow.records()} == {1}
    slow.check()


def test_a_lost_node(slurm: MiniSlurm, slow: Project) -> None:
    """Its job is replaced, not queued again, and blames nobody."""
    write(slow, blocks={"retries": 0}, extra_directives=["--exclusive"])
    with job_driver(slurm, slow) as driver:
        driver.wait_for_workers(2)
        driver.hold()
        driver.wait_for(lambda: all(driver.kernels(job) for job in driver.running()))
        lost, other = (job for job in slurm.queue() if job.state == "RUNNING")
        slurm.kill_node(lost.node)
        slurm.declare_down(lost.node)
        driver.wait_for(lambda: f"done again: job {lost.id}: its node failed" in driver.log())
        driver.let_go()
        assert driver.finish() == 0, driver.log()
    workers = {record.worker for record in slow.records()}
    assert {int(record.job or 0) for record in slow.records()} >= {other.id}, workers
    assert {record.attempts for record in slow.records()} == {1}
    slow.check()


def test_a_worker_that_hangs(slurm: MiniSlurm, slow: Project) -> None:
    """All its processes stand still: missed, ended, replaced."""
    with job_driver(slurm, slow, _LOST_SECONDS=2) as driver:
        hung, _ = driver.wait_for_workers(2)
        driver.hold()
        driver.wait_for(lambda: bool(driver.kernels(hung)))
        for process in driver.processes(hung):
            process.suspend()
        driver.wait_for_workers(3)
        driver.let_go()
        assert driver.finish() == 0, driver.log()
        assert "it runs and has not been heard of for" in driver.log()
        assert "failed, attempt 1 of 3: it runs" in driver.log()
        assert "Traceback" not in driver.log()
        driver.wait_for_no_jobs()
    slow.check()


def test_a_kernel_that_never_ends(slurm: MiniSlurm, slow: Project) -> None:
    with job_driver(slurm, slow, _HUNG_TIMES=1, _HUNG_SECONDS=2) as driver:
        driver.hold(5)
        driver.wait_for(lambda: "it hangs: a block has taken" in driver.log())
        driver.let_go()
        assert driver.finish() == 0, driver.log()
    assert [r.attempts for r in slow.records() if r.block == 5] == [2]
    slow.check()


def test_a_killed_driver(slurm: MiniSlurm, slow: Project) -> None:
    """Its workers leave, and the same command goes on."""
    with job_driver(slurm, slow) as first:
        first.hold(20)
        first.wait_for_blocks(2)
        (stale,) = first.private_folders()
        first.process.kill()
        first.finish()
        first.wait_for_no_jobs()
        committed = slow.lines()
        assert stale.exists()
        first.let_go()
    with job_driver(slurm, slow) as again:
        assert again.finish() == 0, again.log()
        assert not again.private_folders()
    assert slow.lines()[: len(committed)] == committed
    slow.check()


def test_a_controller_that_is_stopped(slurm: MiniSlurm, slow: Project) -> None:
    """Jobs go on without it, and are cancelled when it is there again."""
    with job_driver(slurm, slow) as driver:
        driver.wait_for_workers(2)
        driver.wait_for_blocks(1)
        driver.hold()
        slurm.stop_controller()
        driver.wait_for(lambda: "SLURM does not answer" in driver.log())
        slurm.start_controller()
        driver.wait_for(lambda: "SLURM answers again" in driver.log())
        driver.let_go()
        assert driver.finish() == 0, driver.log()
        assert "Traceback" not in driver.log()
        assert len(driver.recorded()) == 2
        driver.wait_for_no_jobs()
    slow.check()


def test_the_end_without_a_controller(slurm: MiniSlurm, slow: Project) -> None:
    with job_driver(slurm, slow) as driver:
        jobs = driver.wait_for_workers(2)
        driver.wait_for_blocks(1)
        slurm.stop_controller()
        assert driver.finish() == 0, driver.log()
        assert "is not cancelled, and ends by itself" in driver.log()
        slurm.wait(lambda: not any(map(driver.processes, jobs)), what="workers that leave")
    slow.check()


def test_no_more_jobs_than_blocks(slurm: MiniSlurm, slow: Project) -> None:
    """And one with nothing left to do ends while another one is busy."""
    write(slow, jobs=5, blocks={"shape": [1, 1, 12, 128, 64]})
    with job_driver(slurm, slow) as driver:
        driver.hold(0)  # its worker has at most one more
        driver.wait_for_workers(3)
        driver.wait_for_blocks(1)
        driver.wait_for(lambda: len(driver.running()) <= 2)
        driver.let_go()
        assert driver.finish() == 0, driver.log()
    assert len(driver.recorded()) == 3
    slow.check()


def test_a_worker_leaves_before_its_job_ends(slurm: MiniSlurm, slow: Project) -> None:
    """And is replaced: no job is ended by SLURM in the middle of a block."""
    soon = "export SLURM_JOB_END_TIME=$(($(date +%s) + 25))"
    write(slow, jobs=1, blocks={"retries": 0}, prologue=soon)
    with job_driver(slurm, slow, pace=0.4) as driver:
        assert driver.finish() == 0, driver.log()
        assert len(driver.recorded()) >= 2
        assert "no more block would have ended within cluster.walltime" in driver.log()
        assert "failed, attempt" not in driver.log()
        assert {slurm.state(job) for job in driver.recorded()} == {"COMPLETED", "CANCELLED"}
    slow.check()


@pytest.mark.parametrize(("times", "code"), [(1, 75), (2, 130)])
def test_an_interrupt_while_jobs_start(
    slurm: MiniSlurm, slow: Project, times: int, code: int
) -> None:
    with job_driver(slurm, slow) as driver:
        driver.hold()
        driver.wait_for(lambda: len(driver.recorded()) == 2)
        if times == 2:
            driver.wait_for(lambda: bool(driver.kernels(driver.recorded()[0])))
        driver.process.send_signal(signal.SIGINT)
        if times == 2:
            driver.wait_for(lambda: "no new blocks" in driver.log())
            driver.process.send_signal(signal.SIGINT)
        assert driver.finish() == code, driver.log()
        assert not driver.private_folders()
        driver.wait_for_no_jobs()


def test_levels_are_made_by_the_same_jobs(slurm: MiniSlurm, tmp_path: Path) -> None:
    """No worker is started or ended between the blocks of the image and those of its pyramid."""
    project = Project(tmp_path)
    project.image(structured((1, 1, 1, 96, 320), "uint16"), chunks=(1, 1, 1, 32, 64))
    with job_driver(slurm, write(project), pace=0) as driver:
        driver.hold()
        jobs = driver.wait_for_workers(2)
        driver.let_go()
        assert driver.finish() == 0, driver.log()
        assert sorted(driver.recorded()) == sorted(jobs)
        assert len(re.findall("worker .* is there", driver.log())) == 2
    level = Ledger.open(level_ledger(project.output, 1), read_only=True)
    assert level.done_count == level.blocks > 4
    assert {int(record.job or 0) for record in level.records()} <= set(jobs)
    assert listed_datasets(project.output) == ["0", "1"]
    project.check()
