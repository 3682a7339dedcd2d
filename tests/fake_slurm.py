"""Commands of SLURM that say what a test wants, in a folder that is the whole PATH."""

from __future__ import annotations

import shutil
from pathlib import Path
from shlex import quote


class FakeSlurm:
    """The commands; those that say nothing are not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._calls = folder / "calls"

    def says(self, command: str, out: str = "", *, error: str = "", code: int = 0) -> None:
        """Let a command print this and end."""
        self._write(command, f"printf %s {quote(out)}\nprintf %s {quote(error)} >&2\nexit {code}\n")

    def runs(self, command: str, script: str) -> None:
        """Let a command do this."""
        self._write(command, script)

    def hangs(self, command: str) -> None:
        """Let a command say nothing for a long time."""
        self._write(command, f"exec {quote(str(shutil.which('sleep', path='/usr/bin:/bin')))} 60\n")

    def calls(self) -> list[str]:
        """Return the commands that were given, with their arguments."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    def _write(self, command: str, script: str) -> None:
        note = f'printf "%s\\n" "${{0##*/}} $*" >> {quote(str(self._calls))}\n'
        path = self.folder / command
        path.write_text(f"#!/bin/sh\n{note}{script}")
        path.chmod(0o755)
