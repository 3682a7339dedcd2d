"""What is said of the time of a run before it has begun, and the plan of a batch system."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import pytest
import yaml
import zarr
from click.testing import CliRunner, Result

from denoise5d import forecast as module
from denoise5d import space
from denoise5d.batch import driver_script, job_gib
from denoise5d.budget import machine_of
from denoise5d.cli import cli
from denoise5d.cluster import worker_script
from denoise5d.config import load_config
from denoise5d.errors import PlanError
from denoise5d.forecast import Forecast, check_time, forecast
from denoise5d.levels import PyramidLevel
from denoise5d.machine import GIB, Machine
from denoise5d.prepare import Job, describe_input, prepare

ROOT = Path(__file__).parents[1]
KINDS_OF_IMAGES = {"2-D": (1, 1), "2-D+t": (9, 1), "3-D": (1, 40), "4-D": (9, 40)}  # T, Z


def job(
    folder: Path,
    *,
    t: int = 9,
    z: int = 40,
    cpus: int = 4,
    walltime: str = "12:00:00",
    **sections: Any,
) -> Job:
    document = {
        "input": {"path": "in.zarr", "shape": [t, 1, z, 256, 256], "dtype": "uint16"},
        "output": {"path": "out.zarr"},
        "cluster": {"kind": "slurm", "walltime": walltime, "cpus": cpus, "memory": 30},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(document | sections))
    config = load_config(path)
    return prepare(config, describe_input(config), machine_of(config))


# -- rates -----------------------------------------------------------------------------------------


def measured(image: str) -> tuple[float, float, float]:
    """Return the speeds of fast, standard and best that docs/performance.md has, per thread."""
    text = (ROOT / "docs" / "performance.md").read_text().split("\n## Speed\n")[1]
    table = text.split("Million voxels per second with 2 threads")[1].split("\n\n")[1]
    head, _, *rows = table.split("\n")
    assert head.startswith("| image | fast | standard | best |")
    (row,) = (row for row in rows if row.startswith(f"| {image} |"))
    fast, standard, best, *_ = (float(cell) / 2 for cell in row.split("|")[2:-1])
    return fast, standard, best


@pytest.mark.parametrize(("image", "lengths"), KINDS_OF_IMAGES.items())
def test_rates_are_those_of_the_document(
    tmp_path: Path, image: str, lengths: tuple[int, int]
) -> None:
    t, z = lengths
    fast, standard, best = (float(f"{speed:.2g}") for speed in measured(image))
    assert module._RATES[t > 1, z > 1] == (fast, standard)
    for quality, rate in (("fast", fast), ("standard", standard)):
        found = forecast(job(tmp_path, t=t, z=z, denoise={"quality": quality})).rate
        assert found == pytest.approx(1e6 * rate)
    twice = forecast(job(tmp_path, t=t, z=z, denoise={"quality": "best"})).rate
    assert twice == pytest.approx(1e6 * best, rel=0.25)


# -- times -----------------------------------------------------------------------------------------


def test_times_by_hand(tmp_path: Path) -> None:
    blocks = {"shape": [9, 1, 40, 128, 256]}
    found = job(tmp_path, cpus=1, blocks=blocks)
    assert found.plan.redundancy > 1.05
    padded = found.plan.redundancy * 9 * 40 * 256 * 256
    assert forecast(found, rate=1000) == Forecast(
        1000, pytest.approx(_voxels(found) / 1000), pytest.approx(padded / 1000)
    )
    many = job(tmp_path, cpus=10, blocks=blocks)
    assert forecast(many, rate=1000).block_seconds == pytest.approx(_voxels(many) / 8000)


def test_levels_take_time_of_files_whatever_the_kernel_does(tmp_path: Path) -> None:
    found = job(tmp_path, cpus=4)
    assert not found.plan.levels
    without = forecast(found)
    level = PyramidLevel(
        1, found.plan.grid.image_shape, (1, 1, 2, 2, 2), (1, 1, 2, 2, 2), found.plan.layout,
        found.plan.grid.block_shape, found.plan.grid.block_shape,
    )  # fmt: skip
    with_level = forecast(replace(found, plan=replace(found.plan, levels=(level,))))
    assert without.level_seconds == 0
    assert with_level.level_seconds == pytest.approx(
        prod(found.plan.grid.image_shape) / (20e6 * found.io_threads)
    )
    assert with_level.wall_seconds(1) - without.wall_seconds(1) == pytest.approx(
        with_level.level_seconds
    )
    assert with_level.wall_seconds(10**6) == pytest.approx(with_level.block_seconds, rel=1e-3)


def _voxels(found: Job) -> int:
    voxels = 1
    for length in found.plan.grid.largest_padded:
        voxels *= length
    return voxels


def test_more_threads_take_less_time(tmp_path: Path) -> None:
    blocks = {"shape": [9, 1, 40, 256, 256]}
    found = [forecast(job(tmp_path, cpus=n, blocks=blocks)) for n in (1, 2, 3, 8, 76, 128)]
    for times in ([f.worker_seconds for f in found], [f.block_seconds for f in found]):
        assert times == sorted(set(times), reverse=True)


def test_more_work_takes_more_time(tmp_path: Path) -> None:
    blocks = {"shape": [9, 1, 40, 256, 256]}

    def seconds(**denoise: Any) -> float:
        return forecast(job(tmp_path, blocks=blocks, denoise=denoise)).worker_seconds

    safir = [seconds(method="safir", iterations=n) for n in (1, 2, 3, 4)]
    pilot = [seconds(iterations=n) for n in (1, 2, 3, 4)]
    rounds = [seconds(ridge={"rounds": n}) for n in (1, 2, 3, 4)]
    group = [seconds(ridge={"group": n}) for n in (16, 32, 48, 96)]
    search = [seconds(ridge={"search": [1, 0, 1, n, n]}) for n in (1, 2, 4)]
    stride = [seconds(ridge={"stride": [1, 1, n, n, n]}) for n in (3, 2, 1)]
    for times in (safir, pilot, rounds, group, search, stride):
        assert times == sorted(set(times))
    assert seconds(method="safir") < seconds() == rounds[0]


# -- blocks that a job has no time for -------------------------------------------------------------


def test_a_block_that_takes_longer_than_a_job(tmp_path: Path) -> None:
    found = job(tmp_path, walltime="0:10:00")
    check_time(found)
    check_time(found, Forecast(1.5e6, 300, 1e9))  # 600 s less the lead of 300
    with pytest.raises(PlanError) as caught:
        check_time(found, Forecast(1.5e6, 301, 1e9))
    words = str(caught.value)
    assert "takes about 301 s (at 1.5 million voxels per second and thread)" in words
    assert "a job has 300 s (cluster.walltime less cluster.signal_lead)" in words
    assert str(list(found.plan.grid.largest_padded)) in words
    for key in ("cluster.walltime", "cluster.cpus", "cluster.memory", "blocks.shape"):
        assert key in words.partition(";")[2]


def test_this_machine_has_no_walltime(tmp_path: Path) -> None:
    found = job(tmp_path, cluster={"memory": 1, "cpus": 1, "workers": 1})
    check_time(found, Forecast(1, 1e12, 1e12))


# -- the embryo on CSD3 ----------------------------------------------------------------------------


@pytest.fixture
def embryo(tmp_path: Path) -> Path:
    path = tmp_path / "csd3-icelake.yaml"
    path.write_text((ROOT / "configs" / "csd3-icelake.yaml").read_text())
    return path


def plan(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["plan", *map(str, arguments)])


def rows(result: Result) -> dict[str, str]:
    """Return the values of the table by their names."""
    table = result.stdout.partition("\n\n")[0].split("\n")[1:]
    return dict(re.split(" {2,}", line.strip(), maxsplit=1) for line in table)


def test_the_plan_of_the_embryo(embryo: Path) -> None:
    result = plan(embryo)
    assert result.exit_code == 0  # too little disk does not matter without the image
    config = load_config(embryo)
    found = prepare(config, describe_input(config), machine_of(config))
    expected = forecast(found)
    table = rows(result)
    assert table["blocks"] == f"{found.plan.blocks} in {found.plan.rounds} rounds"
    assert table["redundancy"].startswith(f"{found.plan.redundancy:.3f} ")
    gib = found.plan.bytes_per_worker / GIB
    assert re.match(
        rf"{gib:.0f} GiB of 230 GiB: 6 x \S+ GiB \(block with halo", table["memory a worker"]
    )
    assert table["workers"] == "4, with 76 threads each"
    hours = expected.worker_seconds / 3600
    assert table["cost"] == f"{hours:.2g} node-hours if a worker has a node of its own"
    assert table["jobs"] == (
        f"4 worker jobs of 76 CPUs, {job_gib(config, found.plan)} GiB, 12:00:00, "
        f"and a small one for the driver"
    )
    assert f"at {expected.rate / 1e6:.2f} Mvoxel/s and thread" in table["time"]
    assert table["files"] == str(found.plan.files)
    assert re.match(r"up to 215 GiB needed, \S+ [KMGTP]iB free", table["disk"])
    shown = result.stdout
    for script in (driver_script(config, found.plan), worker_script(config, found.plan)):
        assert all(f"  {line}\n" in shown for line in script.split("\n") if line)
    order = [
        "Plan of",
        "Batch script that `denoise5d submit` submits:",
        "Batch script of each worker:",
    ]
    places = [shown.index(words) for words in order]
    assert places == sorted(places)
    assert not (embryo.parent / "embryo-denoised.zarr.denoise5d").exists()


def test_the_plan_of_the_embryo_as_json(embryo: Path) -> None:
    result = plan("--json", embryo)
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    config = load_config(embryo)
    planned = prepare(config, describe_input(config), machine_of(config))
    jobs = found.pop("jobs")
    assert jobs == {
        "kind": "slurm",
        "count": 4,
        "gib": job_gib(config, planned.plan),
        "seconds": 43200,
        "scripts": [driver_script(config, planned.plan), worker_script(config, planned.plan)],
    }
    assert found["memory_bytes"] == 230 * GIB - GIB // 2  # but for what is beside the worker
    assert found["rate"] == forecast(planned).rate
    assert found["worker_seconds"] == pytest.approx(forecast(planned).worker_seconds)
    help_words = set(re.findall(r"\w+", plan("--help").stdout))
    assert found.keys() | jobs.keys() <= help_words


def test_another_rate(embryo: Path) -> None:
    usual, half = (json.loads(plan("--json", "--rate", r, embryo).stdout) for r in (2, 1))
    assert (usual["rate"], half["rate"]) == (2e6, 1e6)
    assert half["block_seconds"] == pytest.approx(2 * usual["block_seconds"])
    assert half["level_seconds"] == usual["level_seconds"] > 0  # no kernel is in it
    of_blocks = [found["worker_seconds"] - found["level_seconds"] for found in (half, usual)]
    assert of_blocks[0] == pytest.approx(2 * of_blocks[1])
    assert "1.00 Mvoxel/s and thread" in rows(plan("--rate", 1, embryo))["time"]
    assert plan("--rate", 0, embryo).exit_code == 2


def test_a_rate_at_which_no_block_ends_in_time(embryo: Path) -> None:
    result = CliRunner().invoke(cli, ["plan", "--rate", "0.001", str(embryo)])
    assert isinstance(result.exception, PlanError)
    assert result.exception.exit_code == 2
    assert "cluster.walltime" in str(result.exception)
    assert "Batch script of each worker" in result.stdout  # it is shown all the same


def test_an_allocation_asks_for_the_driver_on_each_node(embryo: Path) -> None:
    text = (
        embryo.read_text().replace("kind: slurm", "kind: allocation").replace("jobs: 4", "nodes: 4")
    )
    embryo.write_text(text)
    result = plan(embryo)
    (asked,) = re.findall(r"#SBATCH --mem=(\d+)G\n", result.stdout)
    assert f"4 nodes of 76 CPUs, {asked} GiB, 12:00:00, in one job" in rows(result)["jobs"]
    jobs = json.loads(plan("--json", embryo).stdout)["jobs"]
    assert (jobs["gib"], len(jobs["scripts"])) == (int(asked), 1)
    assert int(asked) <= 230


@pytest.mark.parametrize("free", [1000, 10**12])
def test_the_disk_matters_where_the_image_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    shape = (1, 1, 8, 64, 64)
    job(tmp_path, input={"path": "in.zarr", "shape": list(shape), "dtype": "uint16"})
    monkeypatch.setattr(space, "free_bytes", lambda _: free)
    assert plan(tmp_path / "run.yaml").exit_code == 0
    zarr.create_array(tmp_path / "in.zarr", shape=shape, chunks=shape, dtype="uint16")
    result = plan(tmp_path / "run.yaml")
    if free > 10**9:
        assert result.exit_code == 0
    else:
        assert isinstance(result.exception, PlanError)
        assert "the disk of output.path" in str(result.exception)


def test_a_node_that_is_too_small_is_no_matter_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Machine(cpus=1, memory_bytes=2**20)
    monkeypatch.setattr(import_module("denoise5d.budget"), "this_machine", lambda: small)
    job(tmp_path)
    assert plan(tmp_path / "run.yaml").exit_code == 0
