"""What a run shows while it goes on: a bar on a terminal, a line for each block in a log."""

from __future__ import annotations

import logging
from math import prod
from time import monotonic

from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.text import Text

from denoise5d.cli.console import clock, duration, errors, number, say, show_table, size, voxels
from denoise5d.cli.plan import noise_words
from denoise5d.execute import Run
from denoise5d.ledger import BlockRecord
from denoise5d.status import Tally

log = logging.getLogger("denoise5d")

_FACTS_WIDTH = 58


class Lines:
    """For a log: one line a block. Also what both kinds have in common.

    Attributes
    ----------
    begun : bool
        Whether the run has begun: an error is no refusal any more.
    """

    def __init__(self) -> None:
        self.begun = False
        self._began = monotonic()
        self._tally = Tally()
        self._voxels_left = 0

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def begin(self, run: Run) -> None:
        """Say what is going to be done, in a few lines."""
        self.begun = True
        ledger, plan, budget = run.ledger, run.job.plan, run.job.plan.budget
        log.info("noise: %s", noise_words(run.noise))
        if not plan.exact_halo:
            log.warning("blocks.halo %s is approximate: block edges may show", [*plan.grid.halo])
        left = 1 - ledger.done_count / ledger.blocks  # near enough, and free for any number
        self._voxels_left = round(left * prod(plan.grid.image_shape))
        self._began = monotonic()
        if left == 0:
            return
        if ledger.done_count:
            log.info("going on: %d of %d blocks are done", ledger.done_count, ledger.blocks)
        log.info(
            "%s of %s, %s with %s and %s each",
            number(ledger.blocks, "block"),
            list(plan.grid.block_shape),
            number(budget.workers, "worker"),
            number(budget.threads, "thread"),
            size(plan.bytes_per_worker),
        )

    def block(self, run: Run, record: BlockRecord) -> None:
        """Take note of a block that is done, and show it."""
        voxels_done = run.job.plan.grid[record.block].core.voxels
        self._tally.add(record, voxels_done)
        self._voxels_left -= voxels_done
        self._show(run, record)

    def _show(self, run: Run, record: BlockRecord) -> None:
        seconds = record.seconds
        log.info(
            "block %d done (%d of %d) in %s: read %.2f, kernel %.2f, write %.2f, verify %.2f s; "
            "peak %s; worker %s; %s/s, %s left",
            record.block,
            run.ledger.done_count,
            run.ledger.blocks,
            duration(seconds.read + seconds.kernel + seconds.write + seconds.verify),
            seconds.read,
            seconds.kernel,
            seconds.write,
            seconds.verify,
            size(record.peak_bytes),
            record.worker,
            voxels(self._rate(run) or 0),
            clock(self._seconds_left(run)),
        )

    def _rate(self, run: Run) -> float | None:
        return self._tally.rate(workers=run.job.plan.budget.workers)

    def _seconds_left(self, run: Run) -> float:
        rate = self._rate(run)
        return max(0.0, self._voxels_left / rate) if rate else 0.0

    def summary(self, run: Run) -> None:
        """Say how it went: to be called when all blocks are done."""
        tally, blocks = self._tally, run.ledger.blocks
        if not tally.blocks:
            say(f"Nothing to do: all {number(blocks, 'block')} of this run are done.")
            return
        seconds = monotonic() - self._began
        total = sum(tally.seconds.values())
        shares = ", ".join(f"{k} {100 * v / total:.0f}%" for k, v in tally.seconds.items())
        peak = f"{size(tally.peak_bytes)} a worker, {size(run.job.plan.bytes_per_worker)} planned"
        show_table(
            f"Done: {run.job.config.output.path}",
            [
                ("blocks", f"{tally.blocks} of {blocks} in this run"),
                ("time", f"{duration(seconds)}, {voxels(tally.voxels / seconds)}/s"),
                ("workers' time", shares),
                ("peak memory", peak),
            ],
        )


class Bar(Lines):
    """For a terminal: a bar of blocks, the rate, the time gone and left."""

    def __init__(self) -> None:
        super().__init__()
        # Short of the terminal's width: a ^C echoed behind it must not begin a new line.
        width = min(40, max(8, errors.width - _FACTS_WIDTH))
        self._progress = Progress(BarColumn(bar_width=width), _Facts(), console=errors)

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, run: Run) -> None:
        """Say what is going to be done, and begin the bar."""
        super().begin(run)
        done, total = run.ledger.done_count, run.ledger.blocks
        if done < total:
            self._progress.add_task("", total=total, completed=done, rate=None, end=None)

    def _show(self, run: Run, record: BlockRecord) -> None:  # noqa: ARG002  it is in the tally
        end = monotonic() + self._seconds_left(run)
        for task in self._progress.task_ids:
            done, rate = run.ledger.done_count, self._rate(run)
            self._progress.update(task, completed=done, rate=rate, end=end)


class _Facts(ProgressColumn):
    """``12/80 blocks, 1.31 Mvoxel/s, 0:03:10, 0:17:22 left``: the last counts down by itself."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Write the facts of the moment; before the first block there is no rate yet."""
        words = [f"{task.completed:.0f}/{task.total:.0f} blocks"]
        if task.fields["rate"]:
            words.append(f"{voxels(task.fields['rate'])}/s")
        words.append(clock(task.elapsed or 0))
        if task.fields["end"] is not None:
            words.append(f"{clock(max(0.0, task.fields['end'] - monotonic()))} left")
        return Text(", ".join(words))
