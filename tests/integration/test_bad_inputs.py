"""What is wrong with disks and images: the documented exit code, and nothing half-written done."""

from __future__ import annotations

import errno
import os
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client

from denoise5d import cli, lock, space
from denoise5d import execute as execute_module
from denoise5d.errors import (
    BlocksFailedError,
    InputError,
    OutputError,
    PlanError,
)
from denoise5d.execute import Run
from runs import Project, structured

Start = Callable[..., Run]

SHAPE = (1, 1, 1, 96, 96)
CHUNKS = (1, 1, 1, 16, 16)
BLOCKS = 36
"""One a chunk; the fingerprint looks at 16 chunks, and at neither the first nor the middle one."""


@pytest.fixture
def film(project: Project) -> Project:
    """A run of many small blocks, each a chunk of the input and one of the output."""
    project.image(structured(SHAPE, "uint16"), chunks=CHUNKS)
    return project.write(
        output={"chunks": list(CHUNKS), "shards": None},
        denoise={"iterations": 1},
        blocks={"shape": list(CHUNKS), "retries": 1},
    )


def fails(project: Project, start: Start, *, done: int) -> str:
    """Run; some blocks must fail, and so many be done. Return the message."""
    with pytest.raises(BlocksFailedError) as caught:
        start(project)
    assert caught.value.exit_code == 3
    assert len(project.records()) == done
    return str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"rubbish"], ids=["cut", "empty", "rubbish"])
@pytest.mark.parametrize(("key", "blocks"), [("c/0/0/0/0/0", 4), ("c/0/0/0/3/0", 6)])
def test_a_damaged_chunk(
    key: str, blocks: int, content: bytes | None, film: Project, start: Start
) -> None:
    """The blocks that read it fail, also if they are the first ones; all others are done."""
    mend = film.damage(key, content)
    message = fails(film, start, done=BLOCKS - blocks)
    assert key in message
    assert f"{blocks} of {BLOCKS} blocks failed, {BLOCKS - blocks} are done" in message
    before = film.lines()

    mend()
    start(film)
    assert film.lines()[: len(before)] == before
    film.check()


def test_a_damaged_chunk_that_is_noticed_at_once(
    film: Project, start_without_workers: Start
) -> None:
    film.damage("c/0/0/0/0/1")
    with pytest.raises(InputError, match="c/0/0/0/0/1 cannot be read") as caught:
        start_without_workers(film)
    assert caught.value.exit_code == 2
    assert not film.output.exists()
    assert not film.ledger.exists()


def test_nan_in_an_image(project: Project, start: Start) -> None:
    data = structured(SHAPE, "float32")
    data[0, 0, 0, 50, 83] = np.nan
    project.image(data, chunks=CHUNKS).write(
        output={"chunks": [1, 1, 1, 32, 32], "shards": None},
        denoise={"iterations": 1},
        blocks={"shape": [1, 1, 1, 32, 32], "retries": 0},
    )
    message = fails(project, start, done=8)
    assert "1 of 9 blocks failed" in message
    assert "TCZYX (0, 0, 0, 50, 83)" in message


def test_all_blocks_fail_alike(project: Project, start: Start) -> None:
    """Thirty-six would fail: a few are enough to know."""
    project.image(np.full(SHAPE, np.inf, np.float32), chunks=CHUNKS).write(
        output={"chunks": list(CHUNKS), "shards": None},
        blocks={"shape": list(CHUNKS), "retries": 1},
    )
    message = fails(project, start, done=0)
    assert re.search(r"[3-6] of 36 blocks failed, .* 3[0-3] were left undone", message)


def test_a_disk_that_becomes_full(film: Project, client: Client, start: Start) -> None:
    """A limit on the size of files stands for it: writing begins, and breaks off."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    client.run(resource.setrlimit, resource.RLIMIT_FSIZE, (100, hard))
    try:
        message = fails(film, start, done=0)
    finally:
        client.run(resource.setrlimit, resource.RLIMIT_FSIZE, (hard, hard))
    assert os.strerror(errno.EFBIG) in message
    start(film)
    film.check()
    assert not list(film.output.rglob("*.partial"))


def test_an_output_that_cannot_be_written(film: Project, start: Start) -> None:
    """As without permission; which does not stop the superuser, who may run these tests."""
    with pytest.MonkeyPatch.context() as patch:
        blocker = film.output / "0" / "c"

        create = execute_module.create_output

        def created(*args: Any, **options: Any) -> None:
            create(*args, **options)
            blocker.write_text("a file where a folder should be")

        patch.setattr(execute_module, "create_output", created)
        message = fails(film, start, done=0)
    assert "cannot be written" in message
    blocker.unlink()
    start(film)
    film.check()


def test_no_space(film: Project, start_without_workers: Start) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(space, "free_bytes", lambda _: 2 * 96 * 96 - 1)
        with pytest.raises(PlanError, match="make room") as caught:
            start_without_workers(film)
    assert caught.value.exit_code == 2
    assert not film.output.exists()
    assert not film.ledger.exists()


REFUSED: list[tuple[str, type[Exception], dict[str, Any], str]] = [
    ("missing path", InputError, {"input": {"path": "no.zarr"}}, "no.zarr does not exist"),
    ("another shape", InputError, {"input": {"shape": [1, 1, 1, 96, 95], "dtype": "uint16"}},
     r"input.shape must be the image's own, \(1, 1, 1, 96, 96\), got \(1, 1, 1, 96, 95\)"),
    ("another type", InputError, {"input": {"shape": list(SHAPE), "dtype": "uint8"}},
     "input.dtype must be the image's own, uint16, got uint8"),
    ("no folder", OutputError, {"output": {"path": "a/b/out.zarr"}}, "folder of output.path"),
    ("file as folder", OutputError, {"output": {"path": "run.yaml/o.zarr"}}, "folder of output"),
    ("channels", Exception, {"noise": {"sigma": [1, 2]}}, "noise must give one value"),
    ("memory", PlanError, {"cluster": {"memory": 0.1}}, "GiB"),
    ("machine", PlanError, {"cluster": {"memory": 1e6}}, "cluster.memory must fit the machine"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "sections", "message"), [r[1:] for r in REFUSED],
                         ids=[r[0] for r in REFUSED])  # fmt: skip
def test_refused_before_anything_is_written(
    error: type[Exception],
    sections: dict[str, Any],
    message: str,
    film: Project,
    start_without_workers: Start,
) -> None:
    film.write(**sections)
    with pytest.raises(error, match=message) as caught:
        start_without_workers(film)
    assert caught.value.exit_code == 2  # type: ignore[attr-defined]
    assert not film.output.exists()
    assert not film.ledger.exists()


@pytest.mark.parametrize("dtype", ["bool", "complex64", "float16"])
def test_a_type_that_is_no_image(
    dtype: str, project: Project, start_without_workers: Start
) -> None:
    project.image(np.zeros(SHAPE, dtype)).write()
    with pytest.raises(InputError, match=r"float32|integers"):
        start_without_workers(project)
    assert not project.output.exists()


def test_the_command_answers_an_error_of_the_system(
    film: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors of the operating system are messages too, with the file they are about."""

    def forbid(path: Path, *_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(lock.os, "open", forbid)
    monkeypatch.setattr(sys, "argv", ["denoise5d", "run", str(film.yaml)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert "Permission denied" in capsys.readouterr().err
