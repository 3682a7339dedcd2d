"""``denoise5d status``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from denoise5d.cli.console import duration, number, say, show_table, size, voxels
from denoise5d.cli.plan import yaml_argument
from denoise5d.config import load_config
from denoise5d.slurm_words import QueuedJob
from denoise5d.status import LevelStatus, Status, read_status


@click.command(
    epilog="""\b
Example:
  denoise5d status embryo.yaml
  watch -n 60 denoise5d status embryo.yaml
  denoise5d status --json embryo.yaml | jq .seconds_left"""
)
@yaml_argument
@click.option("--json", "as_json", is_flag=True, help="Print the status as JSON.")
def status(yaml: Path, as_json: bool) -> None:
    """Say how far a run has come.

    While it runs, after a crash, and when it is done: read from the run's ledger, so it can
    be asked from any machine that sees the output, and disturbs nothing.

    \b
    Keys of --json:
      output                          path
      state                           not begun, starting, running, stopped, done,
                                      or lost: there is a ledger, but no output
      owner                           who is at work on it, or null
      blocks, blocks_done, voxels, voxels_done
      voxels_per_second               of the last blocks; null before the first
      seconds_left                    to denoise, at that rate; null unless running
      last_block                      when the last one was done, UTC; or null
      read_seconds, kernel_seconds, write_seconds, verify_seconds
                                      of the workers, over all blocks done
      peak_bytes                      the largest memory of a worker
      retried                         blocks that took more than one attempt
      levels                          of the pyramid, if wanted: level, blocks, blocks_done
      jobs                            of SLURM, not ended: id, name, state, reason, nodes; null: it
                                      is not here, or does not answer
      tunnel                          command that brings the driver's web page here; or null
    """  # noqa: D301  \b is click's: do not wrap
    output = load_config(yaml).output
    found = read_status(output.path, pyramid=output.pyramid)
    if as_json:
        say(json.dumps(asdict(found), indent=2))
    else:
        show_table(f"Status of {yaml}", _rows(found))


def _rows(found: Status) -> list[tuple[str, str]]:
    rows = [("output", found.output), ("state", _state_words(found)), *_jobs(found.jobs)]
    if found.tunnel:
        page = f"http://localhost:{found.tunnel.split(':')[-1].split()[0]}/status"
        rows.append(("web page", f"{found.tunnel}  and then {page}"))
    if not found.blocks:
        return rows
    share = f"{100 * found.voxels_done / found.voxels:.1f}% of {voxels(found.voxels)}"
    rows.append(("blocks", f"{found.blocks_done} of {found.blocks} done  ({share})"))
    if found.levels:
        rows.append(("pyramid", _pyramid(found.levels)))
    if found.last_block is not None:
        rows.append(("last block", _ago(found.last_block)))
    if found.voxels_per_second is not None:
        rows.append(("rate", f"{voxels(found.voxels_per_second)}/s over the last blocks"))
    if found.seconds_left is not None:
        rows.append(("time left", duration(found.seconds_left)))
    if found.blocks_done:
        rows += [
            (
                "workers' time",
                f"read {duration(found.read_seconds)}, kernel {duration(found.kernel_seconds)}, "
                f"write {duration(found.write_seconds)}, verify {duration(found.verify_seconds)}",
            ),
            ("peak memory", f"{size(found.peak_bytes)} a worker"),
            ("retried", number(found.retried, "block")),
        ]
    return rows


def _pyramid(levels: Sequence[LevelStatus]) -> str:
    """Write how far it is: ``level 2 of 3: 5 of 12 blocks done``."""
    for at in levels:
        if at.blocks_done < at.blocks:
            done = f"{at.blocks_done} of {number(at.blocks, 'block')} done"
            return f"level {at.level} of {len(levels)}: {done}"
    return f"{number(len(levels), 'level')} done"


def _jobs(jobs: Sequence[QueuedJob] | None) -> list[tuple[str, str]]:
    """Return rows such as ``workers' jobs  2 running, 1 pending (Priority): 7, 8, 9``."""
    if jobs is None:
        return [("jobs", "not known: SLURM is not here, or does not answer")]
    rows = []
    for title, workers in (("driver's job", False), ("workers' jobs", True)):
        mine = [job for job in jobs if job.name.endswith("-worker") == workers]
        kinds = Counter((j.state.lower(), "" if j.nodes else f" ({j.reason})") for j in mine)
        words = ", ".join(f"{count} {state}{why}" for (state, why), count in kinds.items())
        numbers = ", ".join(j.id for j in mine[:8]) + (", ..." if len(mine) > 8 else "")
        if mine:
            rows.append((title, f"{words}: {numbers}"))
    return rows


def _ago(moment: str) -> str:
    when = datetime.fromisoformat(moment)
    seconds = max(0.0, (datetime.now(UTC) - when).total_seconds())
    return f"{duration(seconds)} ago  ({when:%Y-%m-%d %H:%M:%S} UTC)"


def _state_words(found: Status) -> str:
    words = {
        "not begun": "not begun: `denoise5d run` with this YAML begins",
        "starting": f"starting: {found.owner}",
        "running": f"running: {found.owner}",
        "stopped": "stopped: `denoise5d run` with this YAML goes on",
        "lost": "lost: the output is gone and its ledger is not; put it back, or begin anew with "
        "`denoise5d run --overwrite`",
    }
    return words.get(found.state, found.state)
