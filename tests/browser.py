"""A headless Chromium, driven through the pipe of its DevTools protocol: no network, no library."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
INSTALL = "apt-get install chromium"

_SWITCHES = (
    "--headless",
    "--no-sandbox",  # which root does not get
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",  # small in containers
    "--remote-debugging-pipe",
)
_PATIENCE_SECONDS = 60.0


def find_chromium() -> str | None:
    """Return the program, None if there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@dataclass(frozen=True)
class Page:
    """A page as a browser shows it at one width.

    Attributes
    ----------
    values : dict
        What the script gave.
    requests : list of str
        Addresses that were asked for, but for those of pictures in the page itself.
    complaints : list of str
        What the browser logged, and what the page did.
    """

    values: dict[str, Any]
    requests: list[str]
    complaints: list[str]


class Browser:
    """The pipe to a browser: commands, answers, events."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Give a command and return its answer; events in between are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._number:
                assert "error" not in found, found
                result: dict[str, Any] = found["result"]
                return result
            self.events.append(found)

    def wait_for(self, method: str) -> None:
        """Wait for an event."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not any(event.get("method") == method for event in self.events):
            assert time.monotonic() < deadline, f"no {method}"
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._read, 2**16)
            assert part, "the browser has ended"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def show(self, file: Path, width: int, script: str) -> Page:
        """Show a file at a width in pixels, and return what a script says of it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", session)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", session, **size)
        self.events.clear()
        self.call("Page.navigate", session, url=file.as_uri())
        self.wait_for("Page.loadEventFired")
        answer = self.call("Runtime.evaluate", session, expression=script, returnByValue=True)
        values: dict[str, Any] = answer["result"]["value"]
        page = Page(values, self._requests(), self._complaints())
        self.call("Target.closeTarget", targetId=target)
        return page

    def _requests(self) -> list[str]:
        urls = [e["params"]["request"]["url"] for e in self.events
                if e.get("method") == "Network.requestWillBeSent"]  # fmt: skip
        return [url for url in urls if not url.startswith("data:")]

    def _complaints(self) -> list[str]:
        loud = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [json.dumps(e["params"]) for e in self.events if e.get("method") in loud]


@contextmanager
def chromium(program: str, folder: Path) -> Iterator[Browser]:
    """Start a browser that keeps its files in a new folder; it does not outlive the test."""
    to_browser, from_browser = os.pipe(), os.pipe()
    theirs = (to_browser[0], from_browser[1])
    command = [program, *_SWITCHES, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$@" 3<&{theirs[0]} 4>&{theirs[1]}', "bash", *command],
        pass_fds=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in theirs:
        os.close(end)
    browser = Browser(from_browser[0], to_browser[1])
    try:
        yield browser
        browser.call("Browser.close")
    finally:
        os.close(from_browser[0])
        os.close(to_browser[1])
        process.kill()
        process.wait(timeout=_PATIENCE_SECONDS)
