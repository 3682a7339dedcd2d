"""``denoise5d demo``."""

from __future__ import annotations

from pathlib import Path

import click

from denoise5d.cli import console
from denoise5d.cli.console import show_table
from denoise5d.cli.run import run_with_progress
from denoise5d.demo import DemoFiles, make_demo, middle_planes, psnr
from denoise5d.report import can_draw, save_comparison


@click.command()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Where to put the demo's files.",
)
def demo(folder: Path) -> None:
    """Make a small embryo with a camera's noise, denoise it, and show the result."""
    names = DemoFiles(folder)
    console.output.print(f"making an embryo in {folder}/ ...")
    with console.counter("time points") as advance:
        make_demo(names, advance)
    run_with_progress(names.yaml)
    before, after = psnr(names.noisy, names.truth), psnr(names.denoised, names.truth)
    rows = [
        ("PSNR before", f"{before:.2f} dB"),
        ("PSNR after", f"{after:.2f} dB  ({after - before:+.2f} dB)"),
        ("picture", _picture(names, before, after)),
    ]
    show_table("Against the truth", rows)
    console.output.print(
        f"\nTry next:\n"
        f"  denoise5d plan {names.yaml}      what a run does, before it does it\n"
        f"  denoise5d status {names.yaml}    how far it has come\n"
        f"  edit {names.yaml} (say, add `denoise: {{iterations: 2}}`) and run it again:\n"
        f"  denoise5d run {names.yaml}       refuses to mix old and new blocks\n"
        f"  denoise5d convert YOUR.tif YOUR.zarr   then copy the YAML and change its paths"
    )


def _picture(names: DemoFiles, before: float, after: float) -> str:
    if not can_draw():
        return "left out: it needs matplotlib (pip install 'denoise5d[report]')"
    title = f"A plane of the embryo: {before:.1f} dB before, {after:.1f} dB after"
    save_comparison(names.picture, middle_planes(names), title=title)
    return str(names.picture)
