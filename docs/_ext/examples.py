"""The example files of the repository, one after the other."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def listing() -> str:
    """Return Markdown that shows every YAML of `configs` and every script of `slurm`."""
    files = [*sorted(ROOT.glob("configs/*.yaml")), *sorted(ROOT.glob("slurm/*.sbatch"))]
    return "\n".join(_show(path) for path in files)


def _show(path: Path) -> str:
    language = {".yaml": "yaml", ".sbatch": "bash"}[path.suffix]
    return (
        f"## {path.name}\n\n```{{literalinclude}} ../{path.relative_to(ROOT)}\n"
        f":language: {language}\n```\n"
    )
