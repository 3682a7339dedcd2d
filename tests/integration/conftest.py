"""A cluster that many runs share, since starting one takes seconds; and a folder for each run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path

import pytest
from distributed import Client

from denoise5d import execute as execute_module
from denoise5d.cluster import Workers
from denoise5d.cluster.local import local_cluster
from denoise5d.execute import Run, execute
from denoise5d.geometry import BlockGrid
from denoise5d.plan import Budget, Layout, Plan
from runs import Project

Start = Callable[..., Run]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """Two workers of two threads each."""
    budget = Budget(workers=2, threads=2, memory_bytes=2**31, memory_factor=6, reserve_bytes=2**30)
    shape = (1, 1, 1, 64, 64)
    plan = Plan(BlockGrid(shape, shape, (0,) * 5), Layout(shape), budget, exact_halo=True)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        with pytest.MonkeyPatch.context() as briefly:
            # dask silences the handlers of these loggers, and pytest's own are among them
            briefly.setattr(logging.getLogger("distributed"), "handlers", [])
            briefly.setattr(logging.getLogger("bokeh"), "handlers", [])
            client = stack.enter_context(local_cluster(plan))
        yield client


@pytest.fixture(scope="session")
def start(client: Client) -> Start:
    """Return what runs a project in this process, on the shared workers."""
    return partial(_start, lambda job: nullcontext(Workers(client, job.plan.budget.threads)))


@pytest.fixture
def start_without_workers() -> Start:
    """Return what runs a project in this process, and fails if it comes to starting workers."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("workers were started")

    return partial(_start, refuse)


def _start(workers: Callable[..., object], project: Project, *, overwrite: bool = False) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute_module, "start_workers", workers)
        return execute(
            project.config(),
            overwrite=overwrite,
            on_begin=lambda _: None,
            on_block=lambda *_: None,
        )
