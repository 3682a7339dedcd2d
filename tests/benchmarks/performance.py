"""Assemble docs/performance.md from the last runs: ``python tests/benchmarks/performance.py``.

Takes NAME.md, NAME.json and the pictures that the other benchmarks have left in the output folder.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path
from statistics import median
from string import Template
from tempfile import TemporaryDirectory
from typing import Any

from denoise5d.config import load_config
from denoise5d.machine import GIB, Machine
from denoise5d.prepare import describe_input, prepare
from tables import OUTPUT, ROOT, Cell, markdown

PARTS = ("quality", "speed", "memory", "scaling", "stages", "pipeline")

TEMPLATE = Path(__file__).with_name("performance.template.md")

NODE_CORES, EFFICIENCY = 76, 0.8
"""Cores of the nodes that the embryo was denoised on, and the share of them that is assumed."""

GOAL, REFERENCE = 0.5, 84.0
"""Node-hours that the embryo may cost, and that it has cost with ndsafir."""


def part(folder: Path, name: str, docs: Path) -> str:
    """Return a benchmark's Markdown with its pictures moved to `docs`, or that it has not run."""
    file = folder / f"{name}.md"
    if not file.exists():
        return "Not measured yet."
    text = re.sub(r"^(#+) ", r"#\1 ", file.read_text(), flags=re.MULTILINE)
    for picture in re.findall(r"\]\(([\w-]+\.png)\)", text):
        shutil.copyfile(folder / picture, docs / f"benchmark-{picture}")
        text = text.replace(f"]({picture})", f"](benchmark-{picture})")
    return text.strip()


def embryo() -> tuple[int, float]:
    """Return the voxels of the embryo of configs/embryo-202GB.yaml, and the plan's redundancy."""
    with TemporaryDirectory() as folder:  # an output is planned beside the YAML
        yaml_file = Path(folder, "embryo-202GB.yaml")
        shutil.copyfile(ROOT / "configs" / yaml_file.name, yaml_file)
        config = load_config(yaml_file)
        machine = Machine(cpus=NODE_CORES, memory_bytes=256 * GIB)
        job = prepare(config, describe_input(config), machine)
    voxels = 1
    for n in job.image.shape:
        voxels *= n
    return voxels, job.plan.redundancy


def node_hours(voxels: int, redundancy: float, per_core: float) -> float:
    """Return the hours of one node for an image, from voxels per second and core."""
    return voxels * redundancy / (per_core * NODE_CORES * EFFICIENCY) / 3600


def projection(folder: Path) -> str:
    """Return the table of what the embryo costs by the rates of speed.json, or that there is none.

    Peers read the same voxels as ours, though they need more halo.
    """
    file = folder / "speed.json"
    if not file.exists():
        return "Not measured yet."
    numbers: dict[str, Any] = json.loads(file.read_text())["numbers"]
    voxels, redundancy = embryo()
    rows: list[list[Cell]] = []
    for method, rates in numbers["voxels_per_second"]["4-D"].items():
        per_core = median(rates) / numbers["threads"]
        hours = node_hours(voxels, redundancy, per_core)
        rows.append([method, per_core / 1e6, hours, REFERENCE / hours])
    head = ["method", "million voxels/s/core", "node-hours", f"times less than {REFERENCE:g}"]
    return "\n\n".join(
        [
            f"{voxels / 1e9:.0f} Gvoxel, each read {redundancy:.3f} times; nodes of {NODE_CORES} "
            f"cores; goal {GOAL:g} node-hours; the first people needed {REFERENCE:g}.",
            markdown(head, rows, 3),
        ]
    )


def assemble(folder: Path, docs: Path) -> Path:
    """Write performance.md and its pictures into `docs`."""
    fields = {name: part(folder, name, docs) for name in PARTS}
    text = Template(TEMPLATE.read_text()).substitute(
        fields,
        projection=projection(folder),
        cores=str(NODE_CORES),
        efficiency=f"{EFFICIENCY:g}",
    )
    target = docs / "performance.md"
    target.write_text(text)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description="Assemble docs/performance.md.")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder of the last runs")
    options = parser.parse_args()
    print(f"written: {assemble(options.output, ROOT / 'docs')}")


if __name__ == "__main__":
    main()
