"""Levels of the pyramid: made after the blocks, by the same workers, found right by others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaozarrs
import zarr
from click.testing import CliRunner
from numpy.typing import NDArray

from denoise5d import execute as execute_module
from denoise5d.begun import open_begun
from denoise5d.cli import cli
from denoise5d.cluster import Workers
from denoise5d.dispatch import Heard
from denoise5d.errors import (
    BlocksFailedError,
    OutputError,
    StoppedEarlyError,
    WrongOutputError,
)
from denoise5d.execute import Run
from denoise5d.ledger import Ledger
from denoise5d.level_ledgers import level_ledger, level_ledgers
from denoise5d.levels import make_levels
from denoise5d.plan import Layout
from denoise5d.records import BlockRecord, StageSeconds
from denoise5d.status import LevelStatus, read_status
from denoise5d.store import checksum, describe_levels, listed_datasets, open_image
from denoise5d.writing import Undone
from runs import Project, driver, structured

Start = Callable[..., Run]

QUICK: dict[str, Any] = {"iterations": 1, "patch": [0, 0, 0, 1, 1]}

SMALL: dict[str, Any] = {
    "denoise": QUICK,
    "output": {"chunks": [1, 1, 1, 64, 64], "shards": None},
    "blocks": {"shape": [1, 1, 1, 256, 256]},
}
"""Of 300 x 530 pixels: six blocks, and two levels above."""


def small(project: Project, dtype: str = "uint16") -> Project:
    project.image(structured((1, 1, 1, 300, 530), dtype), chunks=(1, 1, 1, 100, 100))
    return project.write(**SMALL)


def level(project: Project, number: int) -> NDArray[Any]:
    return np.asarray(zarr.open_array(project.output / str(number), mode="r")[...])


def obvious_mean(values: NDArray[Any], step: tuple[int, ...]) -> NDArray[Any]:
    """Return the means of pairs: sums of what there is, over counts of what there is."""
    sums = np.zeros([-(-n // s) for n, s in zip(values.shape, step, strict=True)])
    counts = np.zeros(sums.shape)
    for start in product(*map(range, step)):
        part = values[tuple(slice(a, None, s) for a, s in zip(start, step, strict=True))]
        sums[tuple(map(slice, part.shape))] += part
        counts[tuple(map(slice, part.shape))] += 1
    means = sums / counts
    return (np.rint(means) if values.dtype.kind in "ui" else means).astype(values.dtype)


def check_pyramid(project: Project, steps: list[tuple[int, ...]]) -> None:
    """Check the levels against those below them, and what the metadata say, with zarr alone."""
    ome = zarr.open_group(project.output, mode="r").attrs.asdict()
    (image,) = ome.get("ome", ome)["multiscales"]
    assert [dataset["path"] for dataset in image["datasets"]] == [
        str(number) for number in range(1 + len(steps))
    ]
    base = image["datasets"][0]["coordinateTransformations"][0]["scale"]
    factors = np.ones(5)
    for number, step in enumerate(steps, 1):
        expected = obvious_mean(level(project, number - 1), step)
        np.testing.assert_array_equal(level(project, number), expected, strict=True)
        factors *= step
        scale, translation = image["datasets"][number]["coordinateTransformations"]
        assert scale["scale"] == (factors * base).tolist()
        assert translation["translation"] == ((factors - 1) / 2 * base).tolist()
    if project.config().output.format == "ome-zarr-0.5":
        yaozarrs.validate_zarr_store(project.output)


def verify(project: Project) -> str:
    arguments = ["verify", str(project.yaml)]
    return CliRunner().invoke(cli, arguments, catch_exceptions=False).output


BOTH, FLAT = (1, 1, 2, 2, 2), (1, 1, 1, 2, 2)

CASES: dict[str, tuple[tuple[int, ...], float, dict[str, Any], list[tuple[int, ...]]]] = {
    "isotropic, shards, two channels and time points": (
        (2, 2, 7, 271, 300),
        1.0,
        {"output": {"chunks": [1, 1, 4, 64, 64], "shards": [1, 1, 4, 128, 128]}},
        [BOTH],
    ),
    "coarse in z, chunks of odd lengths": (
        (1, 1, 5, 515, 333),
        2.5,
        {"output": {"chunks": [1, 1, 3, 99, 65], "shards": None}},
        [FLAT, BOTH],
    ),
    "OME-Zarr 0.4, a line of pixels": (
        (1, 1, 1, 1, 1025),
        1.0,
        {"output": {"chunks": [1, 1, 1, 1, 64], "format": "ome-zarr-0.4"}},
        [(1, 1, 1, 1, 2)] * 3,
    ),
    "float32": (
        (1, 1, 3, 300, 120),
        0.5,
        {"output": {"chunks": [1, 1, 2, 64, 64], "shards": None, "dtype": "float32"}},
        [BOTH],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_level_is_the_mean_of_the_one_below(
    name: str, project: Project, start: Start
) -> None:
    shape, depth, sections, steps = CASES[name]
    folder = project.input
    zarr.create_group(folder)
    zarr.create_array(folder / "0", data=structured(shape, "uint16"), chunks=(1, 1, 2, 100, 100))
    axes = [{"name": a, "type": k} for a, k in zip("tczyx", ["time", "channel"] + 3 * ["space"],
                                                   strict=True)]  # fmt: skip
    scale = [{"type": "scale", "scale": [1.0, 1.0, depth, 1.0, 1.0]}]
    zarr.open_group(folder, mode="r+").attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
        ],
    }
    start(project.write(denoise=QUICK, **sections))
    check_pyramid(project, steps)
    assert "computed anew" in verify(project)
    info = open_image(project.output, dataset="1").info
    assert info.shape == level(project, 1).shape
    assert info.dtype == open_image(project.output).info.dtype


def test_interrupted_in_the_middle_of_a_level(project: Project, start: Start) -> None:
    cut = {"denoise": QUICK, "blocks": {"shape": [1, 1, 1, 64, 64]}}
    output = {"chunks": [1, 1, 1, 32, 32], "shards": None}
    project.image(structured((1, 1, 1, 256, 1024), "uint16"), chunks=(1, 1, 1, 128, 128))
    start(project.write(output=output | {"pyramid": False}, **cut))
    project.write(output=output, **cut)
    ledger = level_ledger(project.output, 1)

    def lines() -> list[str]:
        return ledger.read_text().splitlines() if ledger.exists() else []

    with driver(project) as interrupted:
        interrupted.wait_for(lambda: len(lines()) > 2)
        workers = interrupted.halt_workers()
        interrupted.process.terminate()
        interrupted.wait_for(lambda: "no new blocks" in interrupted.log())
        for worker in workers:
            worker.resume()
        assert interrupted.finish() == 75, interrupted.log()
    assert "of 16 blocks of level 1 of the pyramid are left" in interrupted.log()
    before, image = lines(), project.lines()
    assert 2 < len(before) < 1 + 16
    assert listed_datasets(project.output) == ["0"], "viewers do not see it yet"
    status = read_status(project.output, pyramid=True)
    assert (status.state, status.blocks_done) == ("stopped", 64)
    assert status.levels == (LevelStatus(1, 16, len(before) - 1), LevelStatus(2, 4, 0))
    shown = CliRunner().invoke(cli, ["status", str(project.yaml)]).output
    assert f"level 1 of 2: {len(before) - 1} of 16 blocks done" in shown
    with pytest.raises(StoppedEarlyError, match="the pyramid is not complete"):
        verify(project)

    start(project)
    assert lines()[: len(before)] == before
    assert project.lines() == image
    check_pyramid(project, [FLAT, FLAT])
    assert read_status(project.output, pyramid=True).state == "done"
    assert "pyramid" in verify(project)


def test_edited_after_the_run(project: Project, start: Start, start_without_workers: Start) -> None:
    """False: none; true: they are added, and no block is done again; false: they stay."""
    small(project)
    project.write(**SMALL | {"output": SMALL["output"] | {"pyramid": False}})
    start(project)
    assert listed_datasets(project.output) == ["0"]
    assert level_ledgers(project.output) == {}
    image = project.lines()
    verify(project)

    start(project.write(**SMALL))
    check_pyramid(project, [FLAT, FLAT])
    assert project.lines() == image
    verify(project)

    before = (project.output / "zarr.json").stat()
    start_without_workers(project)
    project.write(**SMALL | {"output": SMALL["output"] | {"pyramid": False}})
    start_without_workers(project)
    assert (project.output / "zarr.json").stat() == before, "no level is unnamed for a moment"
    check_pyramid(project, [FLAT, FLAT])
    verify(project)
    assert CliRunner().invoke(cli, ["status", str(project.yaml)]).output.count("pyramid") == 0


def take_out(ledger: Path, block: int) -> None:
    """Take the line of a block out of a ledger, as `verify` advises."""
    kept = [line for line in ledger.read_text().splitlines(keepends=True)
            if not line.startswith(f'{{"block":{block},')]  # fmt: skip
    ledger.write_text("".join(kept))


def chunks_of(project: Project, number: int) -> list[Path]:
    return sorted(path for path in (project.output / str(number) / "c").rglob("*")
                  if path.is_file())  # fmt: skip


def test_damage_in_a_level_is_found_and_mended(project: Project, start: Start) -> None:
    start(small(project))
    first, second = (level_ledger(project.output, number) for number in (1, 2))
    victim = chunks_of(project, 1)[3]
    sound = victim.read_bytes()
    victim.write_bytes(sound[: len(sound) // 2])
    with pytest.raises(WrongOutputError) as caught:
        verify(project)
    assert str(victim) in str(caught.value)
    assert "of level 1 of the pyramid" in str(caught.value)
    assert str(first) in str(caught.value)
    victim.unlink()  # zarr reads it as background
    with pytest.raises(WrongOutputError, match="there is no such file"):
        verify(project)

    before = second.read_text()
    take_out(first, 0)
    done = start(project)
    assert done.complete
    assert victim.read_bytes() == sound
    assert second.read_text() != before, "what is above is made anew"
    check_pyramid(project, [FLAT, FLAT])
    verify(project)


def test_a_voxel_that_is_no_mean_is_found(project: Project, start: Start) -> None:
    """Also where the checksum agrees: what is above a block done again, for one."""
    start(small(project))
    array = zarr.open_array(project.output / "1", mode="r+")
    array[...] = array[...] + 1
    begun = open_begun(project.config())
    ledger, output = level_ledger(project.output, 1), begun.levels[0].output
    header, *lines = ledger.read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        units = begun.levels[0].grid[record["block"]].core.tiles(output.unit)
        record["checksums"] = [checksum(output.read(unit)) for unit in units]
    ledger.write_text("\n".join([header, *map(json.dumps, records)]) + "\n")
    with pytest.raises(WrongOutputError, match="computed anew from the level below, got"):
        CliRunner().invoke(
            cli, ["verify", "--places", "40", str(project.yaml)], catch_exceptions=False
        )


def test_a_block_done_again_makes_all_levels_anew(project: Project, start: Start) -> None:
    start(small(project))
    chunk = chunks_of(project, 0)[0]
    chunk.unlink()
    with pytest.raises(WrongOutputError):
        verify(project)
    take_out(project.ledger, 0)
    seen: list[list[str]] = []
    real = execute_module.dispatch

    def look(*arguments: Any) -> None:
        seen.append(listed_datasets(project.output))
        assert level_ledgers(project.output) == {}
        real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute_module, "dispatch", look)
        start(project)
    assert seen == [["0"]], "nothing is named that may be wrong"
    project.check()
    check_pyramid(project, [FLAT, FLAT])
    verify(project)


def test_a_crash_before_a_level_is_named_is_mended(
    project: Project, start: Start, start_without_workers: Start
) -> None:
    done = start(small(project))
    describe_levels(project.output, done.job.image, ())
    with pytest.raises(StoppedEarlyError, match="the pyramid is not complete"):
        verify(project)
    start_without_workers(project)
    check_pyramid(project, [FLAT, FLAT])
    describe_levels(project.output, done.job.image, done.job.plan.levels[:1])
    start_without_workers(project)
    check_pyramid(project, [FLAT, FLAT])


def test_metadata_of_levels_are_verified(project: Project, start: Start) -> None:
    start(small(project))
    file = project.output / "zarr.json"
    sound = file.read_text()

    def edit(change: Callable[[list[dict[str, Any]]], None]) -> None:
        values = json.loads(sound)
        change(values["attributes"]["ome"]["multiscales"][0]["datasets"])
        file.write_text(json.dumps(values))

    edit(lambda datasets: datasets[1]["coordinateTransformations"][0]["scale"].__setitem__(3, 3.0))
    with pytest.raises(WrongOutputError, match=r"out\.zarr/1 must give scales as"):
        verify(project)
    edit(lambda datasets: datasets[2]["coordinateTransformations"].pop())
    with pytest.raises(WrongOutputError, match=r"out\.zarr/2 must give translations as"):
        verify(project)
    edit(lambda datasets: datasets.append(datasets[1] | {"path": "7"}))
    with pytest.raises(WrongOutputError, match=r"must name the image, 0, and levels .* 0, 1, 2, 7"):
        verify(project)
    file.write_text(sound)
    (project.output / "2" / "zarr.json").unlink()
    with pytest.raises(WrongOutputError, match="level 2 of the pyramid made anew"):
        verify(project)
    start(project)
    check_pyramid(project, [FLAT, FLAT])
    verify(project)


def test_a_ledger_of_another_level_does_not_count(project: Project, start: Start) -> None:
    """As after an edit of the voxel size in the input."""
    start(small(project))
    ledger = level_ledger(project.output, 1)
    ledger.write_text(ledger.read_text().replace('"step":[1,1,1,2,2]', '"step":[1,1,2,2,2]'))
    with pytest.raises(WrongOutputError, match="levels that are complete, which are none yet"):
        verify(project)
    start(project)
    check_pyramid(project, [FLAT, FLAT])
    verify(project)


def test_overwrite_begins_without_levels(project: Project, start: Start) -> None:
    start(small(project))
    created = [json.loads(path.read_text().splitlines()[0])["created"]
               for path in level_ledgers(project.output).values()]  # fmt: skip
    project.write(**SMALL | {"output": SMALL["output"] | {"pyramid": False}})
    start(project, overwrite=True)
    assert len(created) == 2
    assert level_ledgers(project.output) == {}
    assert listed_datasets(project.output) == ["0"]
    assert not (project.output / "1").exists()


def test_a_level_that_cannot_be_read_below_fails(
    project: Project, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    small(project)
    project.write(**SMALL | {"output": SMALL["output"] | {"pyramid": False}})
    start(project)
    chunk = chunks_of(project, 0)[0]
    sound = chunk.read_bytes()
    chunk.write_bytes(sound[: len(sound) // 2])
    project.write(**SMALL | {"blocks": SMALL["blocks"] | {"retries": 0}})
    with pytest.raises(
        BlocksFailedError, match=r"1 of \d+ blocks of level 1 of the pyramid failed"
    ) as caught:
        start(project)
    assert str(chunk) in str(caught.value)
    assert "level 1, block 0 failed, attempt 1 of 1: " in caplog.text
    chunk.write_bytes(sound)
    start(project)
    check_pyramid(project, [FLAT, FLAT])


def test_the_output_gone_is_noticed(project: Project, start: Start) -> None:
    start(small(project))
    (project.output / "0" / "zarr.json").unlink()
    with pytest.raises(OutputError):
        start(project)


# ---- contrast


def channels(project: Project) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = open_image(project.output).info.channels["channels"]
    return found


def test_contrast_is_that_of_the_data(
    project: Project, start: Start, start_without_workers: Start
) -> None:
    data = structured((1, 2, 1, 80, 90), "uint16")
    data[0, 1] *= 3
    start(project.image(data).write(denoise=QUICK, noise={"sigma": 5}))
    result = project.result()
    found = channels(project)
    assert [channel["label"] for channel in found] == ["channel 0", "channel 1"]
    assert len({channel["color"] for channel in found}) == 2
    for number, channel in enumerate(found):
        values, window = np.sort(result[0, number].ravel()), channel["window"]
        assert (window["min"], window["max"]) == (values[0], values[-1])
        below, above = np.searchsorted(values, window["start"]), (values > window["end"]).sum()
        assert below <= 0.0011 * values.size
        assert above <= 0.0011 * values.size
        assert window["min"] < window["start"] < window["end"] < window["max"]

    file = project.output / "zarr.json"
    before = file.read_bytes()
    start_without_workers(project)
    assert file.read_bytes() == before

    file.write_text(before.decode().replace('"channel 0"', '"nuclei"'))
    start_without_workers(project)
    assert channels(project)[0]["label"] == "nuclei", "whoever looks at it may edit it"
    verify(project)


def test_one_value_everywhere_gives_a_window(project: Project, start: Start) -> None:
    start(project.image(np.full((20, 30), 7, "uint8"), chunks=(20, 30)).write(
        input={"axes": "YX"}, denoise=QUICK, noise={"sigma": 5}))  # fmt: skip
    (channel,) = channels(project)
    assert channel["window"] == {"min": 7.0, "max": 8.0, "start": 7.0, "end": 8.0}
    assert channel["color"] == "FFFFFF"


def test_windows_of_the_input_are_kept(project: Project, start: Start) -> None:
    data = structured((1, 2, 1, 40, 50), "uint16")
    zarr.create_group(project.input)
    zarr.create_array(project.input / "0", data=data, chunks=(1, 1, 1, 40, 50))
    given = {"label": "actin", "color": "FF8800", "window": {"start": 3.0, "end": 33.0}}
    zarr.open_group(project.input, mode="r+").attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": [{"name": a} for a in "tczyx"], "datasets": [{"path": "0"}]}],
        "omero": {"channels": [given, {"label": "dna"}]},
    }
    start(project.write(denoise=QUICK, noise={"sigma": 5}))
    first, second = channels(project)
    assert first["label"], second["label"] == ("actin", "dna")
    assert first["color"] == "FF8800"
    assert (first["window"]["start"], first["window"]["end"]) == (3, 33)
    assert first["window"]["max"] == project.result()[0, 0].max()
    assert second["window"]["end"] < second["window"]["max"] == project.result()[0, 1].max()


def test_what_comes_late_from_an_earlier_pass_does_not_count() -> None:
    """Of a worker that was taken for dead, and has the number of a block of the next pass."""
    heard = Heard(Workers.__new__(Workers))
    record = BlockRecord(5, "0", None, "", StageSeconds(0, 0, 0, 0), 0, ("0",), 1)
    heard.take_down((0.0, {"level": 0, "record": asdict(record)}))
    heard.take_down((0.0, {"level": 1, "block": 6, "undone": str(Undone.STOPPED)}))
    assert heard.pop(1, 5) is None
    assert heard.pop(0, 6) is None
    assert heard.pop(1, 6) is Undone.STOPPED
    assert heard.pop(0, 5) == record
    assert heard.pop(0, 5) is None


def test_ten_million_write_units_of_a_level(tmp_path: Path) -> None:
    """The driver holds one byte for each block of the pass at hand."""
    layout = Layout((1, 1, 32, 64, 64))
    levels = make_levels((2000, 1, 1000, 5000, 5000), (1.0,) * 5, layout=layout,
                         core_voxels=2**20)  # fmt: skip
    first = levels[0]
    assert first.layout.write_units(first.shape) > 10**7
    ledger = Ledger.create(level_ledger(tmp_path / "out.zarr", 1), first.header)
    assert len(ledger._done) == len(first.grid) < 10**7
