"""The pipeline around the kernel: overlap, two other ways to the same result, tiny blocks.

``python tests/benchmarks/pipeline.py [--quick] [--output FOLDER]`` writes ``pipeline.md``,
``pipeline.json`` and ``pipeline.png``. Every measurement runs in a process of its own, whose
memory is watched from outside.

* *overlap*: wall time of a run over the longer of its kernel and its file seconds a worker;
* *ways*: one task a block, as denoise5d does it; dask's overlap of chunks with the same halo; and
  read, denoise and write as separate tasks. Same kernel, blocks, workers and output layout. Only
  the first flushes what it writes to the disk and reads it back.
* *scheduling*: tiny blocks that do nothing, with a real cluster and a real ledger.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict
from datetime import datetime
from functools import partial
from itertools import count
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import dask.array as da
import numpy as np
import psutil
import yaml
import zarr
from distributed import Client, LocalCluster, get_worker
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from zarr.codecs import ZstdCodec

from denoise5d import dispatch
from denoise5d.cluster import Workers
from denoise5d.cluster.local import local_cluster
from denoise5d.config import load_config
from denoise5d.execute import execute
from denoise5d.geometry import Block, BlockGrid, Box
from denoise5d.kernel import denoise_block
from denoise5d.ledger import Ledger, run_folder
from denoise5d.machine import available_cpus, this_machine
from denoise5d.noise import NoiseModel
from denoise5d.passes import Pass
from denoise5d.phantom import Embryo, camera
from denoise5d.plan import Budget, Layout, Plan
from denoise5d.prepare import Job, open_input, prepare
from denoise5d.records import BlockRecord, StageSeconds
from denoise5d.store import convert_dtype, create_output, open_image, open_output
from denoise5d.task import TaskSettings
from denoise5d.worker import TOPIC
from denoise5d.writing import Target

OUTPUT = Path(__file__).parents[2] / "build" / "benchmarks"

WORKERS = 2
ROUNDS = 3
NOISE = {"gain": 3.92, "offset": -388}
CHUNK = [1, 1, 16, 64, 64]

FULL = {"shape": [1, 1, 48, 640, 512], "block": [1, 1, 48, 128, 128], "blocks": 100_000}
QUICK = {"shape": [1, 1, 8, 128, 640], "block": [1, 1, 8, 64, 64], "blocks": 1000}

STAGES = {  # Okabe and Ito's colours
    "read": "#56B4E9",
    "wait": "#DDDDDD",
    "kernel": "#0072B2",
    "write": "#E69F00",
    "verify": "#009E73",
}
STORES = ("ours.zarr", "overlap.zarr", "delayed.zarr")
MIB = 2**20


# --- what runs in a process of its own -----------------------------------------------------------


def make_image(folder: Path, size: dict[str, Any]) -> None:
    """Store a noisy embryo, compressed, and the YAML of its run."""
    shape = tuple(size["shape"])
    embryo = Embryo(shape)
    array = zarr.create_array(
        folder / "in.zarr",
        shape=shape,
        chunks=tuple(min(c, n) for c, n in zip(CHUNK, shape, strict=True)),
        dtype="uint16",
        fill_value=0,
        compressors=ZstdCodec(level=3, checksum=True),
    )
    for slab in Box.whole(shape).tiles((1, 1, *shape[2:])):
        array[slab.slices] = camera(embryo.render(slab))
    document = {
        "input": {"path": "in.zarr"},
        "output": {"path": "ours.zarr", "chunks": CHUNK, "shards": None},
        "noise": NOISE,
        "blocks": {"shape": size["block"]},
        "cluster": {"workers": WORKERS, "cpus": 1},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(document))


def job_of(folder: Path) -> Job:
    config = load_config(folder / "run.yaml")
    return prepare(config, open_input(config).info, this_machine())


def run_ours(folder: Path, _: dict[str, Any]) -> dict[str, Any]:
    """One task a block, through `execute`; the time from the first block's start to the end."""
    records: list[BlockRecord] = []
    ended: list[float] = []

    def note(_: object, record: BlockRecord) -> None:
        records.append(record)
        ended.append(time.time())

    config = load_config(folder / "run.yaml")
    run = execute(config, overwrite=True, on_begin=lambda _: None, on_block=note)
    begin = min(datetime.fromisoformat(record.start).timestamp() for record in records)
    return {"seconds": ended[-1] - begin, "tasks": len(run.job.plan.grid)}


def denoised(padded: np.ndarray, block: Block, job: Job) -> np.ndarray:
    values = denoise_block(
        padded,
        padded_origin=block.padded.start,
        core=block.core,
        image_shape=job.image.shape,
        noise=[NoiseModel.poisson_gaussian(NOISE["gain"], NOISE["offset"])],
        parameters=job.parameters,
        threads=1,
    )
    return convert_dtype(values, np.dtype("uint16"))


def read(path: Path, block: Block) -> np.ndarray:
    return open_image(path, axes="TCZYX").read(block.padded)


def write(path: Path, block: Block, values: np.ndarray) -> None:
    output = open_output(path)
    output._array[block.core.slices] = values


def output_for(job: Job, path: Path) -> Path:
    create_output(
        path, job.image, layout=job.plan.layout, dtype=job.dtype, provenance={}, overwrite=True
    )
    return path


def delayed_tasks(folder: Path, job: Job) -> Any:
    """Three tasks a block; arrays go from one to the next."""
    path = output_for(job, folder / "delayed.zarr")
    ends = []
    for block in job.plan.grid:
        padded = dask.delayed(read)(folder / "in.zarr", block)
        values = dask.delayed(denoised)(padded, block, job)
        ends.append(dask.delayed(write)(path, block, values))
    return dask.delayed(len)(ends)


def overlap_tasks(folder: Path, job: Job) -> Any:
    """What `map_overlap` makes, but the kernel trims: it knows where a block lies in the image."""
    path = output_for(job, folder / "overlap.zarr")
    grid = job.plan.grid

    def kernel(padded: np.ndarray, block_info: Any = None) -> np.ndarray:
        if not block_info:
            return padded
        place = np.ravel_multi_index(block_info[0]["chunk-location"], grid.counts)
        return denoised(padded, grid[int(place)], job)

    image = da.from_zarr(folder / "in.zarr", chunks=grid.block_shape)
    depth = {
        axis: halo if n > 1 else 0
        for axis, (halo, n) in enumerate(zip(grid.halo, grid.counts, strict=True))
    }
    padded = da.overlap.overlap(image, depth, boundary="none", allow_rechunk=False)
    result = padded.map_blocks(kernel, dtype="uint16", chunks=image.chunks, meta=np.empty(0, "u2"))
    return da.store(result, open_output(path)._array, lock=False, compute=False)


def run_graph(make: Callable[[Path, Job], Any], folder: Path, _: dict[str, Any]) -> dict[str, Any]:
    """Compute a graph on plain dask workers of one thread each."""
    job = job_of(folder)
    with ExitStack() as stack:
        cluster = LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        )
        client = stack.enter_context(Client(stack.enter_context(cluster)))
        client.wait_for_workers(WORKERS)
        begin = time.perf_counter()
        (graph,) = dask.optimize(make(folder, job))
        tasks = len(dict(graph.__dask_graph__()))
        client.compute(graph).result()
        return {"seconds": time.perf_counter() - begin, "tasks": tasks}


def nothing(block: int, attempt: int, *, level: int, seconds: float) -> None:  # noqa: ARG001
    """Stand for a block: its record is sent, and that is all."""
    stages = StageSeconds(0, 0, 0, 0)
    record = BlockRecord(block, "0", None, "", stages, 0, ("0" * 16,), attempt)
    get_worker().log_event(TOPIC, {"level": level, "record": asdict(record)})


def run_scheduling(folder: Path, size: dict[str, Any]) -> dict[str, Any]:
    """Hand out blocks that do nothing."""
    blocks = size["blocks"]
    shape = (blocks, 1, 1, 1, 1)
    budget = Budget(WORKERS, 1, memory_bytes=2**31, memory_factor=6, reserve_bytes=2**30)
    unit = (1, 1, 1, 1, 1)
    plan = Plan(BlockGrid(shape, unit, (0,) * 5), Layout(unit), budget, exact_halo=True)
    ledger = Ledger.create(run_folder(folder / "tiny") / "ledger.jsonl", {"blocks": blocks})
    blocks_config, cluster = SimpleNamespace(retries=0), SimpleNamespace(batch=None)
    job = SimpleNamespace(plan=plan, config=SimpleNamespace(blocks=blocks_config, cluster=cluster))
    target = Target(folder, 0, io_threads=1, provenance=None)
    idle: Any = TaskSettings(folder, None, None, target, plan.grid, (), None, 1)
    run: Any = SimpleNamespace(
        job=job, ledger=ledger, failures=[], settings=idle, level_settings=[], ends=inf
    )
    stages = [Pass(run, 0, plan.grid, ledger, later=0)]
    dispatch.do_block = nothing
    resident: list[int] = []

    def note(*_: object) -> None:
        resident.append(psutil.Process().memory_info().rss)

    with local_cluster(plan) as client:
        begin = time.perf_counter()
        told = every(blocks // 10, note)
        dispatch.dispatch(run, stages, Workers(client, 1), lambda: False, told)
        seconds = time.perf_counter() - begin
    return {
        "seconds": seconds,
        "blocks": ledger.done_count,
        "blocks_per_second": ledger.done_count / seconds,
        "driver_mib_after_a_tenth": resident[0] / MIB,
        "driver_mib_at_the_end": resident[-1] / MIB,
    }


def every(nth: int, call: Callable[..., None]) -> Callable[..., None]:
    """Return a function that calls another one each time it has been called so often."""
    calls = count(1)
    return lambda *arguments: call(*arguments) if next(calls) % nth == 0 else None


WAYS: dict[str, Callable[[Path, dict[str, Any]], dict[str, Any]]] = {
    "one task a block": run_ours,
    "dask's overlap": partial(run_graph, overlap_tasks),
    "separate tasks": partial(run_graph, delayed_tasks),
}
PARTS = WAYS | {"scheduling": run_scheduling}


# --- what watches it -----------------------------------------------------------------------------


def measure(part: str, folder: Path, *, quick: bool) -> dict[str, Any]:
    """Run a part in a process of its own; add the largest memory of driver and of all workers."""
    command = [sys.executable, __file__, "--part", part, "--output", str(folder)]
    process = subprocess.Popen(command + ["--quick"] * quick, stdout=subprocess.PIPE, text=True)
    watched = psutil.Process(process.pid)
    driver = workers = 0
    while process.poll() is None:
        driver = max(driver, memory(watched))
        workers = max(workers, sum(map(memory, children(watched))))
        time.sleep(0.05)
    assert process.stdout is not None
    text = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{part} ended with {process.returncode}")
    peaks = {"driver_peak_mib": driver / MIB, "workers_peak_mib": workers / MIB}
    return json.loads(text.splitlines()[-1]) | peaks


def middle(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the round of median time, with the times of all."""
    ordered = sorted(rounds, key=lambda found: found["seconds"])
    return ordered[len(rounds) // 2] | {"all_seconds": [found["seconds"] for found in rounds]}


def memory(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return list(process.children(recursive=True))
    return []


def overlap_of(records: list[BlockRecord], seconds: float) -> dict[str, Any]:
    """Compare the wall time with the longer of kernel and files, a worker."""
    stages = {name: sum(getattr(r.seconds, name) for r in records) for name in STAGES}
    kernel = stages["kernel"] / WORKERS
    files = (stages["read"] + stages["write"] + stages["verify"]) / WORKERS
    return {
        "blocks": len(records),
        "seconds": seconds,
        "kernel_seconds_a_worker": kernel,
        "file_seconds_a_worker": files,
        "ratio": seconds / max(kernel, files),
        "ratio_without_overlap": (kernel + files) / max(kernel, files),
        "stage_seconds": stages,
        "peak_mib_of_a_worker": max(record.peak_bytes for record in records) / MIB,
    }


def draw(records: list[BlockRecord], file: Path) -> None:
    """Draw a lane for each of the two blocks that a worker has."""
    names = sorted({record.worker for record in records})
    zero = min(start_of(record) for record in records)
    figure = Figure(figsize=(11, 1.2 + 0.9 * len(names)), layout="constrained")
    axes = figure.subplots()
    for lane, name in enumerate(names):
        free = [0.0, 0.0]  # when the two rows of the lane are
        for record in sorted((r for r in records if r.worker == name), key=start_of):
            begin = start_of(record) - zero
            row = int(free[0] > begin + 0.02)
            y = 2.4 * lane + row
            for stage, colour in STAGES.items():
                width = getattr(record.seconds, stage)
                axes.broken_barh([(begin, width)], (y, 0.85), facecolors=colour)
                begin += width
            free[row] = begin
    axes.set_yticks([2.4 * lane + 0.92 for lane in range(len(names))])
    axes.set_yticklabels([f"worker {name}" for name in names])
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    handles = [Patch(color=colour, label=stage) for stage, colour in STAGES.items()]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(STAGES), frameon=False)
    figure.savefig(file, dpi=120)


def start_of(record: BlockRecord) -> float:
    return datetime.fromisoformat(record.start).timestamp()


def markdown(found: dict[str, Any]) -> str:
    overlap, tiny = found["overlap"], found["scheduling"]
    lines = [
        f"{found['machine']}; {WORKERS} workers of one thread; image {found['shape']}, "
        f"blocks {found['block']}, halo {found['halo']}.",
        "",
        "## Overlap",
        "",
        "| blocks | wall s | kernel s a worker | files s a worker | wall / longer | without |",
        "|---|---|---|---|---|---|",
        f"| {overlap['blocks']} | {overlap['seconds']:.1f} "
        f"| {overlap['kernel_seconds_a_worker']:.1f} | {overlap['file_seconds_a_worker']:.1f} "
        f"| {overlap['ratio']:.2f} | {overlap['ratio_without_overlap']:.2f} |",
        "",
        "![The stages of each block](pipeline.png)",
        "",
        "## Three ways",
        "",
        f"In turn; the median of {len(next(iter(found['ways'].values()))['all_seconds'])}.",
        "",
        "| way | wall s | tasks | peak of the driver MiB | peak of all workers MiB | same voxels |",
        "|---|---|---|---|---|---|",
        *(
            f"| {way} | {r['seconds']:.1f} | {r['tasks']} | {r['driver_peak_mib']:.0f} "
            f"| {r['workers_peak_mib']:.0f} | {'yes' if r['same'] else 'no'} |"
            for way, r in found["ways"].items()
        ),
        "",
        "## Scheduling alone",
        "",
        "| blocks | blocks/s | driver MiB after a tenth | driver MiB at the end |",
        "|---|---|---|---|",
        f"| {tiny['blocks']} | {tiny['blocks_per_second']:.0f} "
        f"| {tiny['driver_mib_after_a_tenth']:.0f} | {tiny['driver_mib_at_the_end']:.0f} |",
    ]
    return "\n".join(lines) + "\n"


def benchmark(output: Path, *, quick: bool) -> None:
    """Measure everything and write it down; the images are removed again."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output) as name:
        folder = Path(name)
        make_image(folder, QUICK if quick else FULL)
        plan = job_of(folder).plan
        rounds = 1 if quick else ROUNDS
        runs = [{way: measure(way, folder, quick=quick) for way in WAYS} for _ in range(rounds)]
        ways = {way: middle([run[way] for run in runs]) for way in WAYS}
        results = [zarr.open_array(folder / f"{name}/0")[...] for name in STORES]
        for way, result in zip(ways.values(), results, strict=True):
            way["same"] = bool(np.array_equal(result, results[0]))
        ledger = run_folder(folder / "ours.zarr") / "ledger.jsonl"
        records = list(Ledger.open(ledger, read_only=True).records())  # of the last round
        draw(records, output / "pipeline.png")
        found = {
            "machine": f"{platform.machine()}, {available_cpus()} processors",
            "shape": plan.grid.image_shape,
            "block": plan.grid.block_shape,
            "halo": plan.grid.halo,
            "overlap": overlap_of(records, runs[-1]["one task a block"]["seconds"]),
            "ways": ways,
            "scheduling": measure("scheduling", folder, quick=quick),
        }
    (output / "pipeline.json").write_text(json.dumps(found, indent=2) + "\n")
    (output / "pipeline.md").write_text(markdown(found))
    print(markdown(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small: to see that it works")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part is None:
        benchmark(options.output, quick=options.quick)
    else:
        size = QUICK if options.quick else FULL
        print(json.dumps(PARTS[options.part](options.output, size)))


if __name__ == "__main__":
    main()
