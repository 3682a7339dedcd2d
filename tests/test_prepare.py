"""What a node has, and what a worker gets of it: never more than its job may ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from denoise5d.batch import job_gib
from denoise5d.budget import DRIVER_BYTES, WORKER_HEADROOM_BYTES, machine_of
from denoise5d.config import Config, load_config
from denoise5d.errors import PlanError
from denoise5d.machine import GIB, Machine
from denoise5d.prepare import Job, describe_input, prepare
from fake_slurm import FakeSlurm

KINDS = ("slurm", "allocation")
SINFO = "main|16|64500\nmain|32|129000\n"  # MiB


def load(folder: Path, kind: str = "slurm", blocks: Any = None, **cluster: Any) -> Config:
    document = {
        "input": {"path": "in.zarr", "shape": [1, 1, 64, 512, 512], "dtype": "uint16"},
        "output": {"path": "out.zarr", "chunks": [1, 1, 16, 32, 32], "shards": None},
        "denoise": {"method": "safir"},
        "blocks": blocks or {},
        "cluster": {"kind": kind, "walltime": "12:00:00"} | cluster,
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(document))
    return load_config(path)


def planned(config: Config, machine: Machine | None = None) -> Job:
    return prepare(config, describe_input(config), machine or machine_of(config))


def beside(kind: str) -> int:
    """Return the bytes of a job that are not its worker's."""
    return WORKER_HEADROOM_BYTES + (DRIVER_BYTES if kind == "allocation" else 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepare")


# -- what a node has -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_memory_given(fake: FakeSlurm, tmp_path: Path, kind: str) -> None:
    count = {"slurm": "jobs", "allocation": "nodes"}[kind]
    budget = planned(load(tmp_path, kind, cpus=7, memory=30, **{count: 3})).plan.budget
    assert (budget.workers, budget.threads) == (3, 7)
    assert budget.memory_bytes == 30 * GIB - beside(kind)
    assert fake.calls() == []  # what a node has need not be known


def test_part_of_a_gib_is_not_asked_for(tmp_path: Path) -> None:
    budget = planned(load(tmp_path, cpus=1, memory=30.9)).plan.budget
    assert budget.memory_bytes == 30 * GIB - beside("slurm")


def test_auto_takes_the_smallest_node(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.says("sinfo", SINFO)
    config = load(tmp_path, partition="main")
    assert machine_of(config) == Machine(16, 64500 * 2**20)
    budget = planned(config).plan.budget
    assert budget.threads == 16
    assert budget.memory_bytes == 62 * GIB - beside("slurm")  # 62.99 GiB, in whole ones


@pytest.mark.parametrize(
    ("kind", "exclusive", "gib"),
    [
        ("slurm", False, 15),
        ("slurm", True, 62),
        ("allocation", False, 62),
        ("allocation", True, 62),
    ],
)
def test_the_share_of_a_node(
    fake: FakeSlurm, tmp_path: Path, kind: str, exclusive: bool, gib: int
) -> None:
    fake.says("sinfo", SINFO)
    config = load(tmp_path, kind, partition="main", cpus=4, exclusive=exclusive)
    budget = planned(config).plan.budget
    assert budget.threads == 4
    assert budget.memory_bytes == gib * GIB - beside(kind)  # a quarter of 62.99 GiB, or all


def test_with_blocks_given_no_node_need_be_known(fake: FakeSlurm, tmp_path: Path) -> None:
    shape = {"shape": [1, 1, 64, 256, 256]}
    found = planned(load(tmp_path, cpus=4, blocks=shape)).plan
    assert list(found.grid.block_shape) == shape["shape"]
    assert found.bytes_per_worker < 2 * GIB
    assert fake.calls() == []


@pytest.mark.parametrize(
    "keys", [{}, {"cpus": 4}, {"memory": 30}, {"blocks": {"shape": [1, 1, 64, 256, 256]}}]
)
def test_a_node_that_nobody_knows(fake: FakeSlurm, tmp_path: Path, keys: Any) -> None:
    config = load(tmp_path, partition="main", **keys)
    with pytest.raises(PlanError, match="what the nodes of main have is not known here") as caught:
        machine_of(config)
    for key in ("cluster.cpus", "cluster.memory", "blocks.shape", "cluster.partition"):
        assert key in str(caught.value)
    with pytest.raises(PlanError, match="the nodes of the default partition have"):
        machine_of(load(tmp_path, **keys))
    assert fake.calls() == []  # there is no sinfo


def test_memory_alone_leaves_the_processors_to_the_node(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.says("sinfo", SINFO)
    budget = planned(load(tmp_path, partition="main", memory=30)).plan.budget
    assert (budget.threads, budget.memory_bytes) == (16, 30 * GIB - beside("slurm"))


# -- too little ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "memory", "least"),
    [
        ("slurm", 0.4, 1),
        ("slurm", 0.9, 1),  # a job asks for whole GiB
        ("allocation", 8, 9),
        ("allocation", 8.9, 9),
    ],
)
def test_memory_that_leaves_nothing_for_the_worker(
    tmp_path: Path, kind: str, memory: float, least: int
) -> None:
    with pytest.raises(PlanError) as caught:
        planned(load(tmp_path, kind, cpus=1, memory=memory))
    words = str(caught.value)
    assert f"cluster.memory must be at least {least} GiB" in words
    assert f"{beside(kind) / GIB:.1f} GiB" in words
    assert words.endswith(f"got {memory:g} GiB")


@pytest.mark.parametrize("kind", KINDS)
def test_memory_too_small_for_a_block(tmp_path: Path, kind: str) -> None:
    memory = beside(kind) // GIB + 1
    blocks = {"shape": [1, 1, 64, 512, 512]}
    with pytest.raises(PlanError, match=r"needs \S+ GiB a worker .* but a worker has 0\.50 GiB"):
        planned(load(tmp_path, kind, cpus=1, memory=memory, blocks=blocks))


# -- never more than allowed -----------------------------------------------------------------------

LENGTHS = st.sampled_from([32, 64, 128, 256, 512])
SHAPES = st.none() | st.tuples(st.just(1), st.just(1), st.just(64), LENGTHS, LENGTHS)


@given(st.sampled_from(KINDS), st.floats(0.1, 500), st.floats(1, 200), SHAPES)
@example("slurm", 2.0, 6.0, None)
@example("slurm", 2.99, 6.0, None)
@example("allocation", 11.0, 6.0, None)
def test_no_job_asks_for_more_than_allowed(
    folder: Path, kind: str, memory: float, factor: float, shape: tuple[int, ...] | None
) -> None:
    blocks = {"memory_factor": factor, "shape": list(shape) if shape else "auto"}
    config = load(folder, kind, blocks=blocks, cpus=1, memory=memory)
    try:
        plan = planned(config).plan
    except PlanError:
        assume(False)
        raise
    assert job_gib(config, plan) <= memory
    assert plan.bytes_per_worker + beside(kind) <= job_gib(config, plan) * GIB


@given(st.sampled_from(KINDS), st.floats(1, 200), SHAPES.filter(bool))
def test_a_plan_that_needs_it_exactly_fits(
    folder: Path, kind: str, factor: float, shape: tuple[int, ...]
) -> None:
    blocks = {"memory_factor": factor, "shape": list(shape)}
    gib = job_gib(
        free := load(folder, kind, blocks=blocks, cpus=1, memory=10**5), planned(free).plan
    )
    exact = load(folder, kind, blocks=blocks, cpus=1, memory=gib)
    assert job_gib(exact, planned(exact).plan) == gib
    with pytest.raises(PlanError):
        planned(load(folder, kind, blocks=blocks, cpus=1, memory=gib - 0.01))
