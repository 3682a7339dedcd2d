"""One driver at a time: a lock that outlives no driver.

The lock is a small file beside the ledger. Empty, or missing: nobody holds it. Otherwise it holds
the record of its owner as JSON: host, process, SLURM job, since when. It is emptied on release and
never removed, so that all who try always try for the same file.

Two things keep apart drivers that try at the same moment:

* ``flock``, where the file system has it, held as long as the lock is. The kernel drops it when the
  process dies, however that happens;
* else a *guard*, a second file that only one can create, held while the record is read and written.

A record that was left by a driver which died is taken over if that is certain:

========================  ==========================================================================
owner's machine           proof
========================  ==========================================================================
this one, since its boot  no such process, or one with that number that began at another time
this one, booted since    none needed: no process outlives that (names of hosts are unique)
another, or a container   the flock was free, on a file system whose flock spans all its machines
any, in a batch job       the batch system says that the job has ended; whoever locks asks it
========================  ==========================================================================

Where there is no proof the driver is refused, and told which file to remove if its user knows.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from denoise5d.errors import LockedError

_NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_GUARD_SECONDS = 5.0
_MOUNTS = Path("/proc/self/mountinfo")
_LOCAL = ("ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "f2fs")
_SHARED = ("nfs", "nfs4", "gpfs", "ceph")
_LOCAL_ONLY_OPTIONS = {"nolock", "local_lock=all", "local_lock=flock"}


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock.

    Attributes
    ----------
    host : str
        Name of the machine.
    boot : str
        Identity of its last boot; the host's name where there is none.
    pid_namespace : str
        Where `pid` counts: containers have process numbers of their own.
    pid : int
        Number of the process.
    began : str
        When the process began, in ticks since boot; empty where that is not told.
    job : str or None
        SLURM job.
    since : str
        When the lock was taken, ISO 8601, UTC.
    cluster : str or None
        Whose jobs `job` is one of.
    """

    host: str
    boot: str
    pid_namespace: str
    pid: int
    began: str
    job: str | None
    since: str
    cluster: str | None = None

    @classmethod
    def of_this_process(cls) -> Owner:
        """Return the owner that this process is."""
        host = socket.gethostname()
        boot = Path("/proc/sys/kernel/random/boot_id")
        namespace = Path("/proc/self/ns/pid")
        return cls(
            host=host,
            boot=boot.read_text().strip() if boot.exists() else host,
            pid_namespace=str(namespace.readlink()) if namespace.is_symlink() else "",
            pid=os.getpid(),
            began=_began(os.getpid()) or "",
            job=os.environ.get("SLURM_JOB_ID"),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            cluster=os.environ.get("SLURM_CLUSTER_NAME"),
        )

    def __str__(self) -> str:
        job = f" of SLURM job {self.job}" if self.job else ""
        return f"process {self.pid}{job} on {self.host} (since {self.since})"


def read_owner(path: Path) -> Owner | None:
    """Return who holds the lock file at `path`, dead or alive; None if it is free.

    A record that cannot be read counts as none: its writer did not live to get the lock.
    """
    try:
        return Owner(**json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def is_dead(owner: Owner, *, flock_was_free: bool = False, flock_spans_hosts: bool = False) -> bool:
    """Tell whether the owner of a lock is provably dead; False means alive, or not known.

    Parameters
    ----------
    owner : Owner
        The record found in the lock file.
    flock_was_free : bool
        Whether the caller got the flock of the file.
    flock_spans_hosts : bool
        Whether a flock held on any machine is seen on this one.
    """
    me = Owner.of_this_process()
    if (owner.boot, owner.pid_namespace) == (me.boot, me.pid_namespace):
        return not _is_alive(owner)
    if owner.boot == me.boot:  # another container under the same kernel, which keeps the flocks
        return flock_was_free
    return owner.host == me.host or (flock_was_free and flock_spans_hosts)


class OutputLock:
    """Context manager that holds the lock of one output.

    Parameters
    ----------
    path : Path
        The lock file; its folder is made if it is missing.
    has_ended : callable
        Tells whether an owner is known to have ended, where the lock itself has no proof.

    Raises
    ------
    LockedError
        On entering, if another driver holds the lock, or may hold it.
    """

    def __init__(self, path: Path, has_ended: Callable[[Owner], bool] = lambda _: False) -> None:
        self.path = path
        self._has_ended = has_ended
        self._file: int | None = None

    def __enter__(self) -> OutputLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _got_flock(file, self.path):
                self._take(file, flock=True)
            else:
                with _guard(self.path):
                    self._take(file, flock=False)
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._file is not None
        try:
            _overwrite(self._file, b"")
        finally:
            os.close(self._file)  # drops the flock
            self._file = None

    def _take(self, file: int, *, flock: bool) -> None:
        owner = read_owner(self.path)
        spans = flock and _flock_spans_hosts(self.path)
        dead = owner is None or is_dead(owner, flock_was_free=flock, flock_spans_hosts=spans)
        if owner and not (dead or self._has_ended(owner)):
            raise _refusal(self.path, owner)
        _overwrite(file, json.dumps(asdict(Owner.of_this_process())).encode())


def _got_flock(file: int, path: Path) -> bool:
    """Return whether the flock was got, or False if the file system has none."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _refusal(path, read_owner(path)) from None
    except OSError as error:
        if error.errno in _NO_FLOCK:
            return False
        raise
    return True


@contextmanager
def _guard(path: Path) -> Iterator[None]:
    """Hold the guard of a lock: a file that only one process can create."""
    guard = path.with_name(path.name + ".guard")
    give_up = time.monotonic() + _GUARD_SECONDS
    while True:
        try:
            os.close(os.open(guard, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            break
        except FileExistsError:
            if time.monotonic() > give_up:
                raise LockedError(
                    f"another driver is just taking the lock of this output, or was killed while "
                    f"it did. If you are sure that none is running, remove {guard}."
                ) from None
            time.sleep(0.02)
    try:
        yield
    finally:
        guard.unlink()


def _refusal(path: Path, owner: Owner | None) -> LockedError:
    who = f"{owner}" if owner else "one that has not yet written its name"
    return LockedError(
        f"another driver works on this output: {who}. Wait for it or end it; two at once are never "
        f"let in. If it is on another machine and you are sure that it is dead, remove {path}."
    )


def _overwrite(file: int, data: bytes) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, data, 0)
    os.fsync(file)


def _is_alive(owner: Owner) -> bool:
    """Tell whether the owner, a process of this machine, may still be running."""
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it exists, and belongs to somebody else
    began = _began(owner.pid)
    return began is None or began == owner.began


def _began(pid: int) -> str | None:
    """Return when a process began, "dead" for one that has ended, None where that is not told.

    Linux counts it in ticks since boot, which no change of the clock moves. Without it (no /proc,
    or one that hides other users' processes) a process of the same number counts as alive.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "dead" if status[0] in "ZX" else status[19]


def _flock_spans_hosts(path: Path) -> bool:
    """Tell whether the file system of `path` is known to show a flock to all its machines."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = _MOUNTS.read_text().splitlines()
    except OSError:
        return False
    for mount in mounts:
        left, _, right = mount.partition(" - ")
        if left.split()[2] == number:
            kind, _, options = right.split(maxsplit=2)
            names = {*left.split()[5].split(","), *options.split(",")}
            return (
                kind in _LOCAL
                or (kind in _SHARED and not names & _LOCAL_ONLY_OPTIONS)
                or (kind == "lustre" and "flock" in names)
            )
    return False
