"""A TIFF for each plane, or for each time point or channel: many files that are one image.

Their names say which is which: by a pattern such as ``t{T}/img_c{C}_z{Z}.tif``, or, along one axis,
by their natural order, in which ``z10`` comes after ``z9``. Each file is read by `tiff`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise, product
from math import gcd, prod
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from denoise5d.errors import InputError
from denoise5d.geometry import AXES, Box, as_index
from denoise5d.sources.description import image_info
from denoise5d.sources.tiff import TiffImage, open_tiff
from denoise5d.store import Image, ImageInfo

_SUFFIXES = (".tif", ".tiff")
_FIELD = re.compile(r"\{([TCZtcz])\}")
_LISTED = 5
_OPEN = 8  # files at a time

Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of a series.

    Attributes
    ----------
    axes : str
        What they are numbered by.
    values : tuple of tuple of str
        What the names have for each axis, in order.
    paths : mapping
        A file for each combination.
    """

    axes: str
    values: tuple[Place, ...]
    paths: Mapping[Place, Path]


class TiffSeries(Image):
    """Many TIFFs as one image.

    Parameters
    ----------
    info : ImageInfo
        What is known of it.
    files : _Files
        Its files.
    first : ImageInfo
        What is known of one of them, and must be so of all.
    """

    def __init__(self, info: ImageInfo, files: _Files, first: ImageInfo) -> None:
        self._opened = lru_cache(_OPEN)(partial(_open_alike, first))
        super().__init__(info, self._opened.cache_clear)
        self._files = files

    @property
    def files(self) -> Sequence[Path]:
        """All of them."""
        return list(self._files.paths.values())

    def read_into(self, box: Box, out: NDArray[Any]) -> None:
        """Fill an array with the voxels of a box."""
        files = self._files
        outer = [AXES.index(axis) for axis in files.axes]
        for numbers in product(*(range(box.start[i], box.stop[i]) for i in outer)):
            start, stop, inside = [*box.start], [*box.stop], [slice(None)] * len(AXES)
            for axis, number in zip(outer, numbers, strict=True):
                start[axis], stop[axis] = 0, 1
                inside[axis] = slice(number - box.start[axis], number - box.start[axis] + 1)
            place = tuple(v[n] for v, n in zip(files.values, numbers, strict=True))
            image = self._opened(files.paths[place])
            image.read_into(Box(as_index(start), as_index(stop)), out[tuple(inside)])


def is_series(path: Path) -> bool:
    """Tell whether a path is a pattern, or a folder of TIFFs."""
    if path.is_dir():
        with suppress(OSError):  # whoever opens it says so
            return any(file.suffix.lower() in _SUFFIXES for file in path.iterdir())
        return False
    return not path.exists() and any(_is_pattern(part) for part in path.parts)


def has_series_inside(path: Path) -> bool:
    """Tell whether there are TIFFs in the folders of a folder: their numbers need a pattern."""
    with suppress(OSError):
        return any(file.suffix.lower() in _SUFFIXES for file in path.glob("*/*"))
    return False


def open_series(source: Path, *, axes: str | None = None, dataset: str | None = None) -> TiffSeries:
    """Open many TIFFs as one image.

    Parameters
    ----------
    source : Path
        A pattern with ``{T}``, ``{C}`` or ``{Z}``; or a folder, or a pattern with ``*``.
    axes : str, optional
        With braces: the axes of one file, by default as it says. Else all axes, the first of which
        numbers the files.
    dataset : str, optional
        Not to be given.

    Raises
    ------
    InputError
        A file is missing or of another kind than the others.
    """
    if dataset is not None:
        raise InputError(f"{source} is one image; leave out series and dataset, got {dataset}")
    if _FIELD.search(str(source)):
        files = _by_pattern(source)
    else:
        files, axes = _in_order(source, axes)
    path = next(iter(files.paths.values()))
    first = open_tiff(path, axes=axes)
    if first.is_multifile:
        raise InputError(
            f"{path} is one file of an OME-TIFF of several: give it alone, and the others are found"
        )
    both = [axis for axis in first.info.axes if axis in files.axes]
    if both:
        raise InputError(
            f"{path} has the axis {both[0]} in itself (axes {first.info.axes}), and the names of "
            "the files have it too. Give axes: those of one file with a pattern, else all of them"
        )
    own = first.info
    lengths = [len(v) for v in files.values] + [own.shape[AXES.index(a)] for a in own.axes]
    labels = dict(zip(files.axes, files.values, strict=True)).get("C", ())
    info = image_info(
        source,
        axes=files.axes + own.axes,
        lengths=lengths,
        dtype=own.dtype,
        chunks=dict(zip(AXES, own.chunks, strict=True)),
        name=path.parent.name,
        sizes={a: (own.scales[i], own.units[i]) for i, a in enumerate(AXES) if own.units[i]},
        labels=[] if all(label.isdecimal() for label in labels) else labels,
    )
    first.close()
    return TiffSeries(info, files, own)


def _open_alike(first: ImageInfo, path: Path) -> TiffImage:
    """Open one of the files; raise InputError if it is not like the first one."""
    image = open_tiff(path, axes=first.axes)
    for key in ("shape", "dtype"):
        own, others = getattr(image.info, key), getattr(first, key)
        if own != others:
            raise InputError(f"{path} must have the {key} of the other files, {others}, got {own}")
    return image


def _is_pattern(part: str) -> bool:
    return bool(_FIELD.search(part)) or "*" in part or "?" in part


def _glob(source: Path) -> Iterator[Path]:
    """Yield the files that a pattern may mean."""
    number = next((i for i, part in enumerate(source.parts) if _is_pattern(part)), None)
    if number is None:
        yield from (f for f in source.iterdir() if f.suffix.lower() in _SUFFIXES)
        return
    rest = "/".join(source.parts[number:])
    yield from Path(*source.parts[:number]).glob(re.sub(r"\*+", "*", _FIELD.sub("*", rest)))


def _by_pattern(source: Path) -> _Files:
    """Find the files by a pattern with braces, and miss none."""
    axes = "".join(dict.fromkeys(axis.upper() for axis in _FIELD.findall(str(source))))
    expression, seen = "", set()
    for number, part in enumerate(_FIELD.split(str(source))):
        if number % 2 == 0:
            expression += re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
        elif part.upper() in seen:
            expression += f"(?P={part.upper()})"
        else:
            seen.add(part.upper())
            expression += f"(?P<{part.upper()}>{'[^/]+?' if part in 'Cc' else '[0-9]+'})"
    paths: dict[Place, Path] = {}
    for path in sorted(_glob(source)):
        match = re.fullmatch(expression, str(path))
        if match:
            place = tuple(match[axis] for axis in axes)
            if place in paths:
                raise InputError(f"{paths[place]} and {path} are both at {_words(axes, place)}")
            paths[place] = path
    if not paths:
        raise InputError(f"{source}: no file has such a name")
    values = tuple(_in_full({place[i] for place in paths}) for i in range(len(axes)))
    missing = [place for place in product(*values) if place not in paths]
    if missing:
        listed = "; ".join(_words(axes, place) for place in missing[:_LISTED])
        more = "; ..." if len(missing) > _LISTED else ""
        raise InputError(
            f"{source}: {len(missing)} of {prod(map(len, values))} files are missing, those of "
            f"{listed}{more}"
        )
    return _Files(axes, values, paths)


def _in_full(values: set[str]) -> Place:
    """Return the numbers of an axis in order, with those that must have been between them."""
    if not all(value.isdecimal() for value in values):
        return tuple(sorted(values, key=_natural))
    known = {int(value): value for value in values}
    numbers = sorted(known)
    step = gcd(*(b - a for a, b in pairwise(numbers))) or 1
    return tuple(known.get(n, str(n)) for n in range(numbers[0], numbers[-1] + 1, step))


def _in_order(source: Path, axes: str | None) -> tuple[_Files, str]:
    """Find files that are numbered along one axis; return also the axes of each."""
    paths = sorted((path for path in _glob(source) if path.is_file()), key=_natural)
    if not paths:
        raise InputError(f"{source}: no file has such a name")
    letters = (axes or "").upper()
    if not letters or letters[0] not in "TCZ":
        got = f", got {axes}" if axes else ""
        raise InputError(
            f"{source} is {len(paths)} TIFFs: give axes, the first of which numbers the files, "
            f"such as ZYX{got}; or a pattern, such as 'img_t{{T}}_z{{Z}}.tif'"
        )
    names = tuple(path.stem if letters[0] == "C" else str(path) for path in paths)
    files: dict[Place, Path] = {(n,): path for n, path in zip(names, paths, strict=True)}
    return _Files(letters[0], (names,), files), letters[1:]


def _natural(name: object) -> list[tuple[int, str]]:
    """Return a key by which ``z10`` comes after ``z9``."""
    return [(int(part), "") if part.isdecimal() else (-1, part)
            for part in re.split("([0-9]+)", str(name))]  # fmt: skip


def _words(axes: str, place: Place) -> str:
    return ", ".join(f"{axis} {value}" for axis, value in zip(axes, place, strict=True))
