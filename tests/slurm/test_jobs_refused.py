"""Runs of kind ``slurm`` that come to nothing: exit code 2, the cause and the key to change."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from cluster_runs import job_driver, run, slow_image, write
from mini_slurm import MiniSlurm
from runs import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return slow_image(Project(tmp_path))


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        pytest.param(
            {"partition": "nowhere"}, r"Invalid partition.*cluster\.partition", id="partition"
        ),
        pytest.param(
            {"constraint": "gold"}, r"Invalid feature.*cluster\.constraint", id="constraint"
        ),
        pytest.param(
            {"extra_directives": ["--no-such-option"]},
            r"unrecognized option.*cluster\.extra_directives",
            id="option",
        ),
    ],
)
def test_sbatch_refuses(
    slurm: MiniSlurm, project: Project, cluster: dict[str, Any], words: str
) -> None:
    write(project, **cluster)
    with job_driver(slurm, project) as driver:
        assert driver.finish() == 2, driver.log()
        assert re.search(words, driver.log(), re.DOTALL)
        assert driver.recorded() == []


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        pytest.param({"partition": "down"}, r"PartitionDown.*cluster\.partition", id="partition"),
        pytest.param(
            {"partition": "short", "walltime": "01:00:00"},
            r"PartitionTimeLimit.*cluster\.walltime",
            id="walltime",
        ),
    ],
)
def test_a_job_that_never_starts(
    slurm: MiniSlurm, project: Project, cluster: dict[str, Any], words: str
) -> None:
    write(project, **cluster)
    with job_driver(slurm, project, _NEVER_SECONDS=1) as driver:
        assert driver.finish() == 2, driver.log()
        assert re.search(rf"will not start \({words}", driver.log())
        driver.wait_for_no_jobs()
    assert [slurm.state(job) for job in driver.recorded()] == ["CANCELLED"] * 2


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        pytest.param(
            {"python": "/nonexistent/python"},
            r"cluster\.python.*\n.*\|.*/nonexistent/python: No such file",
            id="no such Python",
        ),
        pytest.param(
            {"prologue": "echo no disk >&2; exit 7"},
            r"exit code 7.*cluster\.prologue(.*\n)*.*\| no disk",
            id="prologue",
        ),
        pytest.param(
            {"prologue": "export PYTHONPATH=$TMPDIR/broken"},
            r"cluster\.python(.*\n)*.*\|.*No module named 'denoise5d'",
            id="no denoise5d",
        ),
    ],
)
def test_a_mistake_that_kills_every_worker(
    slurm: MiniSlurm, project: Project, cluster: dict[str, Any], words: str
) -> None:
    """It stops after a few, with the last lines of the last one."""
    broken = project.folder / "broken"
    broken.mkdir()
    (broken / "denoise5d.py").write_text("raise ImportError(\"No module named 'denoise5d'\")")
    write(project, **cluster)
    with job_driver(slurm, project) as driver:
        assert driver.finish() == 2, driver.log()
        told = driver.log()[driver.log().index("workers in a row ended without a block done") :]
        assert re.search(words, told), told
        assert 3 <= len(driver.recorded()) <= 6
        driver.wait_for_no_jobs()


def test_too_few_threads(slurm: MiniSlurm, project: Project) -> None:
    write(project, cpus=2, prologue="export OMP_THREAD_LIMIT=1")
    code, log = run(slurm, project)
    assert code == 2, log
    assert "the kernel gets 1 threads instead of cluster.cpus = 2" in log
    assert "OMP_THREAD_LIMIT" in log


def test_the_port_of_the_scheduler_is_taken(slurm: MiniSlurm, project: Project) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        write(project, scheduler_port=port)
        code, log = run(slurm, project)
    assert code == 2, log
    assert re.search(rf"port {port} .*in use.*cluster\.scheduler_port", log)


def test_no_such_interface(slurm: MiniSlurm, project: Project) -> None:
    write(project, interface="ib7")
    code, log = run(slurm, project)
    assert code == 2, log
    assert re.search(r"cluster\.interface must be .* got ib7; .* lo", log)
