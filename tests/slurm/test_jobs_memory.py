"""The promise about memory, on a SLURM that kills jobs over their limit: the plan suffices."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
import zarr

from cluster_runs import job_driver, run, write
from mini_slurm import MiniSlurm
from runs import Project, structured

BLOCK = (1, 1, 1, 8192, 4096)
BLOCKS = 3


@pytest.fixture
def large(tmp_path: Path) -> Project:
    """An image of blocks of 128 MiB of float32."""
    project = Project(tmp_path)
    chunk = (1, 1, 1, 1024, 1024)
    image = zarr.create_array(
        project.input, shape=(1, BLOCKS, *BLOCK[2:]), dtype="float32", chunks=chunk
    )
    tile = structured(chunk, "float32")[0, 0, 0]
    for channel in range(BLOCKS):
        image[0, channel, 0] = np.tile(tile, (8, 4))
    write(project, jobs=1, cpus=2, memory=4)
    document = yaml.safe_load(project.yaml.read_text())
    document |= {
        "output": {"path": "out.zarr", "chunks": list(chunk), "shards": None},
        "denoise": {"method": "safir", "iterations": 1, "patch": [0, 0, 0, 0, 0]},
        "blocks": {"shape": list(BLOCK), "retries": 0},
    }
    project.yaml.write_text(yaml.safe_dump(document))
    return project


def _with(project: Project, *directives: str) -> None:
    document = yaml.safe_load(project.yaml.read_text())
    document["cluster"]["extra_directives"] = list(directives)
    project.yaml.write_text(yaml.safe_dump(document))


def test_half_the_memory_is_killed_and_all_of_it_finishes(slurm: MiniSlurm, large: Project) -> None:
    _with(large, "--mem=1G")
    code, log = run(slurm, large, pace=0)
    assert code in (2, 3), log
    print(log)
    _with(large)
    with job_driver(slurm, large, pace=0) as driver:
        assert driver.finish() == 0, driver.log()
        print(driver.log())
    assert max(r.peak_bytes for r in large.records()) 
