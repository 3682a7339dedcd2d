"""The jobs of a run: what is written beside the ledger is what is read again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from denoise5d.jobs import (
    ask_to_stop,
    asked_to_stop,
    read_driver_facts,
    record_job,
    recorded_jobs,
    write_driver_facts,
)
from denoise5d.ledger import run_folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out put.zarr"


def test_without_a_job(output: Path) -> None:
    assert recorded_jobs(output) == []
    assert read_driver_facts(output) is None
    assert not asked_to_stop(output, "a driver")
    assert not run_folder(output).exists()


def test_what_is_recorded_is_read_in_its_order(output: Path) -> None:
    record_job(output, "7", "driver")
    record_job(output, "7", "begin", done=0)
    record_job(output, "8", "successor")
    record_job(output, "9", "worker")
    found = recorded_jobs(output)
    assert [(r.job, r.role, r.done) for r in found] == [
        ("7", "driver", None),
        ("7", "begin", 0),
        ("8", "successor", None),
        ("9", "worker", None),
    ]
    for record in found:
        age = datetime.now(UTC) - datetime.fromisoformat(record.since)
        assert 0 <= age.total_seconds() < 600


@pytest.mark.parametrize(
    "torn", [b'{"job": "8", "ro', b"\xff\n", b"[]\n", b"7\n", b'{"job": "8", "what": 1}\n', b"\n"]
)
def test_a_line_that_cannot_be_read_is_left_out(output: Path, torn: bytes) -> None:
    record_job(output, "7", "driver")
    with (run_folder(output) / "jobs.jsonl").open("ab") as file:
        file.write(torn)
    assert [record.job for record in recorded_jobs(output)] == ["7"]


def test_a_line_after_a_torn_one_is_not_lost(output: Path) -> None:
    record_job(output, "7", "driver")
    with (run_folder(output) / "jobs.jsonl").open("ab") as file:
        file.write(b'{"job": "8", "ro')
    record_job(output, "9", "worker")
    record_job(output, "10", "worker")
    assert [record.job for record in recorded_jobs(output)] == ["7", "9", "10"]


def test_many_append_at_once(output: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: record_job(output, str(n), "worker"), range(200)))
    assert sorted(int(record.job) for record in recorded_jobs(output)) == list(range(200))


def test_only_the_driver_that_is_named_is_asked_to_stop(output: Path) -> None:
    run_folder(output).mkdir()
    ask_to_stop(output, "process 1 on a")
    assert asked_to_stop(output, "process 1 on a")
    assert not asked_to_stop(output, "process 11 on a")
    assert not asked_to_stop(output, "process 1 on")
    ask_to_stop(output, "process 2 on a")
    assert not asked_to_stop(output, "process 1 on a")
    assert [path.name for path in run_folder(output).iterdir()] == ["stop"]


def test_facts_of_the_last_driver(output: Path) -> None:
    run_folder(output).mkdir()
    write_driver_facts(output, "node1", None)
    assert read_driver_facts(output) == ("node1", None)
    write_driver_facts(output, "node2", 8787)
    assert read_driver_facts(output) == ("node2", 8787)
    assert [path.name for path in run_folder(output).iterdir()] == ["driver.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"host": "a"}', "7"])
def test_facts_that_cannot_be_read_are_none(output: Path, text: str) -> None:
    run_folder(output).mkdir()
    (run_folder(output) / "driver.json").write_text(text)
    assert read_driver_facts(output) is None
