"""The promise about memory, on a SLURM that kills jobs over their limit: the plan suffices."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
import zarr

from cluster_runs import job_driver, run, slow_image, write
from denoise5d.batch import worker_gib
from denoise5d.budget import WORKER_HEADROOM_BYTES
from denoise5d.machine import GIB, Machine
from denoise5d.plan import Plan
from denoise5d.prepare import open_input, prepare
from mini_slurm import MiniSlurm
from runs import Project

BLOCK = (1, 1, 1, 8192, 6144)
BLOCKS = 2


@pytest.fixture
def large(tmp_path: Path) -> Project:
    """Two blocks of 192 MiB of float32, of nothing that takes time to compress."""
    project = Project(tmp_path)
    chunk = (1, 1, 1, 1024, 1024)
    shape = (1, BLOCKS, *BLOCK[2:])
    image = zarr.create_array(project.input, shape=shape, dtype="float32", chunks=chunk)
    image[...] = 40
    return _write(project)


def _write(project: Project, **cluster: object) -> Project:
    write(project, jobs=1, cpus=2, memory=4, **cluster)
    document = yaml.safe_load(project.yaml.read_text())
    document["output"] = {"path": "out.zarr", "chunks": [1, 1, 1, 1024, 1024], "shards": None}
    document["denoise"] = {"method": "safir", "iterations": 2, "patch": [0, 0, 0, 0, 0]}
    document["blocks"] = {"shape": list(BLOCK), "retries": 0}
    project.yaml.write_text(yaml.safe_dump(document))
    return project


def _plan(project: Project) -> Plan:
    config = project.config()
    return prepare(config, open_input(config).info, Machine(2, 2**40)).plan


def test_the_plan_suffices_and_half_of_it_does_not(slurm: MiniSlurm, large: Project) -> None:
    plan = _plan(large)
    half = (plan.bytes_per_worker + WORKER_HEADROOM_BYTES) // 2**21
    _write(large, extra_directives=[f"--mem={half}M"])
    code, log = run(slurm, large, pace=0)
    assert code == 3, log
    assert re.search(  # SLURM looks each second; dask, which learns of the limit, more often
        rf"(SLURM killed it for its memory|it took more memory than it has and was killed).*"
        rf"blocks\.memory_factor.*asked for "
        rf"--mem={half}M; planned were {plan.bytes_per_worker / GIB:.2f} GiB.*"
        rf"--mem={worker_gib(plan)}G",
        log,
    )
    assert large.records() == []

    _write(large)
    code, log = run(slurm, large, pace=0)
    assert code == 0, log
    assert {record.attempts for record in large.records()} == {1}
    first, second = large.result()[0]
    np.testing.assert_array_equal(first, second)
    assert np.ptp(first) < 1e-3
    peak = max(record.peak_bytes for record in large.records())
    assert half * 2**20 < peak <= plan.bytes_per_worker


def test_a_job_over_its_limit(slurm: MiniSlurm, tmp_path: Path) -> None:
    """SLURM ends it: a process beside the worker, of which dask knows nothing, takes the memory."""
    project = write(slow_image(Project(tmp_path)))
    with job_driver(slurm, project, pace=0.05) as driver:
        driver.hog(5, beside=True)
        driver.wait_for(lambda: "block 5 failed, attempt 1 of 3" in driver.log())
        driver.let_go()
        assert driver.finish() == 0, driver.log()
        words = r"block 5 failed.* SLURM killed it for its memory on node\d.*blocks\.memory_factor"
        assert re.search(words, driver.log())
        assert len(driver.recorded()) <= 3
    assert [r.attempts for r in project.records() if r.block == 5] == [2]
    project.check()


def test_a_block_over_the_limit_of_its_worker(slurm: MiniSlurm, tmp_path: Path) -> None:
    """Dask ends it, before SLURM does, and the job goes on with another worker."""
    project = write(slow_image(Project(tmp_path)))
    with job_driver(slurm, project, pace=0.05) as driver:
        driver.hog(5)
        driver.wait_for(lambda: "block 5 failed, attempt 1 of 3" in driver.log())
        driver.let_go()
        assert driver.finish() == 0, driver.log()
        words = r"block 5 failed.* took more memory than it has.*blocks\.memory_factor.*--mem=1G"
        assert re.search(words, driver.log())
        assert len(driver.recorded()) == 2
    assert [r.attempts for r in project.records() if r.block == 5] == [2]
    project.check()
