"""The tutorial as a program: the files that it lets its reader write, the commands, what they say.

    python tests/tutorial.py

goes through it, prints what the commands really say, and puts the pictures that it makes into
`docs`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "tutorial.md"

INTERRUPT = "^C"
"""A line of output that stands for the key: the command is interrupted once a block is done."""

_FENCE = re.compile(r"(?P<before>[^\n]*)\n+```(?P<language>\w+)\n(?P<body>.*?)```", re.DOTALL)
_PATIENCE = 120


@dataclass(frozen=True)
class File:
    """What the reader writes: the text before the block ends with the name of the file."""

    name: str
    text: str


@dataclass(frozen=True)
class Command:
    """What the reader types, and lines that come of it."""

    line: str
    shown: tuple[str, ...]

    @property
    def interrupted(self) -> bool:
        return INTERRUPT in self.shown


def steps(text: str) -> Iterator[File | Command]:
    """Yield what the reader does, in order."""
    for fence in _FENCE.finditer(text):
        if fence["language"] == "console":
            for part in re.split(r"^\$ ", fence["body"], flags=re.MULTILINE)[1:]:
                line, *shown = part.splitlines()
                yield Command(line.split("  #")[0], tuple(shown))
        elif name := re.search(r"`([\w.-]+)`:$", fence["before"]):
            yield File(name[1], fence["body"])
        else:
            raise ValueError(f"the text before a block must end with a file's name: {fence[0]}")


class Reader:
    """Somebody who follows the tutorial in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tutorial"
        self.folder.mkdir()
        self._printed = folder / "printed.txt"
        commands = folder / "bin"
        commands.mkdir()
        for name, arguments in (("python", ""), ("denoise5d", "-m denoise5d.cli")):
            (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
            (commands / name).chmod(0o755)
        self._env = os.environ | {"PATH": f"{commands}:{os.environ['PATH']}", "COLUMNS": "200"}

    def write(self, file: File) -> None:
        (self.folder / file.name).write_text(file.text)

    def type(self, command: Command) -> tuple[int, str]:
        """Run a command; return its exit code and what it printed."""
        done = self._blocks()
        with self._printed.open("w") as printed:
            process = subprocess.Popen(
                ["bash", "-c", command.line],  # which becomes the command, if that is a single one
                cwd=self.folder,
                env=self._env,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            if command.interrupted:
                self._interrupt(process, done)
            return process.wait(timeout=_PATIENCE), self._printed.read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    def _interrupt(self, process: subprocess.Popen[bytes], done: int) -> None:
        """Press Ctrl-C once a block is done; however quick the workers are, some are left."""
        self._wait(process, lambda: self._blocks() > done)
        workers = psutil.Process(process.pid).children(recursive=True)
        for worker in workers:
            worker.suspend()
        process.send_signal(signal.SIGINT)
        self._wait(process, lambda: "stopping" in self._printed.read_text())
        for worker in workers:
            worker.resume()

    @staticmethod
    def _wait(process: subprocess.Popen[bytes], happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not happened():
            assert process.poll() is None, "it ended too early"
            assert time.monotonic() < deadline, "it takes too long"
            time.sleep(0.01)

    def _blocks(self) -> int:
        """Count the lines of blocks in all ledgers."""
        ledgers = self.folder.glob("*.denoise5d/ledger.jsonl")
        return sum(ledger.read_text().count('"block"') for ledger in ledgers)


def missing(shown: tuple[str, ...], output: str) -> str | None:
    """Return the first line that is shown but was not printed, in this order.

    Three dots stand for anything; numbers may differ by a fiftieth.
    """
    lines = iter(output.splitlines())
    for line in shown:
        if line != INTERRUPT and not any(_alike(line, printed) for printed in lines):
            return line
    return None


def _alike(shown: str, printed: str) -> bool:
    words = re.escape(" ".join(shown.split()))
    pattern = re.sub(r"\d+(\\\.\d+)?", r"(\\d+(?:\\.\\d+)?)", words.replace(r"\.\.\.", ".*"))
    found = re.search(pattern, " ".join(printed.split()))
    return found is not None and all(
        abs(float(ours) - float(theirs)) <= 0.02 * float(ours)
        for ours, theirs in zip(re.findall(r"\d+(?:\.\d+)?", shown), found.groups(), strict=True)
    )


def pictures(text: str) -> list[str]:
    """Return the names of the pictures that the page shows."""
    return re.findall(r"!\[[^]]*\]\(tutorial/([\w.-]+)\)", text)


def main() -> None:
    """Go through the tutorial, and keep its pictures."""
    text = PAGE.read_text()
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader(Path(folder))
        for step in steps(text):
            if isinstance(step, File):
                reader.write(step)
                continue
            code, output = reader.type(step)
            print(f"$ {step.line}\n{output}[{code}] missing: {missing(step.shown, output)}\n")
        for name in pictures(text):
            shutil.copy(reader.folder / name, DOCS / "tutorial" / name)


if __name__ == "__main__":
    main()
