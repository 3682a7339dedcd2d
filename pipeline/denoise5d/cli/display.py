"""What a run shows while it goes on: a bar on a terminal, a line for each block in a log."""

from __future__ import annotations

import logging
from math import prod
from time import monotonic

from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.text import Text

from denoise5d.cli.console import clock, duration, errors, number, say, show_table, size, voxels
from denoise5d.cli.plan import noise_words
from denoise5d.execute import Pass, Run
from denoise5d.records import BlockRecord
from denoise5d.status import Tally

log = logging.getLogger("denoise5d")

_FACTS_WIDTH = 67


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
        self._level = 0
        self._denoised: float | None = None  # when that was over
        self._tallies = [Tally()]  # of the blocks denoised, and then of each level
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
        self._begin_stage(run.stage, work=not run.stage.complete)
        self._began = monotonic()
        if run.stage.level or run.complete:
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

    def _begin_stage(self, stage: Pass, *, work: bool) -> None:
        """Take note of a pass that begins, or goes on; say so if it makes a level of any block."""
        self._level, ledger = stage.level, stage.ledger
        left = 1 - ledger.done_count / ledger.blocks  # near enough, and free for any number
        self._voxels_left = round(left * prod(stage.grid.image_shape))
        if stage.level and work:
            self._tallies.append(Tally())
            shape = list(stage.grid.image_shape)
            blocks = number(ledger.blocks, "block")
            log.info("level %d of the pyramid: %s in %s", stage.level, shape, blocks)

    def block(self, stage: Pass, record: BlockRecord) -> None:
        """Take note of a block that is done, and show it."""
        if stage.level != self._level:
            if self._tally.blocks and not self._level:
                self._denoised = monotonic()
            self._begin_stage(stage, work=True)  # all of which may be in the ledger by now
        voxels_done = stage.grid[record.block].core.voxels
        self._tally.add(record, voxels_done)
        self._voxels_left -= voxels_done
        self._show(stage, record)

    @property
    def _tally(self) -> Tally:
        return self._tallies[-1]

    def _show(self, stage: Pass, record: BlockRecord) -> None:
        seconds = record.seconds
        log.info(
            "%sblock %d done (%d of %d) in %s: read %.2f, kernel %.2f, write %.2f, verify %.2f s; "
            "peak %s; worker %s; %s/s, %s left",
            f"level {stage.level}, " if stage.level else "",
            record.block,
            stage.ledger.done_count,
            stage.ledger.blocks,
            duration(seconds.read + seconds.kernel + seconds.write + seconds.verify),
            seconds.read,
            seconds.kernel,
            seconds.write,
            seconds.verify,
            size(record.peak_bytes),
            record.worker,
            voxels(self._rate(stage) or 0),
            clock(self._seconds_left(stage)),
        )

    def _rate(self, stage: Pass) -> float | None:
        return self._tally.rate(workers=stage.run.job.plan.budget.workers)

    def _seconds_left(self, stage: Pass) -> float:
        rate = self._rate(stage)
        return max(0.0, self._voxels_left / rate) if rate else 0.0

    def summary(self, run: Run) -> None:
        """Say how it went: to be called when all blocks are done."""
        now, blocks = monotonic(), run.ledger.blocks
        tally, *levels = self._tallies
        rows = []
        if tally.blocks:
            seconds = (self._denoised or now) - self._began
            total = sum(tally.seconds.values())
            shares = ", ".join(f"{k} {100 * v / total:.0f}%" for k, v in tally.seconds.items())
            rows += [
                ("blocks", f"{tally.blocks} of {blocks} in this run"),
                ("time", f"{duration(seconds)}, {voxels(tally.voxels / seconds)}/s"),
                ("workers' time", shares),
            ]
        if levels:
            made = number(sum(level.blocks for level in levels), "block")
            seconds = now - (self._denoised or self._began)
            words = f"{made} of {number(len(levels), 'level')} in {duration(seconds)}"
            rows.append(("pyramid", words))
        if not rows:
            say(f"Nothing to do: all {number(blocks, 'block')} of this run are done.")
            return
        peak = max(part.peak_bytes for part in self._tallies)
        planned = size(run.job.plan.bytes_per_worker)
        rows.append(("peak memory", f"{size(peak)} a worker, {planned} planned"))
        show_table(f"Done: {run.job.config.output.path}", rows)


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

    def _begin_stage(self, stage: Pass, *, work: bool) -> None:
        super()._begin_stage(stage, work=work)
        for task in self._progress.task_ids:
            self._progress.remove_task(task)
        done, total = stage.ledger.done_count, stage.ledger.blocks
        if done < total:
            what = f"level {stage.level}: " if stage.level else ""
            self._progress.add_task(what, total=total, completed=done, rate=None, end=None)

    def _show(self, stage: Pass, record: BlockRecord) -> None:  # noqa: ARG002  it is in the tally
        end = monotonic() + self._seconds_left(stage)
        for task in self._progress.task_ids:
            done, rate = stage.ledger.done_count, self._rate(stage)
            self._progress.update(task, completed=done, rate=rate, end=end)


class _Facts(ProgressColumn):
    """``12/80 blocks, 1.31 Mvoxel/s, 0:03:10, 0:17:22 left``: the last counts down by itself."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Write the facts of the moment; before the first block there is no rate yet."""
        words = [f"{task.description}{task.completed:.0f}/{task.total:.0f} blocks"]
        if task.fields["rate"]:
            words.append(f"{voxels(task.fields['rate'])}/s")
        words.append(clock(task.elapsed or 0))
        if task.fields["end"] is not None:
            words.append(f"{clock(max(0.0, task.fields['end'] - monotonic()))} left")
        return Text(", ".join(words))
