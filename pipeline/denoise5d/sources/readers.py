"""The packages that read formats which not everybody needs, and what to say without them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from denoise5d.errors import InputError

_PACKAGES = {
    "codecs": "imagecodecs",
    "czi": "pylibCZIrw",
    "hdf5": "h5py",
    "lif": "liffile",
    "nd2": "nd2",
}


def installed_readers() -> dict[str, str | None]:
    """Return the readers that are installed, with version, by extra; None for a missing one."""
    found: dict[str, str | None] = dict.fromkeys(_PACKAGES)
    for extra, package in _PACKAGES.items():
        with suppress(PackageNotFoundError):
            found[extra] = f"{package} {version(package)}"
    return found


def reader(module: str, extra: str, source: Path) -> Any:
    """Return a package that is imported only now.

    Parameters
    ----------
    module : str
        Its name for ``import``.
    extra : str
        The extra of denoise5d that it comes with.
    source : Path
        The file that needs it, for the message.

    Raises
    ------
    InputError
        It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{source} takes a reader that is not installed ({error}): "
            f"pip install 'denoise5d[{extra}]'"
        ) from error


@contextmanager
def closed_unless_good(source: Path, close: Callable[[], object]) -> Iterator[None]:
    """Close a file if an image cannot be made of it, and say why: libraries raise what they like.

    Raises
    ------
    InputError
        Whatever happens inside, but for a lack of memory.
    """
    try:
        yield
    except BaseException as error:
        close()
        if isinstance(error, InputError | MemoryError) or not isinstance(error, Exception):
            raise
        raise InputError(f"{source} is damaged or cut short: {error!r}") from error


@contextmanager
def opened(
    source: Path, axes: str | None, module: str, extra: str, open_file: Callable[[Any], Any]
) -> Iterator[Any]:
    """Open a file of a format that names its axes, with the package that reads it.

    The file stays open, unless what follows fails.

    Parameters
    ----------
    source : Path
        The file.
    axes : str or None
        Not to be given.
    module, extra : str
        As in `reader`.
    open_file : callable
        Opens the file, given the package.

    Raises
    ------
    InputError
        As `reader` and `closed_unless_good` do.
    """
    no_axes(source, axes)
    library = reader(module, extra, source)
    try:
        file = open_file(library)
    except Exception as error:  # the library raises whatever it likes
        raise InputError(f"{source} is damaged or cut short: {error}") from error
    with closed_unless_good(source, file.close):
        yield file


@contextmanager
def reading(source: Path, what: str) -> Iterator[None]:
    """Say what of a file cannot be read.

    Raises
    ------
    InputError
        Whatever happens inside, but for a lack of memory.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # the library raises whatever it likes
        raise InputError(
            f"{source}: {what} cannot be read, the file is damaged or cut short: {error}"
        ) from error


def plane_words(t: int, c: int, z: int) -> str:
    """Write which plane: ``the plane t 0, c 1, z 2 (from 0)``."""
    return f"the plane t {t}, c {c}, z {z} (from 0)"


def no_axes(source: Path, axes: str | None) -> None:
    """Refuse axes that are given for a file which names them itself."""
    if axes is not None:
        raise InputError(f"{source} names its axes itself; leave out axes, got {axes!r}")
