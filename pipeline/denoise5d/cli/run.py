"""``denoise5d run``."""

from __future__ import annotations

from pathlib import Path

import click

from denoise5d.cli.console import errors, system_error_words
from denoise5d.cli.display import Bar, Lines
from denoise5d.cli.plan import show_plan, yaml_argument
from denoise5d.config import load_config
from denoise5d.errors import StoppedEarlyError
from denoise5d.execute import Run, execute
from denoise5d.submit import UNTIL_DONE, chained


def _chain(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None or value == UNTIL_DONE or (value.isascii() and value.isdigit()):
        return value
    raise click.BadParameter(f"must be a number of jobs, or {UNTIL_DONE}, got {value}")


chain_option = click.option(
    "--chain",
    metavar="N",
    callback=_chain,
    help="Inside SLURM: so many jobs may follow while there is work, or `done`: as many as needed.",
)


@click.command(
    epilog="""\b
Example:
  denoise5d run embryo.yaml
  denoise5d run embryo.yaml --overwrite    after a change of its parameters"""
)
@yaml_argument
@click.option("--overwrite", is_flag=True, help="Begin anew: remove what an earlier run left.")
@click.option("--dry-run", is_flag=True, help="The same as `denoise5d plan`.")
@chain_option
def run(yaml: Path, overwrite: bool, dry_run: bool, chain: str | None) -> None:
    """Denoise an image; the same command goes on after a crash.

    Ctrl-C once finishes the blocks in work and exits with 75; twice gives them up (130). What is
    done stays done.
    """
    if dry_run:
        show_plan(yaml, anew=overwrite)
    else:
        run_with_progress(yaml, overwrite=overwrite, chain=chain)


def run_with_progress(yaml: Path, *, overwrite: bool = False, chain: str | None = None) -> Run:
    """Run a YAML with a progress bar on a terminal, with a line a block elsewhere."""
    config = load_config(yaml)
    display = Bar() if errors.is_terminal else Lines()
    try:
        with chained(config, chain), display:
            finished = execute(
                config, overwrite=overwrite, on_begin=display.begin, on_block=display.block
            )
    except OSError as error:
        if not display.begun:
            raise
        raise StoppedEarlyError(f"stopped early: {system_error_words(error)}") from error
    display.summary(finished)
    return finished
