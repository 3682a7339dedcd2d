"""What the integration tests share: small images, their YAML, drivers in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
import zarr
from numpy.typing import NDArray

from denoise5d import denoise_block
from denoise5d.config import Config, load_config
from denoise5d.geometry import Box
from denoise5d.ledger import Ledger, run_folder
from denoise5d.machine import this_machine
from denoise5d.noise import NoiseModel
from denoise5d.prepare import open_input, prepare
from denoise5d.records import BlockRecord
from denoise5d.store import convert_dtype

PATIENCE_SECONDS = 120
"""How long to wait for what must happen; never a measure of speed."""


def structured(shape: tuple[int, ...], dtype: str, seed: int = 0) -> NDArray[Any]:
    """Return spots and ramps under Poisson noise of gain 1, nowhere zero over a whole chunk."""
    rng = np.random.default_rng(seed)
    waves = [np.sin(np.arange(n) * (0.7 + 0.2 * axis) + axis) for axis, n in enumerate(shape)]
    total = sum(wave.reshape([-1 if i == a else 1 for i in range(len(shape))])
                for a, wave in enumerate(waves))  # fmt: skip
    return rng.poisson(40 + 25 * np.tanh(total)).astype(dtype)


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with an image, the YAML of a run, and what comes of it."""

    folder: Path

    @property
    def input(self) -> Path:
        return self.folder / "in.zarr"

    @property
    def output(self) -> Path:
        return self.folder / "out.zarr"

    @property
    def yaml(self) -> Path:
        return self.folder / "run.yaml"

    @property
    def ledger(self) -> Path:
        return run_folder(self.output) / "ledger.jsonl"

    def image(self, data: NDArray[Any], **options: Any) -> Project:
        """Store an image as a plain Zarr array."""
        options.setdefault("chunks", tuple(min(16, n) for n in data.shape))
        zarr.create_array(self.input, data=data, fill_value=0, **options)
        return self

    def write(self, **sections: Any) -> Project:
        """Write the YAML: the quickest run on two workers of one thread, with these sections."""
        document: dict[str, Any] = {
            "input": {"path": "in.zarr"},
            "output": {"path": "out.zarr"},
            "noise": {"gain": 1, "offset": 0},
            "denoise": {"method": "safir"},
            "cluster": {"workers": 2, "cpus": 1},
        }
        for section, value in sections.items():
            merged = isinstance(value, dict) and section not in ("noise", "blocks")
            document[section] = document[section] | value if merged else value
        self.yaml.write_text(yaml.safe_dump(document))
        return self

    def config(self) -> Config:
        return load_config(self.yaml)

    def lines(self) -> list[str]:
        """Return the whole lines of the ledger, none as long as there is no ledger."""
        text = self.ledger.read_text() if self.ledger.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    def header(self) -> dict[str, Any]:
        header: dict[str, Any] = json.loads(self.lines()[0])
        return header

    def records(self) -> list[BlockRecord]:
        return list(Ledger.open(self.ledger, read_only=True).records())

    def result(self) -> NDArray[Any]:
        """Return the whole output, read by zarr alone."""
        return np.asarray(zarr.open_array(self.output / "0", mode="r")[...])

    def expected(self) -> NDArray[Any]:
        """Return what the kernel gives on the whole image in memory, with one thread."""
        config, header = self.config(), self.header()
        image = open_input(config)
        whole = Box.whole(image.info.shape)
        result = denoise_block(
            image.read(whole),
            padded_origin=whole.start,
            core=whole,
            image_shape=whole.shape,
            noise=[NoiseModel(**model) for model in header["noise"]],
            parameters=prepare(config, image.info, this_machine()).parameters,
            threads=1,
        )
        same = config.output.dtype == "same"
        return convert_dtype(result, image.info.dtype if same else np.dtype(np.float32))

    def check(self) -> None:
        """Check that every block is done once, and that the output is right bit for bit."""
        blocks = self.header()["blocks"]
        assert sorted(record.block for record in self.records()) == list(range(blocks))
        np.testing.assert_array_equal(self.result(), self.expected(), strict=True)

    def damage(self, key: str, content: bytes | None = None) -> Callable[[], None]:
        """Cut a chunk of the input short, or replace it; return what mends it."""
        file = self.input / key
        sound = file.read_bytes()
        file.write_bytes(sound[: len(sound) // 2] if content is None else content)

        def mend() -> None:
            file.write_bytes(sound)

        return mend


class Driver:
    """``denoise5d run`` in a process and a session of its own."""

    program: Sequence[str] = ("-m", "denoise5d.cli")

    def __init__(
        self, project: Project, *options: str, env: Mapping[str, str] | None = None
    ) -> None:
        self.project = project
        self._log = (project.folder / "driver.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, *self.program, "run", str(project.yaml), *options],
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            start_new_session=True,
            env=dict(env or os.environ) | {"TMPDIR": str(project.folder)},
        )

    def log(self) -> str:
        return Path(self._log.name).read_text()

    def wait_for(self, happened: Callable[[], bool]) -> None:
        """Wait until something has happened; fail if the driver ends before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not happened():
            assert self.process.poll() is None, f"ended with {self.process.poll()}: {self.log()}"
            assert time.monotonic() < deadline, f"waited too long: {self.log()}"
            time.sleep(0.02)

    def wait_for_blocks(self, more: int) -> list[str]:
        """Wait for so many blocks more than there are now; return the ledger then."""
        wanted = max(1, len(self.project.lines())) + more
        self.wait_for(lambda: len(self.project.lines()) >= wanted)
        return self.project.lines()

    def workers(self) -> list[psutil.Process]:
        """Return the processes that do blocks."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]

    def halt_workers(self) -> list[psutil.Process]:
        """Let the workers stand still, in the middle of whatever they do, until `resume`."""
        workers = self.workers()
        for worker in workers:
            worker.suspend()
        return workers

    def finish(self) -> int:
        """Wait for the end; return the exit code."""
        return self.process.wait(timeout=PATIENCE_SECONDS)

    def close(self) -> None:
        """End the driver, and its workers with it, if it is still there."""
        if self.process.poll() is None:
            children = psutil.Process(self.process.pid).children(recursive=True)
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            psutil.wait_procs(children, timeout=PATIENCE_SECONDS)
        self._log.close()


@contextmanager
def driver(
    project: Project, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[Driver]:
    """Start a driver; it does not outlive the test."""
    started = Driver(project, *options, env=env)
    try:
        yield started
    finally:
        started.close()


def run(project: Project, *options: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run to the end in a process; return exit code and log."""
    with driver(project, *options, env=env) as started:
        return started.finish(), started.log()
