"""Files and folders of the output as such: staging under another name, flushing, free space."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from typing import Any

from denoise5d.errors import OutputError
from denoise5d.store.formats import read_attributes
from denoise5d.store.metadata import PROVENANCE


def is_ours(path: Path) -> bool:
    """Tell whether `path` is a store made by `create_output`."""
    return read_provenance(path) is not None


def made_by_conversion(path: Path) -> bool:
    """Tell whether `path` is an image that `convert` made: data of the user, not of a run."""
    provenance = read_provenance(path)
    return provenance is not None and provenance.get("made_by") == "convert"


def read_provenance(path: Path) -> dict[str, Any] | None:
    """Return the provenance in a store made by `create_output`; None if `path` is none."""
    try:
        provenance = read_attributes(path)[PROVENANCE]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return provenance if isinstance(provenance, dict) else None


def free_bytes(path: Path) -> int:
    """Return the bytes that this user may still write where `path` is or will be."""
    return shutil.disk_usage(_existing(path)).free


def free_files(path: Path) -> float:
    """Return how many files and folders may still be made where `path` is or will be.

    Infinite where the file system has no such limit or does not say, both of which look like none
    left. It never says quotas.
    """
    return os.statvfs(_existing(path)).f_favail or inf


def _existing(path: Path) -> Path:
    """Return the nearest folder that is there."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return existing


@contextmanager
def staged(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give the name of a folder beside `path` to fill; on leaving it becomes `path` in one step.

    After an error nothing is left and `path` is as it was. After a kill the unfinished folder stays
    behind, under a name of its own, and is replaced at the next attempt.

    Raises
    ------
    OutputError
        `path` exists and must not be replaced, or the folder above cannot be written.
    """
    target = path.resolve()
    folder = target.with_name(f".{target.name}.incomplete")
    with output_errors(target):
        check_target(target, overwrite=overwrite)
        remove(folder)
    try:
        yield folder
        with output_errors(target):
            publish(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system inside into an OutputError that says what to do."""
    advice = {
        errno.ENOSPC: "The disk is full: make space, then run the same command again.",
        errno.EDQUOT: "The quota is used up: make space, then run the same command again.",
        errno.EACCES: "Choose a folder that you may write, or change its permissions.",
        errno.EPERM: "Choose a folder that you may write, or change its permissions.",
        errno.EROFS: "Choose a folder on a disk that can be written.",
    }
    try:
        yield
    except OSError as error:
        words = advice.get(error.errno or 0, "")
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}. {words}".strip()
        ) from error


def check_target(path: Path, *, overwrite: bool) -> None:
    """Raise OutputError if `path` must not be made, or not be replaced."""
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} must exist before {path.name} is made in it")
    if not path.exists():
        return
    if not is_ours(path):
        raise OutputError(
            f"{path} exists and was not made by denoise5d, so it is never replaced. "
            "Give another path, or move it away."
        )
    if not overwrite:
        raise OutputError(f"{path} exists. Give another path, or --overwrite to replace it.")


def publish(folder: Path, target: Path) -> None:
    """Rename a finished folder to its final name; what was there is removed last."""
    for inside in (*folder.glob("*/*"), *folder.iterdir(), folder):
        flush(inside)
    old = target.with_name(f".{target.name}.replaced")
    remove(old)
    with suppress(FileNotFoundError):
        target.rename(old)
    folder.rename(target)
    flush(target.parent)
    remove(old)


def remove(folder: Path) -> None:
    """Remove a folder and what is in it, if it exists."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


def flush(path: Path) -> None:
    """Force a file or folder to the disk, if it exists."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)
