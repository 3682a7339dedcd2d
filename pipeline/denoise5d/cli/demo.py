"""``denoise5d demo``."""

from __future__ import annotations

from pathlib import Path

import click

from denoise5d.cli.console import counter, quoted, say, show_table
from denoise5d.cli.run import run_with_progress
from denoise5d.demo import DemoFiles, make_demo, middle_planes, psnr
from denoise5d.errors import FingerprintError
from denoise5d.execute import Run
from denoise5d.report import can_draw, save_comparison


@click.command(
    epilog="""\b
Example:
  denoise5d demo
  denoise5d demo --folder /tmp/embryo"""
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Where to put the demo's files.",
)
def demo(folder: Path) -> None:
    """Make a small noisy embryo and denoise it.

    About a minute on two processors. Leaves the images, the YAML and a picture (before, after,
    truth) in a folder; once more, it goes on with what it finds there.
    """
    files = DemoFiles(folder)
    _make(files)
    try:
        run = run_with_progress(files.yaml)
    except FingerprintError as error:
        raise FingerprintError(
            f"{files.yaml} was changed since it was run. To run it as it is now:\n"
            f"  denoise5d run {quoted(files.yaml)} --overwrite\n"
            f"or make another demo with --folder. What was changed:\n{error}"
        ) from error
    _show(files, run)


def _make(files: DemoFiles) -> None:
    if files.complete:
        say(f"The embryo is in {files.folder} already.")
        return
    say(f"Making a small embryo with a camera's noise in {files.folder} ...")
    with counter("time points") as advance:
        make_demo(files, advance)


def _show(files: DemoFiles, run: Run) -> None:
    result = run.job.config.output.path
    before, after = psnr(files.noisy, files.truth), psnr(result, files.truth)
    picture = "left out: it needs matplotlib (pip install 'denoise5d[report]')"
    if can_draw():
        captions = (f"before: PSNR {before:.1f} dB", f"after: PSNR {after:.1f} dB", "truth")
        planes = middle_planes([files.noisy, result, files.truth])
        save_comparison(files.picture, dict(zip(captions, planes, strict=True)))
        picture = str(files.picture)
    show_table(
        "Against the truth",
        [
            ("PSNR before", f"{before:.2f} dB"),
            ("PSNR after", f"{after:.2f} dB  ({after - before:+.2f} dB)"),
            ("picture", picture),
        ],
    )
    yaml = quoted(files.yaml)
    say(
        f"\nTry next:\n"
        f"  denoise5d plan {yaml}      what a run would do\n"
        f"  denoise5d status {yaml}    how far it has come\n"
        f"  denoise5d report {yaml}    a page that shows what was done, and how well\n"
        f"  denoise5d run {yaml} --overwrite\n"
        f"                             after a change of that file: add a line\n"
        f"                             denoise: {{iterations: 2}}, or write noise: auto\n"
        f"Your own image:\n"
        f"  denoise5d convert YOUR.tif YOUR.zarr\n"
        f"  then copy that file and change its two paths"
    )
