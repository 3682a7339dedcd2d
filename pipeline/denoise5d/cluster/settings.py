"""Settings of dask for blocks: two at a time a worker, nothing spilled or stolen; certificates."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from distributed.security import Security

SCHEDULER: Mapping[str, Any] = {
    # With more than 1.0 a worker holds a block in reserve and is blamed for it when it dies.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.work-stealing": False,
    # We count attempts ourselves: a block whose worker died comes back at once.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.admin.low-level-log-length": 0,
    "distributed.diagnostics.computations.max-history": 1,
}

WORKER: Mapping[str, Any] = {
    # The kernel's memory cannot be spilled, and pausing does not give any back.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # A worker over its limit broke the plan's promise: end it before the machine suffers.
    "distributed.worker.memory.terminate": 1.0,
}

NO_PAGES: Mapping[str, list[str]] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
"""Without `cluster.dashboard` nothing is told to whoever asks: these pages know no password."""

_PREFIX = "run-"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What lets a worker of another machine in.

    Attributes
    ----------
    security : Security
        For scheduler and client.
    settings_file : Path
        Dask's settings of the workers, to be named in their ``DASK_CONFIG``.
    """

    security: Security
    settings_file: Path


@contextmanager
def credentials(folder: Path, extra: Mapping[str, Any]) -> Iterator[Credentials]:
    """Make certificates for this run in a folder that only this user can read; remove it after.

    Parameters
    ----------
    folder : Path
        On a file system that the workers see.
    extra : mapping
        More settings of dask for the workers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f"{_PREFIX}*"):  # of drivers that were killed: this one has the lock
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder) as private:  # made with mode 0700
        security = Security.temporary()
        own = security.get_tls_config_for_role("worker")
        files = {}
        for name, text in (("ca", own["ca_file"]), ("cert", own["cert"]), ("key", own["key"])):
            files[name] = Path(private) / f"{name}.pem"
            _write_private(files[name], text)
        tls = {
            "ca-file": str(files["ca"]),
            "worker": {"cert": str(files["cert"]), "key": str(files["key"])},
        }
        settings = {**WORKER, **extra, "distributed.comm.require-encryption": True}
        tree = _tree({**settings, "distributed.comm.tls": tls})
        path = Path(private) / "dask.yaml"
        _write_private(path, yaml.safe_dump(tree))
        yield Credentials(security, path)


def _tree(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted keys into groups, as dask's files have them."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *groups, name = key.split(".")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value
    return tree


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
