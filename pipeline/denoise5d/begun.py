"""A run that was begun, opened to look at what it has made: nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from denoise5d.budget import io_threads
from denoise5d.config import Config
from denoise5d.errors import InputError, OutputError, WrongOutputError
from denoise5d.geometry import AXES, BlockGrid, Box
from denoise5d.identity import fingerprint, frozen_noise
from denoise5d.ledger import Ledger, check_fingerprint
from denoise5d.level_ledgers import level_ledger, open_level_ledger
from denoise5d.levels import PyramidLevel
from denoise5d.machine import this_machine
from denoise5d.noise import NoiseModel
from denoise5d.prepare import Job, ledger_path, open_input, prepare_begun
from denoise5d.store import (
    METADATA_FILES,
    Image,
    ImageInfo,
    Output,
    is_complete,
    limit_threads,
    listed_datasets,
    open_image,
    open_output,
    read_provenance,
    zarr_format_of,
)


@dataclass(frozen=True, slots=True)
class BegunPass:
    """What was made by one pass of a run: the image, or a level of its pyramid.

    Attributes
    ----------
    level : int
        0 is the image.
    grid : BlockGrid
        Its blocks.
    ledger : Ledger
        What was done when it was opened.
    output : Output
        What is looked at.
    """

    level: int
    grid: BlockGrid
    ledger: Ledger
    output: Output

    @property
    def complete(self) -> bool:
        """Whether all blocks are done."""
        return self.ledger.done_count == self.ledger.blocks

    def again(self, block: int) -> str:
        """Say how to have a block done once more."""
        return (
            f"To have {self.words(block)} done again: while no run is at work, take the line that "
            f'begins with {{"block":{block}, out of {self.ledger.path}, and give `denoise5d run` '
            f"again."
        )

    def words(self, block: int) -> str:
        """Write which block it is."""
        return f"block {block}" + (f" of level {self.level} of the pyramid" if self.level else "")


@dataclass(frozen=True, slots=True)
class BegunRun:
    """A run, finished or not, whose ledger, YAML and metadata agree.

    Attributes
    ----------
    job : Job
        As it is done.
    image : Image
        The input.
    ledger : Ledger
        What was done when it was opened.
    output : Output
        What is looked at.
    noise : list of NoiseModel
        That the run began with.
    levels : tuple of BegunPass
        Of the pyramid, from 1: all that are complete, and the one after them, if it was begun.
    named : int
        So many of them are named in the metadata, which viewers see.
    """

    job: Job
    image: Image
    ledger: Ledger
    output: Output
    noise: list[NoiseModel]
    levels: tuple[BegunPass, ...]
    named: int

    @property
    def passes(self) -> tuple[BegunPass, ...]:
        """The image and its levels."""
        return BegunPass(0, self.job.plan.grid, self.ledger, self.output), *self.levels

    @property
    def left(self) -> int:
        """Blocks that are not done, of the image and of the levels that the YAML wants."""
        wanted = self.job.plan.levels if self.job.config.output.pyramid else ()
        total = self.ledger.blocks + sum(len(level.grid) for level in wanted)
        return total - sum(part.ledger.done_count for part in self.passes[: 1 + len(wanted)])


def open_begun(config: Config) -> BegunRun:
    """Open what the run of a YAML has made, and check its metadata.

    Raises
    ------
    OutputError
        If no run was begun, its ledger is damaged, or the output is gone.
    FingerprintError
        If YAML or input have changed since.
    WrongOutputError
        If the metadata of the output are not what the run wrote.
    """
    limit_threads(io_threads(this_machine().cpus))
    path = ledger_path(config)
    if not path.exists():
        raise OutputError(
            f"there is nothing to look at: no run of {config.source} was begun, since {path} is "
            f"missing; `denoise5d run` begins one"
        )
    names = _names(config.output.path)  # before any ledger: a run may be at work meanwhile
    image, ledger = open_input(config), Ledger.open(path, read_only=True)
    job = prepare_begun(config, image.info, ledger)
    check_fingerprint(path, fingerprint(job, image))
    if not config.output.path.exists():
        raise OutputError(
            f"{config.output.path} is gone, but its ledger {path} says that {ledger.done_count} "
            f"blocks are done; put it back, or begin anew with `denoise5d run --overwrite`"
        )
    noise = frozen_noise(ledger.header)
    output = _sound_output(job, ledger)
    levels = tuple(_begun_levels(job, ledger))
    return BegunRun(job, image, ledger, output, noise, levels, _check_named(job, levels, names))


def _names(path: Path) -> list[str]:
    """Return what the metadata of an output name; nothing if there are none, or damaged ones."""
    try:
        return listed_datasets(path)
    except InputError:
        return []


def _begun_levels(job: Job, ledger: Ledger) -> Iterator[BegunPass]:
    """Yield the levels that were begun: one counts only if all below it is complete."""
    path, complete = job.config.output.path, ledger.done_count == ledger.blocks
    for level in job.plan.levels:
        own = open_level_ledger(path, level, read_only=True) if complete else None
        if own is None:
            return
        try:
            output = open_output(path, level.number)
        except OutputError as error:
            raise WrongOutputError(f"{error} {_made_anew(job, level)}") from error
        begun = BegunPass(level.number, level.grid, own, output)
        yield begun
        complete = begun.complete


def _made_anew(job: Job, level: PyramidLevel) -> str:
    """Say how to have a level made again."""
    return (
        f"To have level {level.number} of the pyramid made anew: while no run is at work, remove "
        f"{level_ledger(job.config.output.path, level.number)}, and give `denoise5d run` again."
    )


def _check_named(job: Job, levels: Sequence[BegunPass], names: list[str]) -> int:
    """Return how many levels the metadata name, if these are complete and rightly described."""
    path, image = job.config.output.path, job.image
    complete = [level.level for level in levels if level.complete]
    if names != [str(number) for number in (0, *complete[: len(names) - 1])]:
        raise WrongOutputError(
            f"the metadata of {path} must name the image, 0, and levels that are complete, which "
            f"are {complete or 'none yet'}, got {', '.join(names)}. `denoise5d run` with "
            f"output.pyramid: true mends that"
        )
    for level in job.plan.levels[: len(names) - 1]:
        wanted = {
            "shape": level.shape,
            "scales": level.scales(image.scales),
            "units": image.units,
            "translations": level.translations(image.scales, image.translations),
            "dtype": job.dtype,
            "axes": AXES,
            "chunks": level.layout.chunks,
            "shards": level.layout.shards,
        }
        found = open_image(path, dataset=str(level.number)).info
        _check_metadata(f"{path}/{level.number}", found, wanted, _made_anew(job, level))
    return len(names) - 1


def _sound_output(job: Job, ledger: Ledger) -> Output:
    """Open the output, if its metadata are what the run wrote."""
    path = job.config.output.path
    layout = job.plan.layout
    files = METADATA_FILES[layout.format]
    advice = f"put back its {files} files, or begin anew with `denoise5d run --overwrite`"
    try:
        output, found = open_output(path), open_image(path).info
    except (OutputError, InputError) as error:
        raise WrongOutputError(f"{error} The metadata are damaged: {advice}.") from error
    if not ledger.is_of(read_provenance(path)):
        raise WrongOutputError(
            f"{path} is not the image that its ledger {ledger.path} tells of: {advice}"
        )
    wanted: dict[str, Any] = {
        key: getattr(job.image, key) for key in ("name", "shape", "scales", "units", "translations")
    }
    wanted |= {"dtype": job.dtype, "axes": AXES, "chunks": layout.chunks, "shards": layout.shards}
    wanted |= {"zarr_format": zarr_format_of(layout.format)}
    _check_metadata(str(path), found, wanted, advice)
    if found.channels and not is_complete(found.channels, found.shape[1], job.image.dtype):
        raise WrongOutputError(
            f"the metadata of {path} must give a label, a colour and a contrast window for each "
            f"of {found.shape[1]} channels, got {found.channels}: {advice}"
        )
    return output


def _check_metadata(what: str, found: ImageInfo, wanted: dict[str, Any], advice: str) -> None:
    for key, value in wanted.items():
        if getattr(found, key) != value:
            raise WrongOutputError(
                f"the metadata of {what} must give {key} as {value}, as its run wrote and its "
                f"input says, got {getattr(found, key)}: {advice}"
            )


def box_words(box: Box) -> str:
    """Write a box as ``T 0:1, C 0:1, Z 4:8, Y 0:16, X 16:32``."""
    ends = zip(AXES, box.start, box.stop, strict=True)
    return ", ".join(f"{axis} {a}:{b}" for axis, a, b in ends)
