"""The command line: what it prints where, and the exit codes."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import psutil
import pytest
import yaml
import zarr
from click.testing import CliRunner, Result
from rich.console import Console

from denoise5d.cli import cli, console, main
from denoise5d.cli.display import Bar, Lines
from denoise5d.cli.doctor import findings
from denoise5d.config import load_config
from denoise5d.errors import (
    BlocksFailedError,
    ConfigError,
    Denoise5dError,
    PlanError,
    StoppedEarlyError,
    WrongOutputError,
)
from denoise5d.execute import Pass, Run
from denoise5d.geometry import BlockGrid
from denoise5d.ledger import LEDGER_NAME, Ledger, run_folder
from denoise5d.level_ledgers import level_ledger
from denoise5d.machine import Machine, this_machine
from denoise5d.noise import NoiseModel
from denoise5d.prepare import describe_input, grid_header, prepare
from denoise5d.records import BlockRecord, StageSeconds

GIB = 2**30
COMMANDS = (
    "demo",
    "plan",
    "noise",
    "preview",
    "run",
    "submit",
    "status",
    "cancel",
    "verify",
    "report",
    "convert",
    "schema",
    "doctor",
)


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Put back what `main` sets for its whole process."""
    level, handler = logging.getLogger("denoise5d").level, signal.getsignal(signal.SIGINT)
    hook = sys.unraisablehook
    yield
    sys.unraisablehook = hook
    logging.disable(logging.NOTSET)
    logging.getLogger("denoise5d").setLevel(level)
    signal.signal(signal.SIGINT, handler)


def write_image(path: Path, shape: tuple[int, ...] = (1, 1, 4, 32, 64)) -> None:
    array = zarr.create_array(path, shape=shape, chunks=shape, dtype="uint16")
    array[:] = np.random.default_rng(0).normal(100, 5, shape).astype(np.uint16)


def write_yaml(path: Path, **sections: Any) -> Path:
    """Write a configuration of one worker for `in put.zarr` beside it."""
    document = {
        "input": {"path": "in put.zarr"},
        "output": {"path": "out.zarr", "chunks": [1, 1, 4, 16, 16], "shards": None},
        "noise": {"sigma": 5},
        "denoise": {"iterations": 1},
        "blocks": {"shape": [1, 1, 4, 16, 32]},
        "cluster": {"workers": 1, "cpus": 1, "memory": 1},
    }
    path.write_text(yaml.safe_dump(document | sections))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "my data"
    folder.mkdir()
    write_image(folder / "in put.zarr")
    return write_yaml(folder / "my run.yaml")


def call(*arguments: object) -> Result:
    """Call a command as a program would: errors come out as they are."""
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


def begun_run(config: Path) -> Run:
    """Begin a run without workers; the last of its blocks has come before."""
    loaded = load_config(config)
    job = prepare(loaded, describe_input(loaded), this_machine())
    header = {**grid_header(job.plan), "fingerprint": {}}
    ledger = Ledger.create(run_folder(loaded.output.path) / LEDGER_NAME, header)
    ledger.append([record(job.plan.blocks - 1)])
    return Run(job, ledger, [NoiseModel.gaussian(5)])


def record(block: int) -> BlockRecord:
    return BlockRecord(
        block=block,
        worker="0",
        job=None,
        start="2026-01-02T03:04:05.000+00:00",
        seconds=StageSeconds(0.1, 0.5, 0.3, 0.1),
        peak_bytes=100 * 2**20,
        checksums=("0", "0"),
        attempts=1,
    )


# -- help ----------------------------------------------------------------------------------------


def test_without_arguments_it_shows_help() -> None:
    result = call()
    assert result.exit_code == 0
    assert result.stdout == call("--help").stdout
    named = [line.split()[0] for line in result.stdout.split("Commands:")[1].splitlines() if line]
    assert tuple(named[: len(COMMANDS)]) == COMMANDS
    assert "..." not in result.stdout.split("Commands:")[1]  # no description is cut off
    for code in ("0 done", "2 refused", "3 some", "75", "130", "1 a fault"):
        assert code in " ".join(result.stdout.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example(name: str) -> None:
    result = call(name, "-h")
    assert f"Example:\n    denoise5d {name}" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 100


# -- exit codes ----------------------------------------------------------------------------------

ENDS = [
    (ConfigError("a.yaml:1: wrong"), 2, "error: a.yaml:1: wrong\n"),
    (PlanError("too large [1, 2]"), 2, "error: too large [1, 2]\n"),
    (BlocksFailedError("3 of 4"), 3, "error: 3 of 4\n"),
    (WrongOutputError("wrong"), 3, "error: wrong\n"),
    (StoppedEarlyError("stopped early"), 75, "error: stopped early\n"),
    (Denoise5dError("odd"), 1, "error: odd\n"),
    (
        KeyboardInterrupt(),
        130,
        "error: given up; what is done is kept, and the same command goes on\n",
    ),
    (click.Abort(), 130, "error: given up; what is done is kept, and the same command goes on\n"),
    (
        PermissionError(errno.EACCES, "Permission denied", "/a b"),
        2,
        "error: /a b: Permission denied. Change its permissions, or give another path.\n",
    ),
    (
        OSError(errno.ENOSPC, "No space left on device"),
        2,
        "error: the operating system refused: No space left on device. "
        "Make space, then give the same command again.\n",
    ),
    (OSError("odd"), 2, "error: the operating system refused: odd.\n"),
]


def end(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException | None, *arguments: str
) -> int | str | None:
    """Return the exit code of `main` when the command raises."""

    def callback(**_: object) -> None:
        if raised is not None:
            raise raised

    monkeypatch.setattr(cli.commands["schema"], "callback", callback)
    monkeypatch.setattr(sys, "argv", ["denoise5d", *(arguments or ("schema",))])
    try:
        main()
    except SystemExit as left:
        return left.code
    return 0


@pytest.mark.parametrize(("raised", "code", "words"), ENDS, ids=[repr(e[0]) for e in ENDS])
def test_every_error_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
    words: str,
) -> None:
    assert end(monkeypatch, raised) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.lstrip("\n") == words  # once, and no traceback


def test_a_fault_of_the_program_leaves_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end(monkeypatch, ZeroDivisionError("oh")) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "ZeroDivisionError: oh" in lines
    assert lines[-1].startswith("error: this is a fault of denoise5d, not yours. Please report it")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan"], "Missing argument 'YAML'"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["plan", "--jason", "a.yaml"], "No such option '--jason'"),
        (["run", "/"], "File '/' is a directory"),
        (["convert", "a.tif", "b.zarr", "--series", "x"], "'x' is not a valid integer"),
    ],
)
def test_a_wrong_command_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    assert end(monkeypatch, None, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err


def test_success_and_help_end_with_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ((), ("--help",), ("run", "-h"), ("--version",)):
        assert end(monkeypatch, None, *arguments) == 0
    assert capsys.readouterr().err == ""


def test_odd_names_can_be_printed(tmp_path: Path) -> None:
    """Whatever the locale, and whatever bytes a name is made of."""
    name = os.fsdecode(b"\xff\xc3\xa4.yaml")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "denoise5d", "plan", name],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"does not exist" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_reader_that_leaves_is_no_error() -> None:
    """``denoise5d schema | head -c 1``: the rest is more than a pipe holds."""
    script = (
        "import sys; from denoise5d.cli import console, main\n"
        "console.say('x' * 200_000); sys.argv = ['denoise5d', 'schema']; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


# -- plan ----------------------------------------------------------------------------------------


def test_plan_says_what_a_run_would_do_and_writes_nothing(config: Path) -> None:
    before = sorted(config.parent.rglob("*"))
    result = call("plan", config)
    lines = {line[2:].split("  ")[0]: line for line in result.stdout.splitlines()[1:]}
    assert result.stdout.startswith(f"Plan of {config}\n")
    assert str(config.parent / "in put.zarr") in lines["input"]
    assert "T 1, C 1, Z 4, Y 32, X 64; uint16, 8.19 kvoxel" in lines["image"]
    assert "channel 0: sigma 5" in lines["noise"]
    assert "4 in 4 rounds" in lines["blocks"]
    assert "1, with 1 thread each" in lines["workers"]
    assert "of 1.00 GiB: 6 x " in lines["memory a worker"]
    assert "up to 16.0 KiB needed" in lines["disk"]
    assert "earlier run" not in lines
    assert sorted(config.parent.rglob("*")) == before


def test_the_same_plan_as_json_has_the_keys_of_the_help(config: Path) -> None:
    plan = json.loads(call("plan", "--json", config).stdout)
    assert plan["input"] == str(config.parent / "in put.zarr")
    assert (plan["blocks"], plan["rounds"], plan["output_bytes"]) == (4, 4, 16384)
    assert plan["noise"] == [{"gain": 0, "offset": 25, "read_noise": 5}]
    assert (plan["dtype"], plan["begun"]) == ("uint16", False)
    words = call("plan", "--help").stdout.replace(",", " ").split()
    assert plan.keys() <= set(words)


def test_a_dry_run_is_the_plan(config: Path) -> None:
    assert call("run", "--dry-run", config).stdout == call("plan", config).stdout
    assert not run_folder(config.parent / "out.zarr").exists()


def test_noise_to_be_estimated_is_null(config: Path) -> None:
    write_yaml(config, noise="auto")
    assert json.loads(call("plan", "--json", config).stdout)["noise"] is None
    assert "auto: the run estimates it" in call("plan", config).stdout


def test_an_approximate_halo_is_loud(config: Path) -> None:
    write_yaml(config, blocks={"halo": [0, 0, 0, 1, 1]})
    assert "APPROXIMATE: block edges may show" in call("plan", config).stdout


def test_a_plan_needs_no_image(tmp_path: Path) -> None:
    sized = {"path": "in put.zarr", "shape": [1, 1, 4, 32, 64], "dtype": "uint16"}
    config = write_yaml(tmp_path / "a.yaml", input=sized)
    assert "4 in 4 rounds" in call("plan", config).stdout


def test_too_little_disk_is_refused_after_the_plan_is_shown(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("cli.plan", "space"):
        monkeypatch.setattr(import_module(f"denoise5d.{module}"), "free_bytes", lambda _: 1000)
    result = CliRunner().invoke(cli, ["plan", str(config)])
    assert "up to 16.0 KiB needed, 0.98 KiB free  TOO LITTLE" in result.stdout
    assert isinstance(result.exception, PlanError)
    assert "has 0.98 KiB free, and the output may need 16.0 KiB (" in str(result.exception)
    result = CliRunner().invoke(cli, ["plan", "--json", str(config)])
    assert json.loads(result.stdout)["free_bytes"] == 1000
    assert isinstance(result.exception, PlanError)


def test_an_earlier_run_with_other_parameters_is_refused(config: Path) -> None:
    begun_run(config)
    result = CliRunner().invoke(cli, ["plan", "--json", str(config)])
    assert json.loads(result.stdout)["begun"] is True
    assert "begun with other parameters" in str(result.exception)
    anew = call("run", "--dry-run", "--overwrite", config)
    assert anew.exit_code == 0
    assert "earlier run" not in anew.stdout


# -- status --------------------------------------------------------------------------------------


def test_status_before_during_and_in_json(config: Path) -> None:
    assert "not begun: `denoise5d run` with this YAML begins" in call("status", config).stdout
    begun_run(config)
    (config.parent / "out.zarr").mkdir()
    text = call("status", config).stdout
    assert text.startswith(f"Status of {config}\n")
    for words in (
        "stopped: `denoise5d run` with this YAML goes on",
        "1 of 4 done  (25.0% of 8.19 kvoxel)",
        "ago  (2026-01-02 03:04:06 UTC)",
        "4.10 kvoxel/s over the last blocks",
        "read 0.1 s, kernel 0.5 s, write 0.3 s, verify 0.1 s",
        "100 MiB a worker",
        "0 blocks",
    ):
        assert words in text
    status = json.loads(call("status", "--json", config).stdout)
    assert (status["state"], status["blocks_done"]) == ("stopped", 1)
    assert status.keys() <= set(call("status", "--help").stdout.replace(",", " ").split())


def test_status_of_a_run_whose_output_is_gone(config: Path) -> None:
    begun_run(config)
    assert "lost: the output is gone and its ledger is not" in call("status", config).stdout


def test_status_of_a_broken_yaml_says_what_is_wrong(config: Path) -> None:
    config.write_text("input: {path: a.zarr}\n")
    result = CliRunner().invoke(cli, ["status", str(config)])
    assert isinstance(result.exception, ConfigError)
    assert "output" in str(result.exception)


# -- a run and what it shows ---------------------------------------------------------------------


def test_a_log_has_a_line_for_each_block(
    config: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "denoise5d")
    run, display = begun_run(config), Lines()
    assert not display.begun
    with display:
        display.begin(run)
        for block in range(3):
            run.ledger.append([record(block)])
            display.block(run.stage, record(block))
    assert display.begun
    display.summary(run)
    noise, going_on, plan, first, _, last = caplog.messages
    assert noise == "noise: channel 0: sigma 5"
    assert going_on == "going on: 1 of 4 blocks are done"
    assert plan.startswith("4 blocks of [1, 1, 4, 16, 32], 1 worker with 1 thread and ")
    assert first == (
        "block 0 done (2 of 4) in 1.0 s: read 0.10, kernel 0.50, write 0.30, verify 0.10 s; "
        "peak 100 MiB; worker 0; 4.10 kvoxel/s, 0:00:01 left"
    )
    assert last.endswith("0:00:00 left")
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert lines[0] == f"Done: {config.parent / 'out.zarr'}"
    assert "3 of 4 in this run" in lines[1]
    assert "read 10%, kernel 50%, write 30%, verify 10%" in lines[3]
    assert "100 MiB a worker, " in lines[4]


def test_levels_have_their_lines_and_a_row(
    config: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "denoise5d")
    run, display = begun_run(config), Lines()
    display.begin(run)
    for block in range(3):
        run.ledger.append([record(block)])
        display.block(run.stage, record(block))
    shape, half = (1, 1, 4, 16, 64), (1, 1, 4, 16, 32)
    ledger = Ledger.create(level_ledger(config.parent / "out.zarr", 1), {"blocks": 2})
    level = Pass(run, 1, BlockGrid(shape, half, (0, 0, 0, 0, 0)), ledger, later=0)
    for block in range(2):
        ledger.append([record(block)])
        display.block(level, record(block))
    display.summary(run)
    begun, first, last = caplog.messages[-3:]
    assert begun == "level 1 of the pyramid: [1, 1, 4, 16, 64] in 2 blocks"
    assert first.startswith("level 1, block 0 done (1 of 2) in ")
    assert last.endswith("0:00:00 left")
    rows = capsys.readouterr().out
    assert "3 of 4 in this run" in rows
    assert re.search(r"pyramid +2 blocks of 1 level in ", rows)


def test_levels_alone_are_something_to_do(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an edit of output.pyramid; the bar is that of the level."""
    screen = StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(import_module("denoise5d.cli.display"), "errors", terminal)
    run, display = begun_run(config), Bar()
    run.ledger.append([record(block) for block in range(3)])
    shape = (1, 1, 4, 16, 64)
    ledger = Ledger.create(level_ledger(config.parent / "out.zarr", 1), {"blocks": 1})
    run.stage = Pass(run, 1, BlockGrid(shape, shape, (0, 0, 0, 0, 0)), ledger, later=0)
    with display:
        display.begin(run)
        ledger.append([record(0)])
        display.block(run.stage, record(0))
    display.summary(run)
    assert "level 1: 1/1 blocks" in screen.getvalue()
    rows = capsys.readouterr().out
    assert "in this run" not in rows
    assert re.search(r"pyramid +1 block of 1 level in ", rows)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_plan_counts_the_pyramid(tmp_path: Path, wanted: bool) -> None:
    """Also without the image."""
    yaml_file = tmp_path / "plan.yaml"
    yaml_file.write_text(
        "input: {path: a.zarr, shape: [1, 1, 1, 600, 1000], dtype: uint16}\n"
        "output: {path: b.zarr, chunks: [1, 1, 1, 128, 128], shards: null, "
        f"pyramid: {str(wanted).lower()}}}\n"
    )
    plan = json.loads(call("plan", "--json", yaml_file).stdout)
    text = call("plan", yaml_file).stdout
    voxels, files = 600 * 1000, 5 * 8 + 4
    if wanted:
        assert plan["levels"] == [
            {"shape": [1, 1, 1, 300, 500], "factors": [1, 1, 1, 2, 2], "files": 3 * 4 + 2},
            {"shape": [1, 1, 1, 150, 250], "factors": [1, 1, 1, 4, 4], "files": 2 * 2 + 2},
        ]
        voxels, files = voxels + 300 * 500 + 150 * 250, files + 14 + 6
        assert "2 levels: [1, 1, 1, 300, 500], [1, 1, 1, 150, 250]; 366 KiB" in text
    else:
        assert plan["levels"] == []
        assert "none: output.pyramid is false" in text
    assert (plan["output_bytes"], plan["files"]) == (2 * voxels, files)


def test_a_level_counts_though_all_of_it_was_done_before_it_is_shown(
    config: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "denoise5d")
    run, display = begun_run(config), Lines()
    run.ledger.append([record(block) for block in range(3)])
    display.begin(run)
    for level in (1, 2):
        stage = replace(run.stage, level=level)
        assert stage.complete
        for block in range(3):
            display.block(stage, record(block))
    assert any(line.startswith("level 2 of the pyramid: ") for line in caplog.messages)
    display.summary(run)
    assert "6 blocks of 2 levels in " in capsys.readouterr().out


def test_with_nothing_to_do_it_says_so(
    config: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "denoise5d")
    run, display = begun_run(config), Lines()
    run.ledger.append([record(block) for block in range(3)])
    display.begin(run)
    display.summary(run)
    assert caplog.messages == ["noise: channel 0: sigma 5"]
    assert capsys.readouterr().out == "Nothing to do: all 4 blocks of this run are done.\n"


def test_an_approximate_run_is_warned_of(config: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = begun_run(config)
    run.job = replace(run.job, plan=replace(run.job.plan, exact_halo=False))
    Lines().begin(run)
    assert "is approximate: block edges may show" in caplog.text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_bar_fits_the_terminal(
    config: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = StringIO()
    terminal = Console(file=screen, force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(import_module("denoise5d.cli.display"), "errors", terminal)
    run, bar = begun_run(config), Bar()
    with bar:
        bar.begin(run)
        run.ledger.append([record(0)])
        bar.block(run.stage, record(0))
    shown = screen.getvalue().replace("\x1b[2K", "").replace("\r", "\n").splitlines()
    last = [line for line in shown if "blocks" in line][-1]
    assert last.rstrip().endswith("2/4 blocks, 4.10 kvoxel/s, 0:00:00, 0:00:01 left")
    assert len(last) < width


@pytest.fixture
def ending(config: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., BaseException | None]:
    """Return a function that runs with an `execute` that raises, before or after its begin."""

    def run(error: BaseException, *, begun: bool) -> BaseException | None:
        def execute(_: object, *, on_begin: Callable[[Run], None], **__: object) -> None:
            if begun:
                on_begin(begun_run(config))
            raise error

        monkeypatch.setattr(import_module("denoise5d.cli.run"), "execute", execute)
        return CliRunner().invoke(cli, ["run", str(config)]).exception

    return run


def test_a_full_disk_stops_a_run_that_has_begun(
    ending: Callable[..., BaseException | None],
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "ledger.jsonl")
    assert ending(full, begun=False) is full  # refused: nothing was started
    stopped = ending(full, begun=True)
    assert isinstance(stopped, StoppedEarlyError)
    assert str(stopped) == (
        "stopped early: ledger.jsonl: No space left on device. "
        "Make space, then give the same command again."
    )


def test_other_errors_come_through(ending: Callable[..., BaseException | None]) -> None:
    error = BlocksFailedError("1 of 4")
    assert ending(error, begun=True) is error


class Driver:
    """A run in a process of its own, as a batch job: its log is read line by line."""

    def __init__(self, config: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "denoise5d", "run", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, words: str) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if words in line:
                return
        raise AssertionError(f"the run ended with {self.process.wait()} before {words!r}")

    def interrupt(self) -> None:
        """Send what Ctrl-C sends, to the driver alone."""
        self.process.send_signal(signal.SIGINT)

    def halt_workers(self) -> None:
        """Let them stand still in the middle of whatever they do: no block ends any more."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if "spawn_main" in " ".join(child.cmdline()):
                child.suspend()

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate()
        return self.process.returncode, out, err


def test_interrupted_once_twice_and_then_to_the_end(config: Path) -> None:
    write_image(config.parent / "large.zarr", (1, 1, 8, 128, 320))
    write_yaml(
        config,
        input={"path": "large.zarr"},
        output={"path": "out.zarr", "chunks": [1, 1, 8, 128, 32], "shards": None},
        denoise={"patch": [0, 0, 1, 3, 3], "iterations": 3},
        blocks={"shape": [1, 1, 8, 128, 32]},
    )
    driver = Driver(config)
    driver.wait_for("block 0 done")
    driver.interrupt()
    driver.wait_for("no new blocks")
    code, out, err = driver.end()
    assert (code, out) == (75, "")
    left = r"error: stopped early: [3-9] of 10 blocks are left; run the same command again to go on"
    assert re.fullmatch(left, err.splitlines()[-1])

    driver = Driver(config)
    driver.wait_for(" done (")
    driver.halt_workers()
    driver.interrupt()
    driver.wait_for("no new blocks")
    driver.interrupt()
    code, out, err = driver.end()
    assert (code, out) == (130, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("error: given up;")
    assert json.loads(call("status", "--json", config).stdout)["state"] == "stopped"

    code, out, err = Driver(config).end()
    assert code == 0
    assert re.search("going on: [1-9] of 10 blocks are done", err)
    assert out.splitlines()[0] == f"Done: {config.parent / 'out.zarr'}"
    assert json.loads(call("status", "--json", config).stdout)["state"] == "done"


# -- schema, doctor, convert ---------------------------------------------------------------------


def test_the_schema_is_json(config: Path) -> None:
    schema = json.loads(call("schema").stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert yaml.safe_load(config.read_text()).keys() <= schema["properties"].keys()


def test_the_doctor_finds_this_machine_well() -> None:
    result = call("doctor")
    assert result.exit_code == 0
    names = [line[2:].split("  ")[0] for line in result.stdout.splitlines() if line[:2] == "  "]
    assert names[:4] == ["denoise5d", "Python", "kernel", "instruction set"]
    assert {"processors", "memory", "free disk here", "libraries", "pictures"} <= set(names)


WELL = {"openmp": 201511, "instruction_set": "v3", "instruction_sets": ["baseline", "v3"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"info": WELL | {"openmp": None}}, "built without OpenMP"),
        ({"team": 2}, "gets 2 of 8 threads: look at OMP_THREAD_LIMIT=2 in the environment"),
        ({"info": WELL | {"instruction_set": "v9"}}, "DENOISE5D_ISA=v9 is none of this"),
        ({"machine": Machine(8, GIB)}, "1.00 GiB of memory is little"),
        ({"free": GIB}, "1.00 GiB of disk is little"),
        ({"drawing": False}, "pip install 'denoise5d[report]'"),
    ],
)
def test_the_doctor_names_what_is_wrong(
    change: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_THREAD_LIMIT", "2")
    well = {"machine": Machine(8, 64 * GIB), "info": WELL, "team": 8, "free": 99 * GIB}
    arguments: dict[str, Any] = well | {"drawing": True}
    assert findings(**arguments) == []
    [found] = findings(**arguments | change)
    assert words in found


def test_convert_says_what_it_made(tmp_path: Path) -> None:
    import tifffile

    source, target = tmp_path / "a.tif", tmp_path / "a.zarr"
    tifffile.imwrite(source, np.zeros((5, 16, 20), np.uint8))
    result = call("convert", source, target, "--axes", "TYX")
    assert result.stdout == f"{target}: T 5, C 1, Z 1, Y 16, X 20; uint8, 1.60 kvoxel\n"
    assert result.stderr == ""


# -- tables and numbers --------------------------------------------------------------------------


def test_a_table_goes_on_below_but_keeps_paths_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "/a/long/path-with-hyphens/that/is/much/wider/than/the/terminal/embryo.zarr"
    rows = [("output", f"{path} and a word"), ("a name", "one two three four five six seven eight")]
    console.show_table("Title", rows)
    assert capsys.readouterr().out == (
        f"Title\n  output  {path} and a word\n  a name  {rows[1][1]}\n"
    )
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(console, "get_terminal_size", lambda: SimpleNamespace(columns=40))
    console.show_table("Title", rows)
    lines = click.unstyle(capsys.readouterr().out).splitlines()
    assert lines[1:3] == [f"  output  {path}", "          and a word"]
    assert lines[3:] == ["  a name  one two three four five six", "          seven eight"]


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "0.98 KiB"),
        (1024, "1.00 KiB"),
        (99.96 * 1024, "100 KiB"),
        (1023.9 * 1024, "1.00 MiB"),
        (61.25 * 2**20, "61.2 MiB"),
        (202e9, "188 GiB"),
        (5.5 * 2**40, "5.50 TiB"),
    ],
)
def test_sizes(count: float, words: str) -> None:
    assert console.size(count) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 voxel"),
        (999, "999 voxel"),
        (999.9, "1.00 kvoxel"),
        (17.694e6, "17.7 Mvoxel"),
        (999.9e6, "1.00 Gvoxel"),
        (101.2e9, "101 Gvoxel"),
        (2e12, "2.00 Tvoxel"),
    ],
)
def test_voxels(count: float, words: str) -> None:
    assert console.voxels(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (119, "119 s"),
        (120, "0:02:00"),
        (90061, "1 day, 1:01:01"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert console.duration(seconds) == words


def test_numbers_and_paths() -> None:
    assert console.number(1, "block") == "1 block"
    assert console.number(0, "block") == "0 blocks"
    assert console.quoted(Path("a b/c.yaml")) == "'a b/c.yaml'"
    assert console.quoted(Path("demo/demo.yaml")) == "demo/demo.yaml"
