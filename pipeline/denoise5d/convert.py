"""Images of any format that is taken to OME-Zarr 0.5, slab by slab.

A *slab* is a whole number of write units, read at once and written, so that every file is written
once and an image of any size is converted in bounded memory. Slabs depend on nothing but the
source: they are done by several processes, and a conversion that was interrupted goes on with those
that are missing::

    planes of the source ──> slab: (1, 1, z, Y, X) ──> shards of (1, 1, z, <= 1024, <= 1024)

Short time-lapses without z collect time points instead of planes. Sources in chunks or tiles are
cut in y and x too.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import Any

from denoise5d.copying import Copying, copied
from denoise5d.errors import OutputError
from denoise5d.geometry import BlockGrid
from denoise5d.lock import OutputLock
from denoise5d.machine import this_machine
from denoise5d.plan import Layout
from denoise5d.slabs import SlabLedger
from denoise5d.sources import open_source
from denoise5d.store import (
    Description,
    Image,
    ImageInfo,
    Window,
    build_output,
    check_target,
    complete_channels,
    describe_channels,
    output_errors,
    publish,
    remove,
)

logger = logging.getLogger(__name__)

SLAB_BYTES = 2**27

_COPIES = 4
"""Of a slab in a process: as it is read, as it is written, compressed, and room."""

_SHARE_OF_MEMORY = 4  # one in so many bytes

_PAYING_BYTES = 2**28  # take as long as a process to start

_MOST_WORKERS = 8  # beyond it a disk has nothing more to give

_CHUNK_LENGTH = 256  # in y and x
_CHUNK_PLANES = 16
_SHARD_LENGTH = 1024  # in y and x

_LEDGER = "slabs.jsonl"
_IMAGE = "image"


def convert(
    source: Path,
    target: Path,
    *,
    axes: str | None = None,
    dataset: str | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    slab_bytes: int = SLAB_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> Description:
    """Convert an image to OME-Zarr 0.5, axes TCZYX.

    Axes, voxel size, units, names and colours of channels are taken from the source. The target
    appears under its name when it is whole. After an error or a kill the slabs that are done stay
    in a folder beside it, and the same call goes on with the others.

    Parameters
    ----------
    source : Path
        A file or folder that `denoise5d.sources` can open.
    target : Path
        The folder to make.
    axes : str, optional
        The axes of the source from slowest to fastest, letters of TCZYX; needed where it does not
        name them.
    dataset : str, optional
        Which image of a source with several: its number from 0, or its path.
    overwrite : bool
        Replace a store at `target`, if it was made here.
    workers : int, optional
        Processes, each with a slab at a time; with 1 this one does it all. By default as many as
        the machine has processors and memory for, but no more than the image is worth.
    slab_bytes : int
        Bytes of a slab, which is one plane or one shard at least.
    progress : callable, optional
        Called with planes done and planes in all, after each slab.

    Returns
    -------
    Description
        Of the new image.

    Raises
    ------
    InputError
        The source is damaged or of a kind that is not taken.
    OutputError
        The target exists or cannot be written.
    LockedError
        Another process is making the same target.
    StoppedEarlyError
        A process died; the same call goes on.
    """
    target = target.resolve()
    _check_apart(source.resolve(), target)
    with closing(open_source(source, axes=axes, dataset=dataset)) as image:
        check_target(target, overwrite=overwrite)
        layout, slabs = _cut(image.info, slab_bytes)
        with _work_folder(target) as work:
            check_target(target, overwrite=overwrite)  # which somebody may have made meanwhile
            ledger = _begun(image, layout, slabs, work)
            copying = Copying(source, axes, dataset, work / _IMAGE, slabs)
            _copy(copying, ledger, workers or _workers(image.info.nbytes), progress)
            channels = complete_channels(image.info, _windows(image.info, ledger))
            describe_channels(work / _IMAGE, channels)
            with output_errors(target):
                publish(work / _IMAGE, target)
                ledger.path.unlink()
    return replace(image.info, channels=channels)


def _check_apart(source: Path, target: Path) -> None:
    """Refuse a target that would replace its source, or lie in it."""
    if source == target or source in target.parents or target in source.parents:
        raise OutputError(f"{target} must not be the source {source}, lie in it, or contain it")


def _workers(nbytes: int) -> int:
    """Return how many processes pay for an image of so many bytes on this machine."""
    machine = this_machine()
    fitting = machine.memory_bytes // (_SHARE_OF_MEMORY * _COPIES * SLAB_BYTES)
    return max(1, min(_MOST_WORKERS, machine.cpus, fitting, nbytes // _PAYING_BYTES))


def _cut(image: ImageInfo, slab_bytes: int) -> tuple[Layout, BlockGrid]:
    """Return chunks and shards, and the slabs: some planes, or one shard."""
    t, _, z, y, x = image.shape
    width = min(x, _SHARD_LENGTH) if image.chunks[4] < x else x
    row_bytes = width * image.dtype.itemsize
    height = y
    if width < x or (image.chunks[3] < y and y * row_bytes > slab_bytes):
        rows = _SHARD_LENGTH if width < x else slab_bytes // row_bytes
        height = min(y, max(1, rows // _SHARD_LENGTH) * _SHARD_LENGTH)
    planes = max(1, slab_bytes // (height * row_bytes))
    chunk_z = min(z, planes, _CHUNK_PLANES)
    chunk_t = min(t, planes, _CHUNK_PLANES) if z == 1 else 1
    chunks = (chunk_t, 1, chunk_z, min(y, _CHUNK_LENGTH), min(x, _CHUNK_LENGTH))
    shard_z = _whole(z, chunk_z, planes)
    shard_t = _whole(t, chunk_t, max(1, planes // z)) if shard_z >= z else 1
    shard_y, shard_x = (
        _whole(n, c, _SHARD_LENGTH) for n, c in zip((y, x), chunks[3:], strict=True)
    )
    layout = Layout(chunks, (shard_t, 1, shard_z, shard_y, shard_x))
    return layout, BlockGrid(image.shape, (shard_t, 1, shard_z, height, width), (0, 0, 0, 0, 0))


def _whole(length: int, chunk: int, most: int) -> int:
    """Return whole chunks that cover an axis, or as many as fit into `most`."""
    return -(-length // chunk) * chunk if length <= most else max(1, most // chunk) * chunk


@contextmanager
def _work_folder(target: Path) -> Iterator[Path]:
    """Give the folder where the new image grows, for this process alone.

    It stays if there are slabs in it to go on with.
    """
    work = target.with_name(f".{target.name}.conversion")
    lock = OutputLock(work / "lock")
    with output_errors(target):
        lock.__enter__()
    try:
        yield work
    except BaseException:
        if SlabLedger.count(work / _LEDGER):
            logger.info("what is converted so far is kept: the same command goes on with the rest")
        raise
    finally:
        lock.__exit__(None, None, None)
        if not SlabLedger.count(work / _LEDGER):  # once the lock is closed: NFS keeps open files
            shutil.rmtree(work, ignore_errors=True)


def _begun(image: Image, layout: Layout, slabs: BlockGrid, work: Path) -> SlabLedger:
    """Return what an earlier conversion has done; begin anew if it was one of something else."""
    fingerprint = _fingerprint(image, layout, slabs)
    earlier = SlabLedger.resumed(work / _LEDGER, fingerprint)
    if earlier is not None and (work / _IMAGE).is_dir():
        if earlier.done:
            logger.info("going on: %d of %d slabs are done", len(earlier.done), len(slabs))
        return earlier
    with output_errors(work):
        if (work / _LEDGER).exists():
            logger.info("%s is of another conversion, which is given up", work)
            (work / _LEDGER).unlink()
        remove(work / _IMAGE)
    provenance = {
        "made_by": "convert",
        "source": image.info.path.name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    build_output(
        work / _IMAGE, image.info, layout=layout, dtype=image.info.dtype, provenance=provenance
    )
    with output_errors(work):
        return SlabLedger.begin(work / _LEDGER, fingerprint)


def _fingerprint(image: Image, layout: Layout, slabs: BlockGrid) -> dict[str, Any]:
    """Return what must be the same for a conversion to go on: the source, and how it is cut."""
    digest = blake2b(digest_size=16)
    for file in image.files:
        status = file.stat()
        digest.update(f"{file.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
    info = image.info
    return {
        "source": str(info.path.resolve()),
        "dataset": info.dataset,
        "axes": info.axes,
        "shape": info.shape,
        "dtype": info.dtype.name,
        "files": digest.hexdigest(),
        "content": image.content_sample(),
        "chunks": layout.chunks,
        "shards": layout.shards,
        "slab": slabs.block_shape,
    }


def _copy(
    copying: Copying, ledger: SlabLedger, workers: int, progress: Callable[[int, int], None] | None
) -> None:
    """Copy the slabs that are not done."""
    slabs = copying.slabs
    total = prod(slabs.image_shape[:3])
    voxels = sum(slabs[number].core.voxels for number in ledger.done)
    for slab in copied(copying, [n for n in range(len(slabs)) if n not in ledger.done], workers):
        with output_errors(ledger.path):
            ledger.append(slab)
        voxels += slabs[slab.slab].core.voxels
        if progress is not None:
            progress(voxels // prod(slabs.image_shape[3:]), total)


def _windows(image: Description, ledger: SlabLedger) -> list[Window]:
    """Return the range of the values of each channel as its contrast."""
    windows = []
    for channel in range(image.shape[1]):
        slabs = [slab for slab in ledger.done.values() if slab.channel == channel]
        low, high = min(s.lowest for s in slabs), max(s.highest for s in slabs)
        if low > high:  # nothing but NaN
            low, high = 0.0, 1.0
        windows.append({"min": low, "max": high, "start": low, "end": high})
    return windows
