"""The ledger: what is done, one line a block, appended by the driver alone.

It lies beside the output and is the only thing that says a block is done; files that exist say
nothing (an all-background chunk may have none)::

    embryo-denoised.zarr                  the output
    embryo-denoised.zarr.denoise5d/
        ledger.jsonl                      line 1: the header; each further line: one finished block
        level-1.jsonl                     the same of a level of the pyramid, made when all is done
        lock                              who is working on it

The header holds what must not change between two runs: the fingerprint, the grid of blocks, the
layout, the noise. A driver that is killed while it appends leaves a torn last line, one without its
newline. That block does not count as done, and the next append cuts the rest of it off.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO

from denoise5d.errors import FingerprintError, OutputError
from denoise5d.records import BlockRecord, record_of

LEDGER_NAME = "ledger.jsonl"
LOCK_NAME = "lock"
_FORMAT = 1
_FIRST_OUTPUT_FORMAT = "ome-zarr-0.5"  # of runs that were begun when there was no other


def run_folder(output: Path) -> Path:
    """Return the folder beside `output` that holds its ledger and its lock."""
    return output.with_name(output.name + ".denoise5d")


class Ledger:
    """The blocks that are done. Memory: one byte a block, whatever the ledger's length.

    Make one with `create` or `open`. Only the driver that holds the output's lock may append.

    Attributes
    ----------
    path : Path
        The file.
    header : dict
        Its first line.
    blocks : int
        Number of blocks of the run.
    done_count : int
        Number of those that are done.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path = path
        self.header, self._end = _read_header(path)  # `_end`: what comes after it is torn
        self.blocks: int = self.header["blocks"]
        self.done_count = 0
        self._done = bytearray(self.blocks)
        self._read_only = read_only
        for record, end in _read_records(path, self.blocks):
            self._mark(record)
            self._end = end

    @classmethod
    def create(cls, path: Path, header: Mapping[str, Any]) -> Ledger:
        """Begin a ledger, with the output's lock held; it is there as a whole, or not at all.

        Parameters
        ----------
        path : Path
            The file to make, in a folder that is made if it is missing.
        header : mapping
            Plain JSON values; ``blocks`` is the number of blocks.

        Raises
        ------
        OutputError
            If there is one already.
        ValueError
            If the header has no number of blocks.
        """
        if not _is_count(header.get("blocks")):
            raise ValueError(f"the header needs `blocks`, a number above 0: {header!r}")
        if path.exists():
            raise OutputError(
                f"{path} exists: go on with that run, or begin anew with `denoise5d run "
                f"--overwrite`."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".new")
        with temporary.open("wb") as file:
            _write_through(file, _line({"format": _FORMAT, **header}))
        temporary.replace(path)
        _sync_folder(path.parent)
        return cls(path, read_only=False)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Ledger:
        """Open a ledger and learn what is done.

        Parameters
        ----------
        path : Path
            The file.
        read_only : bool
            Refuse to append: for whoever looks while a driver may be at work.

        Raises
        ------
        OutputError
            If the file is missing, is no ledger, or is damaged other than at its very end.
        """
        return cls(path, read_only=read_only)

    def is_of(self, provenance: Mapping[str, Any] | None) -> bool:
        """Tell whether it is the ledger of the output that has this provenance."""
        fingerprint = _with_format((provenance or {}).get("fingerprint"))
        return fingerprint is not None and bool(fingerprint == self.header.get("fingerprint"))

    def is_done(self, block: int) -> bool:
        """Tell whether a block is done."""
        return bool(self._done[block])

    def remaining(self) -> Iterator[int]:
        """Yield the numbers of the blocks that are not done, in order."""
        return (block for block in range(self.blocks) if not self._done[block])

    def done(self) -> Iterator[int]:
        """Yield the numbers of the blocks that are done, in order."""
        return (block for block in range(self.blocks) if self._done[block])

    def append(self, records: Iterable[BlockRecord]) -> None:
        """Commit finished blocks: one write and one fsync; they are done when this returns.

        A block that is done already is left out: the same block always has the same result.

        Raises
        ------
        ValueError
            If a block is not of this run, or the ledger is read-only.
        OSError
            If writing fails; none of the blocks is done then.
        """
        if self._read_only:
            raise ValueError(f"{self.path} was opened to be read only")
        new: dict[int, BlockRecord] = {}
        for record in records:
            if not 0 <= record.block < self.blocks:
                raise ValueError(f"block {record.block} is not one of the run's {self.blocks}")
            if not self._done[record.block]:
                new.setdefault(record.block, record)
        if not new:
            return
        lines = b"".join(_line(asdict(record)) for record in new.values())
        with self.path.open("r+b") as file:
            file.truncate(self._end)
            file.seek(self._end)
            _write_through(file, lines)
        self._end += len(lines)
        for record in new.values():
            self._mark(record)

    def records(self) -> Iterator[BlockRecord]:
        """Yield the record of every block that is done, from the file, in its order."""
        seen = bytearray(self.blocks)
        for record, _ in _read_records(self.path, self.blocks):
            if not seen[record.block]:
                seen[record.block] = True
                yield record

    def _mark(self, record: BlockRecord) -> None:
        self.done_count += not self._done[record.block]
        self._done[record.block] = True


def discard(path: Path) -> None:
    """Remove a ledger, so that nothing counts as done: the first step of ``--overwrite``."""
    path.unlink(missing_ok=True)
    if path.parent.is_dir():
        _sync_folder(path.parent)


def check_fingerprint(path: Path, fingerprint: Mapping[str, Any]) -> None:
    """Compare a new fingerprint with the one in the header of the ledger at `path`.

    Raises
    ------
    FingerprintError
        If they differ; the message lists every key that does, with both values.
    OutputError
        If `path` is no ledger.
    """
    differing = diff_fingerprints(_read_header(path)[0].get("fingerprint", {}), fingerprint)
    if differing:
        lines = "".join(f"\n  {line}" for line in differing)
        raise FingerprintError(
            f"this output was begun with other parameters ({path}):{lines}\n"
            f"Blocks of both must not be mixed. Restore the old values to go on, choose another "
            f"output.path, or begin anew with `denoise5d run --overwrite` (the blocks "
            f"done so far are lost)."
        )


def diff_fingerprints(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return a line ``dotted.key: old -> new`` for every value that differs, in order of the keys.

    Both are compared as JSON, so that a tuple equals a list.
    """
    before, after = (json.loads(json.dumps(values)) for values in (old, new))
    return list(_differences(before, after))


_MISSING = object()


def _differences(old: Any, new: Any, key: str = "") -> Iterator[str]:
    """Yield a line for every value that differs; a list of plain values is one value.

    What is a group on one side and a value on the other differs as a whole.
    """
    there = [value for value in (old, new) if value is not _MISSING]
    if any(there) and all(isinstance(value, dict) for value in there):
        for name in sorted({name for value in there for name in value}):
            a, b = (_MISSING if v is _MISSING else v.get(name, _MISSING) for v in (old, new))
            yield from _differences(a, b, f"{key}.{name}" if key else name)
    elif all(map(_is_list_of_groups, there)):
        pairs = zip_longest(*([] if v is _MISSING else v for v in (old, new)), fillvalue=_MISSING)
        for number, (a, b) in enumerate(pairs):
            yield from _differences(a, b, f"{key}[{number}]")
    else:
        before, after = ("(none)" if v is _MISSING else json.dumps(v) for v in (old, new))
        if before != after:
            yield f"{key}: {before} -> {after}"


def _is_list_of_groups(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header and the length of its line in bytes."""
    with _opened(path) as file:
        line = file.readline()
    try:
        header: Any = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        header = None
    known = isinstance(header, dict) and header.get("format") == _FORMAT
    if not known or not _is_count(header.get("blocks")):
        raise OutputError(
            f"{path}:1: the first line must be the header of a ledger of format {_FORMAT}, got "
            f"{_excerpt(line)}. Go on with the version of denoise5d that began it, begin anew "
            f"with `denoise5d run --overwrite`, or choose another output.path."
        )
    if "fingerprint" in header:  # a level's ledger has none
        header["fingerprint"] = _with_format(header["fingerprint"])
        header.setdefault("output_format", _FIRST_OUTPUT_FORMAT)
    return header, len(line)


def _with_format(fingerprint: Any) -> Any:
    """Return a fingerprint with the format of the output, which older ones do not say."""
    output = fingerprint.get("output") if isinstance(fingerprint, dict) else None
    if not isinstance(output, dict) or "format" in output:
        return fingerprint
    return fingerprint | {"output": output | {"format": _FIRST_OUTPUT_FORMAT}}


def _read_records(path: Path, blocks: int) -> Iterator[tuple[BlockRecord, int]]:
    """Yield the record of every whole line but the header's, and the byte where the line ends."""
    with _opened(path) as file:
        end = len(file.readline())
        for number, line in enumerate(file, start=2):
            if not line.endswith(b"\n"):
                return
            end += len(line)
            try:
                record = record_of(json.loads(line))
                if type(record.block) is not int or not 0 <= record.block < blocks:
                    raise ValueError(f"block {record.block!r} is not one of the run's {blocks}")
            except (KeyError, TypeError, ValueError) as error:
                raise OutputError(
                    f"{path}:{number}: must be the record of a finished block, got "
                    f"{_excerpt(line)} ({error!r}). The file is damaged: cut it off before this "
                    f"line (the blocks from there on are computed again), or begin anew with "
                    f"`denoise5d run --overwrite`."
                ) from error
            yield record, end


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise OutputError(f"{path} is missing: no run was begun there.") from None


def _line(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def _excerpt(line: bytes) -> str:
    text = line[:60].decode(errors="replace")
    return repr(text + ("..." if len(line) > 60 else ""))


def _write_through(file: BinaryIO, data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last; some network file systems know no fsync of a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
