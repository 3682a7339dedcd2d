"""The status: from a ledger and a lock alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from denoise5d.cli import cli
from denoise5d.errors import OutputError
from denoise5d.jobs import record_job, write_driver_facts
from denoise5d.ledger import LEDGER_NAME, LOCK_NAME, Ledger, run_folder
from denoise5d.lock import OutputLock, Owner
from denoise5d.records import BlockRecord, StageSeconds
from denoise5d.status import Status, Tally, read_status
from fake_slurm import FakeSlurm

BEGIN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HEADER = {
    "blocks": 4,
    "image_shape": [1, 1, 4, 16, 10],
    "block_shape": [1, 1, 4, 8, 8],
    "halo": [0, 0, 1, 2, 2],
}
CORES = [4 * 8 * 8, 4 * 8 * 2, 4 * 8 * 8, 4 * 8 * 2]  # voxels: the last column is ragged


def record(block: int, *, worker: str = "0", after: float = 0, attempts: int = 1) -> BlockRecord:
    """Return a block that took 15 s: 1 to read, 1 of waiting, 10, 2, and 1 to verify."""
    return BlockRecord(
        block=block,
        worker=worker,
        job=None,
        start=(BEGIN + timedelta(seconds=after)).isoformat(timespec="milliseconds"),
        seconds=StageSeconds(1.0, 10.0, 2.0, 1.0, wait=1.0),
        peak_bytes=1000 + block,
        checksums=("0",),
        attempts=attempts,
    )


@pytest.fixture
def output(tmp_path: Path) -> Path:
    path = tmp_path / "out put.zarr"
    path.mkdir()
    return path


def begin(output: Path, *records: BlockRecord) -> Ledger:
    ledger = Ledger.create(run_folder(output) / LEDGER_NAME, HEADER)
    ledger.append(records)
    return ledger


def test_not_begun(tmp_path: Path) -> None:
    path = tmp_path / "no.zarr"
    assert read_status(path) == Status(str(path), "not begun")
    assert not list(tmp_path.iterdir())


def test_starting_while_there_are_no_blocks_yet(output: Path) -> None:
    run_folder(output).mkdir()
    with OutputLock(run_folder(output) / LOCK_NAME):
        found = read_status(output)
        assert (found.state, found.blocks) == ("starting", 0)
        assert str(Owner.of_this_process().pid) in (found.owner or "")
    assert read_status(output).state == "not begun"


def test_begun_without_a_block(output: Path) -> None:
    begin(output)
    assert read_status(output) == Status(str(output), "stopped", blocks=4, voxels=sum(CORES))


def test_stopped(output: Path) -> None:
    begin(output, record(1), record(2, worker="1", after=1, attempts=3))
    found = read_status(output)
    assert (found.state, found.owner, found.seconds_left) == ("stopped", None, None)
    assert (found.blocks, found.blocks_done, found.retried) == (4, 2, 1)
    assert (found.voxels, found.voxels_done) == (sum(CORES), CORES[1] + CORES[2])
    assert found.last_block == "2026-01-02T03:04:21+00:00"
    assert (found.read_seconds, found.kernel_seconds) == (2, 20)
    assert (found.write_seconds, found.verify_seconds) == (4, 2)
    assert found.peak_bytes == 1002
    assert found.voxels_per_second == 2 * (CORES[1] + CORES[2]) / 20


def test_running(output: Path) -> None:
    begin(output, record(0), record(1, worker="1"))
    with OutputLock(run_folder(output) / LOCK_NAME):
        found = read_status(output)
    assert found.state == "running"
    assert found.owner is not None
    rate = 2 * (CORES[0] + CORES[1]) / 20
    assert found.seconds_left == pytest.approx((CORES[2] + CORES[3]) / rate)


def test_an_owner_that_is_dead_does_not_run(output: Path) -> None:
    begin(output)
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    dead = replace(Owner.of_this_process(), pid=int(child.stdout), began="1")
    (run_folder(output) / LOCK_NAME).write_text(json.dumps(asdict(dead)))
    assert read_status(output).state == "stopped"


def test_done(output: Path) -> None:
    begin(output, *(record(block) for block in (3, 1, 0, 2)))
    found = read_status(output)
    assert (found.state, found.blocks_done, found.voxels_done) == ("done", 4, found.voxels)
    assert found.seconds_left is None


def test_a_block_that_is_told_twice_counts_once(output: Path) -> None:
    ledger = begin(output, record(0))
    text = ledger.path.read_text()
    ledger.path.write_text(text + text.splitlines()[-1] + "\n")
    assert read_status(output).blocks_done == 1


def test_a_torn_last_line_is_left_out(output: Path) -> None:
    ledger = begin(output, record(0))
    with ledger.path.open("a") as file:
        file.write('{"block": 1, "wor')
    assert read_status(output).blocks_done == 1


def test_lost_when_the_output_is_gone(output: Path) -> None:
    begin(output, *(record(block) for block in range(4)))
    output.rmdir()
    assert read_status(output).state == "lost"


@pytest.mark.parametrize(
    "header", [{"blocks": 4}, HEADER | {"halo": [1, 2]}, HEADER | {"block_shape": "all"}]
)
def test_a_ledger_without_a_grid_is_refused(output: Path, header: dict[str, object]) -> None:
    Ledger.create(run_folder(output) / LEDGER_NAME, header)
    with pytest.raises(OutputError, match=r"ledger\.jsonl does not say how its run was cut"):
        read_status(output)


def test_looking_changes_nothing(output: Path) -> None:
    ledger = begin(output, record(0))
    before = {path: path.stat() for path in ledger.path.parent.iterdir()}
    read_status(output)
    assert {path: path.stat() for path in ledger.path.parent.iterdir()}.keys() == before.keys()
    assert ledger.path.stat().st_mtime_ns == before[ledger.path].st_mtime_ns


def test_without_a_block_there_is_no_rate() -> None:
    assert Tally().rate() is None
    assert Tally().last is None


def test_the_longer_of_kernel_and_files_counts() -> None:
    tally = Tally()
    tally.add(replace(record(0), seconds=StageSeconds(20.0, 10.0, 2.0, 3.0, wait=5.0)), 100)
    assert tally.rate() == 4
    assert tally.last == BEGIN + timedelta(seconds=40)


def test_pauses_between_runs_do_not_count() -> None:
    tally = Tally()
    tally.add(record(0, after=0), 100)
    tally.add(record(1, after=86400), 100)
    assert tally.rate() == 10


def test_blocks_of_the_run_before_count_only_without_others() -> None:
    tally, since = Tally(), BEGIN + timedelta(seconds=50)
    for worker in range(8):
        tally.add(record(0, worker=str(worker)), 100)
    assert tally.rate(since=since) == 80
    tally.add(record(1, worker="0", after=60), 100)
    assert tally.rate(since=since) == 10


def test_the_number_of_workers_may_be_known() -> None:
    tally = Tally()
    tally.add(record(0), 100)
    assert (tally.rate(), tally.rate(workers=4)) == (10, 40)


def test_the_rate_is_that_of_the_last_blocks() -> None:
    tally = Tally()
    for _ in range(10):
        tally.add(record(0), 10**9)
    for _ in range(64):
        tally.add(record(0), 100)
    assert tally.rate() == 10
    assert tally.blocks == 74


# -- jobs ------------------------------------------------------------------------------------------

SQUEUE = (
    "6|RUNNING|None|node9|somebody else's\n"
    "7|RUNNING|None|node1|denoise5d\n"
    "8|PENDING|Dependency||denoise5d\n"
    "9|RUNNING|None|node2|denoise5d-worker\n"
    "10|RUNNING|None|node3|denoise5d-worker\n"
    "11|PENDING|Priority||denoise5d-worker\n"
)


def table(output: Path) -> dict[str, str]:
    """Return the rows that `denoise5d status` prints by their names."""
    path = output.parent / "run.yaml"
    document = {"input": {"path": "in.zarr"}, "output": {"path": str(output)}}
    path.write_text(yaml.safe_dump(document))
    result = CliRunner().invoke(cli, ["status", str(path)], catch_exceptions=False)
    lines = result.stdout.splitlines()[1:]
    return dict(re.split(" {2,}", line.strip(), maxsplit=1) for line in lines)


def submitted(output: Path, *workers: int) -> None:
    record_job(output, "7", "driver")
    record_job(output, "8", "successor")
    for worker in workers:
        record_job(output, str(worker), "worker")


def test_jobs_of_this_run_and_no_others(output: Path, fake: FakeSlurm) -> None:
    fake.says("squeue", SQUEUE)
    submitted(output, 9, 10, 11, 12)
    found = read_status(output)
    assert found.jobs is not None
    assert [(job.id, job.state, job.nodes) for job in found.jobs] == [
        ("7", "RUNNING", "node1"),
        ("8", "PENDING", ""),
        ("9", "RUNNING", "node2"),
        ("10", "RUNNING", "node3"),
        ("11", "PENDING", ""),
    ]
    rows = table(output)
    assert rows["driver's job"] == "1 running, 1 pending (Dependency): 7, 8"
    assert rows["workers' jobs"] == "2 running, 1 pending (Priority): 9, 10, 11"


def test_many_jobs_are_cut_short(output: Path, fake: FakeSlurm) -> None:
    numbers = range(20, 29)
    fake.says("squeue", "".join(f"{n}|RUNNING|None|node1|denoise5d-worker\n" for n in numbers))
    submitted(output, *numbers)
    assert table(output)["workers' jobs"] == "9 running: 20, 21, 22, 23, 24, 25, 26, 27, ..."


def test_jobs_that_have_all_ended(output: Path, fake: FakeSlurm) -> None:
    fake.says("squeue", SQUEUE.split("\n")[0])
    submitted(output)
    assert read_status(output).jobs == ()
    assert not [name for name in table(output) if "job" in name]


def test_slurm_is_not_asked_where_there_are_no_jobs(output: Path, fake: FakeSlurm) -> None:
    fake.says("squeue", SQUEUE)
    assert read_status(output).jobs == ()
    assert fake.calls() == []


@pytest.mark.parametrize("here", [True, False])
def test_slurm_does_not_answer(output: Path, fake: FakeSlurm, here: bool) -> None:
    if here:
        fake.says("squeue", error="Unable to contact slurm controller", code=1)
    submitted(output)
    begin(output, record(0))
    found = read_status(output)
    assert (found.jobs, found.blocks_done) == (None, 1)
    assert table(output)["jobs"] == "not known: SLURM is not here, or does not answer"


@pytest.mark.parametrize(("page", "shown"), [(8787, True), (None, False)])
def test_the_way_to_the_web_page(output: Path, page: int | None, shown: bool) -> None:
    run_folder(output).mkdir()
    write_driver_facts(output, "node1", page)
    assert read_status(output).tunnel is None  # nobody is at work
    with OutputLock(run_folder(output) / LOCK_NAME):
        found, rows = read_status(output), table(output)
    if shown:
        assert found.tunnel == "ssh -L 8787:localhost:8787 node1"
        assert rows["web page"] == f"{found.tunnel}  and then http://localhost:8787/status"
    else:
        assert found.tunnel is None
        assert "web page" not in rows


def test_a_driver_that_was_killed_on_another_node(output: Path, fake: FakeSlurm) -> None:
    begin(output, record(0))
    submitted(output)
    write_driver_facts(output, "node1", 8787)
    far = replace(Owner.of_this_process(), host="node1", boot="another", job="7")
    (run_folder(output) / LOCK_NAME).write_text(json.dumps(asdict(far)))
    assert read_status(output).state == "running"  # SLURM is not here: as far as is known
    fake.says("squeue", SQUEUE)
    assert read_status(output).state == "running"
    fake.says("squeue", SQUEUE.replace("7|", "77|"))
    found = read_status(output)
    assert (found.state, found.owner, found.tunnel) == ("stopped", None, None)
