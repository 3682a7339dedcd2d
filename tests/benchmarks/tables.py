"""Writing: Markdown tables, JSON, and what machine the numbers come from."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from denoise5d import build_info
from denoise5d.machine import available_cpus
from peers import PEERS, missing, peer_version

Cell: TypeAlias = str | float | int | None

ROOT = Path(__file__).parents[2]
OUTPUT = ROOT / "build" / "benchmarks"


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with what all benchmarks take: a folder, and whether to be quick."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder for tables and JSON")
    parser.add_argument("--quick", action="store_true", help="a few small cases only")
    return parser


def markdown(head: Sequence[str], rows: Iterable[Sequence[Cell]], digits: int = 2) -> str:
    """Return a table; floats with `digits` decimals, None as a dash.

    >>> print(markdown(["case", "dB"], [["a", 1.0], ["b", None]]))
    | case | dB |
    |---|---:|
    | a | 1.00 |
    | b | - |
    """
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    lines += [[_text(cell, digits) for cell in row] for row in rows]
    first, second, *rest = ("|".join(["", *(f" {c} " for c in line), ""]) for line in lines)
    return "\n".join([first, second.replace(" ", ""), *rest])


def _text(cell: Cell, digits: int) -> str:
    if cell is None:
        return "-"
    return f"{cell:.{digits}f}" if isinstance(cell, float) else str(cell)


def write(folder: Path, name: str, text: str, numbers: Any, *, quick: bool) -> None:
    """Write ``name.md`` and ``name.json``, both with the machine, and show the text."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = describe_machine()
    note = "A quick run, with few and small cases. " if quick else ""
    text = f"{text.rstrip()}\n\n{note}{machine_line(machine)}\n"
    (folder / f"{name}.md").write_text(text)
    whole = {"machine": machine, "quick": quick, "numbers": numbers}
    (folder / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n")
    print(text)
    print(f"written: {folder / name}.md and .json")


def describe_machine() -> dict[str, Any]:
    """Return processor, threads, compiler, versions, date and commit."""
    build = build_info()
    packages = sorted({package for package, _ in PEERS.values()})
    return {
        "processor": _processor(),
        "cpus": available_cpus(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "compiler": build["compiler"],
        "instruction_set": build["instruction_set"],
        "denoise5d": version("denoise5d") if peer_version("denoise5d") else "source tree",
        "numpy": version("numpy"),
        "peers": {name: peer_version(name) for name in packages},
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load": round(os.getloadavg()[0], 1),
    }


def machine_line(machine: dict[str, Any]) -> str:
    """Return the machine in one sentence, and which peers are not there."""
    peers = ", ".join(f"{name} {v}" for name, v in machine["peers"].items() if v)
    line = (
        f"{machine['processor']}, {machine['cpus']} CPUs, {machine['system']}; kernel built by "
        f"{machine['compiler']}, instruction set {machine['instruction_set']}; "
        f"Python {machine['python']}, NumPy {machine['numpy']}; {peers or 'no peers'}; "
        f"commit {machine['commit']}; {machine['date']}."
    )
    absent = [name for name, v in machine["peers"].items() if not v]
    return line + (f" {absent_line(absent)}" if absent else "")


def absent_line(absent: Sequence[str] | None = None) -> str:
    """Say which peers are left out; empty if all are there."""
    absent = missing() if absent is None else absent
    if not absent:
        return ""
    return f"Not installed and left out: {', '.join(absent)} (pip install '.[bench]')."


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
