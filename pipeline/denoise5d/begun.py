"""A run that was begun, opened to look at what it has made: nothing is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from denoise5d.config import Config
from denoise5d.errors import InputError, OutputError, WrongOutputError
from denoise5d.geometry import AXES, Box
from denoise5d.identity import fingerprint, frozen_noise
from denoise5d.ledger import Ledger, check_fingerprint
from denoise5d.machine import this_machine
from denoise5d.noise import NoiseModel
from denoise5d.prepare import Job, io_threads, ledger_path, open_input, prepare_begun
from denoise5d.store import (
    METADATA_FILES,
    Image,
    Output,
    is_complete,
    limit_threads,
    open_image,
    open_output,
    read_provenance,
    zarr_format_of,
)


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
    """

    job: Job
    image: Image
    ledger: Ledger
    output: Output
    noise: list[NoiseModel]


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
    image, ledger = open_input(config), Ledger.open(path, read_only=True)
    job = prepare_begun(config, image.info, ledger)
    check_fingerprint(path, fingerprint(job, image))
    if not config.output.path.exists():
        raise OutputError(
            f"{config.output.path} is gone, but its ledger {path} says that {ledger.done_count} "
            f"blocks are done; put it back, or begin anew with `denoise5d run --overwrite`"
        )
    noise = frozen_noise(ledger.header)
    return BegunRun(job, image, ledger, _sound_output(job, ledger), noise)


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
    if (read_provenance(path) or {}).get("fingerprint") != ledger.header.get("fingerprint"):
        raise WrongOutputError(
            f"{path} is not the image that its ledger {ledger.path} tells of: {advice}"
        )
    wanted: dict[str, Any] = {
        key: getattr(job.image, key) for key in ("name", "shape", "scales", "units", "translations")
    }
    wanted |= {"dtype": job.dtype, "axes": AXES, "chunks": layout.chunks, "shards": layout.shards}
    wanted |= {"zarr_format": zarr_format_of(layout.format)}
    for key, value in wanted.items():
        if getattr(found, key) != value:
            raise WrongOutputError(
                f"the metadata of {path} must give {key} as {value}, as its run wrote and its "
                f"input says, got {getattr(found, key)}: {advice}"
            )
    if found.channels and not is_complete(found.channels, found.shape[1], job.image.dtype):
        raise WrongOutputError(
            f"the metadata of {path} must give a label, a colour and a contrast window for each "
            f"of {found.shape[1]} channels, got {found.channels}: {advice}"
        )
    return output


def again(run: BegunRun, block: int) -> str:
    """Say how to have a block done once more."""
    return (
        f"To have block {block} done again: while no run is at work, take the line that begins "
        f'with {{"block":{block}, out of {run.ledger.path}, and give `denoise5d run` again.'
    )


def box_words(box: Box) -> str:
    """Write a box as ``T 0:1, C 0:1, Z 4:8, Y 0:16, X 16:32``."""
    ends = zip(AXES, box.start, box.stop, strict=True)
    return ", ".join(f"{axis} {a}:{b}" for axis, a, b in ends)
