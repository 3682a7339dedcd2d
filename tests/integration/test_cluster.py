"""The workers: who may talk to them, their threads, and how much they are sent at a time."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from contextlib import nullcontext

import pytest
from distributed import Client
from distributed.security import Security

from denoise5d import execute as execute_module
from denoise5d.cluster import Workers
from denoise5d.dispatch import _AHEAD
from denoise5d.execute import Run
from denoise5d.machine import peak_bytes
from denoise5d.records import BlockRecord
from denoise5d.task import BLOCKS_IN_A_WORKER, probe
from runs import Project, run, structured


@pytest.mark.parametrize("security", [None, Security.temporary()], ids=["plain", "own certificate"])
def test_a_stranger_is_refused(security: Security | None, client: Client) -> None:
    address = client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    if security is None:
        address = address.replace("tls://", "tcp://")
    with pytest.raises(OSError, match=r"Timed out|certificate|handshake|closed|refused"):
        Client(address, security=security, timeout=3, set_as_default=False)
    assert client.run(probe, 1), "and the workers are as they were"


def test_no_pages_are_served(client: Client) -> None:
    server = client.cluster.scheduler.http_server
    assert server.address == "127.0.0.1"
    for page in ("info/main/workers.html", "json/counts.json", "metrics", "health", "status"):
        with pytest.raises(urllib.error.HTTPError, match="404") as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/{page}", timeout=30)
        caught.value.close()


def test_threads_reach_the_kernel(client: Client) -> None:
    assert set(client.run(os.getenv, "OMP_NUM_THREADS").values()) == {"1"}, "as dask sets it"
    assert set(client.run(probe, 2).values()) == {2}


def test_threads_that_do_not_reach_the_kernel(project: Project) -> None:
    project.image(structured((1, 1, 1, 32, 32), "uint8")).write(cluster={"workers": 1, "cpus": 2})
    code, log = run(project, env=os.environ | {"OMP_THREAD_LIMIT": "1"})
    assert code == 2
    assert "1 threads instead of cluster.cpus = 2" in log
    assert "OMP_THREAD_LIMIT" in log
    assert project.records() == []


def test_peak_memory_is_that_of_the_worker_alone(client: Client) -> None:
    """A child begins with the peak of its parent in `getrusage`: 300 MB here."""
    held = bytearray(300 * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    client.restart()
    assert max(client.run(peak_bytes).values()) < len(held)


def test_few_blocks_are_under_way_at_a_time(project: Project, client: Client) -> None:
    """Neither the scheduler nor the client knows more than a few of the 784 blocks."""
    project.image(structured((1, 1, 1, 112, 112), "uint8"), chunks=(1, 1, 1, 112, 112)).write(
        output={"chunks": [1, 1, 1, 4, 4], "shards": None},
        denoise={"iterations": 1, "patch": [0, 0, 0, 1, 1]},
        blocks={"shape": [1, 1, 1, 4, 4]},
    )
    known: list[int] = []
    under_way: list[int] = []

    def look(_: Run, __: BlockRecord) -> None:
        scheduler = client.cluster.scheduler
        known.append(max(len(scheduler.tasks), len(client.futures)))
        under_way.extend(len(worker.processing) for worker in scheduler.workers.values())

    with pytest.MonkeyPatch.context() as patch:
        workers = Workers(client, 1)
        patch.setattr(execute_module, "start_workers", lambda _: nullcontext(workers))
        execute_module.execute(
            project.config(), overwrite=False, on_begin=lambda _: None, on_block=look
        )
    project.check()
    assert len(known) == 784
    assert max(known) <= 2 * _AHEAD * 2 * BLOCKS_IN_A_WORKER, "handed out, and not yet forgotten"
    assert max(under_way) <= BLOCKS_IN_A_WORKER, "what it held in reserve would die with it"
