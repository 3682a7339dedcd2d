"""``denoise5d submit`` and ``cancel``."""

from __future__ import annotations

from pathlib import Path

import click

from denoise5d.batch import log_folder
from denoise5d.cli.console import quoted, say
from denoise5d.cli.plan import yaml_argument
from denoise5d.cli.run import chain_option
from denoise5d.config import load_config
from denoise5d.submit import cancel as cancel_run
from denoise5d.submit import script
from denoise5d.submit import submit as submit_run


@click.command(
    epilog="""\b
Example:
  denoise5d submit embryo.yaml
  denoise5d submit --print embryo.yaml    see the batch script, submit nothing
  denoise5d submit --chain 3 embryo.yaml  up to three more jobs if one is not enough"""
)
@yaml_argument
@click.option("--print", "only_print", is_flag=True, help="Print the batch script; submit nothing.")
@click.option("--overwrite", is_flag=True, help="Begin anew: remove what an earlier run left.")
@chain_option
def submit(yaml: Path, only_print: bool, overwrite: bool, chain: str | None) -> None:
    """Hand a run to SLURM as a batch job.

    With `cluster.kind: slurm` a small job that submits those of the workers; with `allocation` one
    job of several nodes. Nothing is submitted that `run` would refuse. The script is kept in
    OUTPUT.denoise5d/, and the same command goes on after the time was up.
    """
    config = load_config(yaml)
    if only_print:
        say(script(config, overwrite=overwrite))
        return
    job = submit_run(config, chain=chain, overwrite=overwrite)
    name = quoted(yaml)
    say(
        f"Submitted as job {job}; what it prints goes to {log_folder(config)}\n"
        f"  denoise5d status {name}    how far it is\n"
        f"  denoise5d cancel {name}    end it"
    )


@click.command(
    epilog="""\b
Example:
  denoise5d cancel embryo.yaml
  denoise5d cancel --now embryo.yaml      lose the blocks in work"""
)
@yaml_argument
@click.option("--now", is_flag=True, help="Do not wait for the blocks in work.")
def cancel(yaml: Path, now: bool) -> None:
    """Stop a run, wherever its driver is, and cancel its jobs.

    Blocks in work are finished first. Only jobs that this run has submitted are cancelled. What is
    done stays done: `run` or `submit` with the same YAML goes on.
    """
    jobs = cancel_run(load_config(yaml), now=now, tell=say)
    say(f"Cancelled {', '.join(jobs)}." if jobs else "No job of this run is left.")
