"""What `verify` finds: nothing in a sound output; any damage, wherever it is."""

from __future__ import annotations

import json
import re
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import yaozarrs
import zarr
from click.testing import CliRunner, Result

from denoise5d import begun as begun_module
from denoise5d import verify as verify_module
from denoise5d.begun import open_begun
from denoise5d.cli import cli
from denoise5d.errors import (
    FingerprintError,
    InputError,
    OutputError,
    PlanError,
    StoppedEarlyError,
    WrongOutputError,
)
from denoise5d.execute import Run
from denoise5d.geometry import Box
from denoise5d.machine import Machine
from denoise5d.store import checksum
from denoise5d.verify import (
    ANYWHERE,
    CORNER,
    FACE,
    check_places,
    check_units,
    choose_places,
)
from runs import Project, structured

Start = Callable[..., Run]

PLANE: dict[str, Any] = {
    "output": {"chunks": [1, 1, 1, 16, 16], "shards": None},
    "blocks": {"shape": [1, 1, 1, 32, 32]},
}
"""Four blocks of four write units."""

CHUNK = "0/c/0/0/0"

OLDER = PLANE | {"output": PLANE["output"] | {"format": "ome-zarr-0.4"}}
"""The same as OME-Zarr 0.4."""


@pytest.fixture
def done(project: Project, start: Start) -> Project:
    """A small run that is done: 64 x 64 pixels, whose only inner corner is in the middle."""
    project.image(structured((1, 1, 1, 64, 64), "uint16"), chunks=(1, 1, 1, 32, 32))
    start(project.write(**PLANE))
    return project


def verify(project: Project, *options: str) -> Result:
    """Call the command; errors come out as they are."""
    arguments = ["verify", str(project.yaml), *options]
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def doubt(project: Project, *options: str) -> str:
    """Return what `verify` says of an output that is wrong."""
    with pytest.raises(WrongOutputError) as caught:
        verify(project, *options)
    assert caught.value.exit_code == 3
    return str(caught.value)


def edit_ledger(project: Project, edit: Callable[[dict[str, Any]], None], line: int = 1) -> None:
    """Change a line of the ledger; the header is line 0."""
    lines = project.lines()
    values = json.loads(lines[line])
    edit(values)
    lines[line] = json.dumps(values, separators=(",", ":"))
    project.ledger.write_text("\n".join(lines) + "\n")


def edit_json(file: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads(file.read_text())
    edit(values)
    file.write_text(json.dumps(values))


def falsify(project: Project, voxel: tuple[int, ...]) -> None:
    """Change a voxel of the output, and make its checksum in the ledger right."""
    array = zarr.open_array(project.output / "0", mode="r+")
    array[voxel] = array[voxel] + 1
    run = open_begun(project.config())
    block = run.job.plan.grid.index_of(voxel)  # type: ignore[arg-type]
    units = run.job.plan.grid[block].core.tiles(run.output.unit)
    sums = [checksum(run.output.read(unit)) for unit in units]
    number = next(i for i, r in enumerate(project.records(), 1) if r.block == block)
    edit_ledger(project, lambda values: values.update(checksums=sums), line=number)


# ---- a sound output

CASES = {
    "refined volumes in time, two channels": (
        (3, 2, 11, 37, 45),
        {
            "output": {"chunks": [1, 1, 4, 16, 16], "shards": None},
            "denoise": {"method": "ridge"},
            "blocks": {"shape": [2, 1, 8, 16, 32]},
        },
    ),
    "shards, two channels a block": (
        (1, 2, 9, 37, 45),
        {
            "output": {"chunks": [1, 1, 4, 16, 16], "shards": [1, 1, 8, 32, 32]},
            "blocks": {"shape": [1, 2, 8, 32, 32]},
        },
    ),
    "float32 with estimated noise": (
        (1, 1, 1, 200, 190),
        {
            "output": {"dtype": "float32", "chunks": [1, 1, 1, 64, 64], "shards": None},
            "noise": "auto",
            "blocks": {"shape": [1, 1, 1, 128, 64]},
        },
    ),
    "OME-Zarr 0.4, two channels a block": (
        (2, 2, 9, 37, 45),
        {
            "output": {"format": "ome-zarr-0.4", "chunks": [1, 1, 4, 16, 16]},
            "blocks": {"shape": [1, 2, 8, 32, 32]},
        },
    ),
    "one block": ((1, 1, 1, 40, 40), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_sound_output_passes(name: str, project: Project, start: Start) -> None:
    shape, sections = CASES[name]
    dtype = "float32" if "float32" in name else "uint16"
    project.image(structured(shape, dtype, seed=3))
    start(project.write(**sections))
    project.check()
    before = {p: p.stat().st_mtime_ns for p in project.folder.rglob("*")}
    result = verify(project, "--places", "24")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Verified: {project.output}\n")
    yaozarrs.validate_zarr_store(str(project.output))  # an independent reader agrees
    assert re.search(r"places +\d+ computed anew \(", result.stdout)
    assert {p: p.stat().st_mtime_ns for p in project.folder.rglob("*")} == before


def test_it_counts_what_was_checked(done: Project) -> None:
    found = json.loads(verify(done, "--json", "--places", "1").stdout)
    assert found["output"] == str(done.output)
    assert (found["blocks"], found["blocks_done"], found["units"]) == (4, 4, 16)
    assert (found["voxel_bytes"], found["places"]) == (64 * 64 * 2, 1)
    assert found["place_voxels"] == 16 * 16
    words = CliRunner().invoke(cli, ["verify", "--help"]).stdout.replace(",", " ").split()
    assert found.keys() <= set(words)


def test_background_without_files_passes(project: Project, start: Start) -> None:
    image = np.zeros((1, 1, 1, 64, 64), np.uint16)
    image[..., :20, :20] = structured((1, 1, 1, 20, 20), "uint16")
    start(project.image(image).write(**PLANE))
    assert sum(path.is_file() for path in (project.output / "0" / "c").rglob("*")) < 16
    assert verify(project, "--places", "20").exit_code == 0


def test_an_approximate_halo_is_compared_block_by_block(project: Project, start: Start) -> None:
    project.image(structured((1, 1, 1, 64, 64), "uint16"))
    start(project.write(**PLANE | {"blocks": PLANE["blocks"] | {"halo": [0, 0, 0, 2, 2]}}))
    assert (project.result() != project.expected()).any()  # the cuts do show
    result = verify(project, "--places", "9")
    assert result.exit_code == 0
    assert "4 computed anew (4 whole blocks), 4.10 kvoxel" in result.stdout
    falsify(project, (0, 0, 0, 5, 60))
    assert "voxel TCZYX (0, 0, 0, 5, 60) of block 1" in doubt(project)


def test_whole_blocks_must_fit_the_machine(
    project: Project, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.image(structured((1, 1, 1, 64, 64), "uint16"))
    start(project.write(**PLANE | {"blocks": PLANE["blocks"] | {"halo": [0, 0, 0, 2, 2]}}))
    monkeypatch.setattr(verify_module, "this_machine", lambda: Machine(1, 2**20))
    with pytest.raises(PlanError, match=r"this machine has 0\.00 GiB: verify on a node"):
        verify(project)
    assert verify(project, "--places", "0").exit_code == 0


# ---- damage


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def swap(file: Path) -> None:
    other = file.with_name("1")
    mine, its = file.read_bytes(), other.read_bytes()
    file.write_bytes(its)
    other.write_bytes(mine)


@pytest.mark.parametrize("damage", [flip, truncate, empty, Path.unlink, swap])
@pytest.mark.parametrize(
    ("output", "key"),
    [
        ({"shards": None}, f"{CHUNK}/3/2"),
        ({"shards": [1, 1, 1, 32, 32]}, f"{CHUNK}/1/0"),
        ({"format": "ome-zarr-0.4"}, "0/0/0/0/3/2"),
    ],
)
def test_a_damaged_file_is_found(
    damage: Callable[[Path], None], output: dict[str, Any], key: str, project: Project, start: Start
) -> None:
    project.image(structured((1, 1, 1, 64, 64), "uint16"))
    start(project.write(**PLANE | {"output": PLANE["output"] | output}))
    file = project.output / key
    if damage is swap:
        file = file.with_name("0")
    damage(file)
    message = doubt(project)
    named = file if damage is not swap else file.parent
    assert str(named) in message
    assert "a write unit of block " in message
    assert f"out of {project.ledger}" in message
    assert ("no such file" in message) == (damage is Path.unlink)


def test_a_damaged_block_is_mended_as_the_message_says(done: Project, start: Start) -> None:
    flip(done.output / CHUNK / "3" / "3")
    message = doubt(done)
    beginning = message.split("begins with ")[1].split(" out of")[0].rstrip(",")
    kept = [line for line in done.lines() if not line.startswith(beginning + ",")]
    assert len(kept) == 4
    done.ledger.write_text("\n".join(kept) + "\n")
    start(done)
    assert verify(done).exit_code == 0
    done.check()


def test_an_edited_checksum_is_found(done: Project) -> None:
    edit_ledger(done, lambda values: values["checksums"].__setitem__(2, "0" * 16), line=4)
    assert f"must have the checksum {'0' * 16}" in doubt(done)


def test_a_missing_checksum_is_found(done: Project) -> None:
    edit_ledger(done, lambda values: values["checksums"].pop(), line=2)
    assert "has 4 write units, got 3 checksums" in doubt(done)


@pytest.mark.parametrize("voxel", [(0, 0, 0, 31, 31), (0, 0, 0, 32, 39), (0, 0, 0, 33, 31)])
def test_places_find_what_checksums_hide(voxel: tuple[int, ...], done: Project) -> None:
    falsify(done, voxel)
    assert verify(done, "--places", "0").exit_code == 0
    message = doubt(done, "--places", "1")  # the one corner that there is
    wanted, got = done.expected()[voxel], done.result()[voxel]
    block = 2 * (voxel[3] // 32) + voxel[4] // 32
    assert f"voxel TCZYX {voxel} of block {block} must be {wanted}" in message
    assert f"got {got}; 1 of 64 voxels differ" in message
    assert f"{CHUNK}/{voxel[3] // 16}/{voxel[4] // 16}: " in message


def test_edited_noise_in_the_ledger_is_found(done: Project) -> None:
    edit_ledger(done, lambda values: values["noise"][0].update(gain=2.0), line=0)
    assert "computed anew from the input" in doubt(done)


# ---- the input, after the run


def test_an_input_that_changed_is_found_by_its_sample(done: Project) -> None:
    array = zarr.open_array(done.input, mode="r+")
    array[0, 0, 0, 7, 7] = 9999
    with pytest.raises(FingerprintError, match=r"input\.content: "):
        verify(done)


def test_an_input_that_changed_beside_its_sample_is_found_by_a_place(
    done: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(begun_module, "check_fingerprint", lambda *_: None)
    zarr.open_array(done.input, mode="r+")[0, 0, 0, 32, 32] = 9999
    message = doubt(done)
    assert "the input has changed since the run" in message


def test_an_input_that_cannot_be_read_is_named(done: Project) -> None:
    done.damage("c/0/0/0/1/1")
    with pytest.raises(InputError, match=r"in\.zarr/c/0/0/0/1/1 cannot be read"):
        verify(done)


# ---- metadata


def rescale(values: dict[str, Any]) -> None:
    scale = values["attributes"]["ome"]["multiscales"][0]["datasets"][0]
    scale["coordinateTransformations"][0]["scale"][4] = 0.5


@pytest.mark.parametrize(
    ("key", "edit", "words"),
    [
        ("zarr.json", rescale, "must give scales as (1.0, 1.0, 1.0, 1.0, 1.0)"),
        (
            "zarr.json",
            lambda v: v["attributes"]["denoise5d"]["fingerprint"].update(estimator=0),
            "is not the image that its ledger",
        ),
        ("zarr.json", lambda v: v["attributes"].pop("denoise5d"), "not an output of denoise5d"),
        ("zarr.json", lambda v: v["attributes"].pop("ome"), "The metadata are damaged"),
        (
            "zarr.json",
            lambda v: v["attributes"]["ome"].update(omero={"channels": [{"color": "red"}]}),
            "must give a label, a colour and a contrast window for each of 1 channels",
        ),
        ("0/zarr.json", lambda v: v.update(shape=[1, 1, 1, 64, 65]), "must give shape as"),
        ("0/zarr.json", lambda v: v.pop("codecs"), "The metadata are damaged"),
        ("0/zarr.json", lambda v: v.update(data_type="int16"), "must give dtype as uint16"),
        (
            "0/zarr.json",
            lambda v: v["chunk_grid"]["configuration"].update(chunk_shape=[1, 1, 1, 32, 32]),
            "must give chunks as (1, 1, 1, 16, 16)",
        ),
    ],
)
def test_edited_metadata_are_found(
    key: str, edit: Callable[[dict[str, Any]], None], words: str, done: Project
) -> None:
    edit_json(done.output / key, edit)
    message = doubt(done)
    assert words in message
    assert "put back its zarr.json files" in message


@pytest.mark.parametrize(
    ("key", "edit", "words"),
    [
        (
            ".zattrs",
            lambda v: v["multiscales"][0]["axes"][4].update(unit="meter"),
            "must give units as (None, None, None, None, None)",
        ),
        (
            ".zattrs",
            lambda v: v["denoise5d"]["fingerprint"].update(estimator=0),
            "is not the image that its ledger",
        ),
        (".zattrs", lambda v: v.pop("denoise5d"), "not an output of denoise5d"),
        (".zattrs", lambda v: v.pop("multiscales"), "The metadata are damaged"),
        ("0/.zarray", lambda v: v.update(shape=[1, 1, 1, 64, 65]), "must give shape as"),
        ("0/.zarray", lambda v: v.pop("dtype"), "The metadata are damaged"),
        ("0/.zarray", lambda v: v.update(chunks=[1, 1, 1, 32, 32]), "must give chunks as"),
        ("0/.zarray", None, "The metadata are damaged"),
        (".zgroup", None, "The metadata are damaged"),
    ],
)
def test_edited_metadata_of_the_older_format_are_found(
    key: str,
    edit: Callable[[dict[str, Any]], None] | None,
    words: str,
    project: Project,
    start: Start,
) -> None:
    project.image(structured((1, 1, 1, 64, 64), "uint16"))
    start(project.write(**OLDER))
    if edit is None:
        (project.output / key).unlink()
    else:
        edit_json(project.output / key, edit)
    message = doubt(project)
    assert words in message
    assert "put back its .zgroup, .zattrs and .zarray files" in message


def test_an_image_of_another_format_is_found(done: Project) -> None:
    """As after a conversion, by whatever keeps all attributes."""
    attributes = zarr.open_group(done.output, mode="r").attrs.asdict()
    shutil.rmtree(done.output)
    attributes |= attributes.pop("ome")
    zarr.create_group(done.output, attributes=attributes, zarr_format=2)
    chunks, values = (1, 1, 1, 16, 16), done.expected()
    zarr.create_array(done.output / "0", data=values, chunks=chunks, zarr_format=2)
    assert "must give zarr_format as 3" in doubt(done)


def test_contrast_and_colours_may_be_edited(project: Project, start: Start) -> None:
    channel = {"color": "00FF00", "window": {"min": 0, "max": 9, "start": 1, "end": 5}}
    project.image(structured((1, 1, 1, 64, 64), "uint16"))
    start(project.write(**PLANE))

    def colour(values: dict[str, Any]) -> None:
        entry = channel | {"label": "nuclei", "active": True}
        values["attributes"]["ome"]["omero"] = {"channels": [entry]}

    edit_json(project.output / "zarr.json", colour)
    assert verify(project).exit_code == 0


# ---- runs that are not done, not begun, not this one


def leave(project: Project, blocks: int) -> None:
    """Forget all but the first blocks in the ledger."""
    project.ledger.write_text("\n".join(project.lines()[: 1 + blocks]) + "\n")


@pytest.mark.parametrize("blocks", [0, 3])
def test_what_is_done_of_an_unfinished_run_is_verified(blocks: int, done: Project) -> None:
    leave(done, blocks)
    left = set(range(4)) - {record.block for record in done.records()}
    for block in left:  # whatever an undone block holds is nobody's concern
        flip(done.output / CHUNK / str(2 * (block // 2)) / str(2 * (block % 2)))
    with pytest.raises(StoppedEarlyError, match=f"right, but {4 - blocks} of 4 blocks are not"):
        verify(done, "--places", "20")
    arguments = ["verify", str(done.yaml), "--json", "--places", "20"]
    found = json.loads(CliRunner().invoke(cli, arguments).stdout)
    assert (found["blocks"], found["blocks_done"]) == (4, blocks)
    assert found["units"] == 4 * blocks
    assert (found["places"] > 5) == (blocks > 0)


def test_a_line_that_is_being_written_does_not_count(done: Project) -> None:
    whole = done.ledger.read_text()
    done.ledger.write_text(whole[:-20])
    with pytest.raises(StoppedEarlyError, match="1 of 4 blocks are not"):
        verify(done)


def test_a_run_that_was_not_begun(project: Project) -> None:
    project.image(structured((1, 1, 1, 32, 32), "uint16")).write()
    with pytest.raises(OutputError, match=r"nothing to look at: no run of .*run\.yaml was begun"):
        verify(project)
    assert not project.output.exists()


def test_an_edited_yaml_is_refused(done: Project) -> None:
    done.write(**PLANE | {"denoise": {"pvalue": 0.2}})
    with pytest.raises(FingerprintError, match=r"denoise\.pvalue: 0\.1 -> 0\.2"):
        verify(done)


def test_what_cannot_change_a_voxel_may_be_edited(done: Project) -> None:
    done.write(**PLANE | {"cluster": {"workers": 7, "cpus": 3, "memory": 0.01}})
    assert verify(done).exit_code == 0
    done.write(**PLANE | {"cluster": {"kind": "slurm", "walltime": "1:00:00", "workers": None}})
    assert verify(done).exit_code == 0


def test_an_output_that_is_gone(done: Project) -> None:
    shutil.rmtree(done.output)
    with pytest.raises(OutputError, match=r"is gone, but its ledger .* 4 blocks are done"):
        verify(done)


@pytest.mark.parametrize("places", ["-1", "some", "1.5", "10001"])
def test_nonsense_places_are_refused(places: str, done: Project) -> None:
    with pytest.raises(click.BadParameter) as caught:
        cli.main(["verify", str(done.yaml), "--places", places], standalone_mode=False)
    assert "places" in str(caught.value.format_message())


# ---- places and memory


def test_places_are_where_blocks_meet_first(project: Project, start: Start) -> None:
    project.image(structured((3, 2, 11, 37, 45), "uint16"))
    start(project.write(**CASES["refined volumes in time, two channels"][1]))
    run = open_begun(project.config())
    places = choose_places(run, 40, np.random.default_rng(1))
    kinds = [place.kind for place in places]
    assert kinds.count(CORNER) == 4  # all of them: two channels, two along Y
    assert kinds == sorted(kinds, key=[CORNER, FACE, ANYWHERE].index)
    assert len(set(places)) == len(places) > 20
    whole = Box.whole(run.job.plan.grid.image_shape)
    for place in places:
        assert whole.contains(place.padded)
        assert place.padded.contains(place.box)
        assert sum(part.voxels for part in place.parts) == place.box.voxels
        blocks = {run.job.plan.grid.index_of(part.start) for part in place.parts}
        assert len(blocks) >= {CORNER: 16, FACE: 2, ANYWHERE: 1}[place.kind]
        assert place.box.shape[1] == 1
    assert {place.box.start[1] for place in places} == {0, 1}


def test_it_reads_little_at_a_time(
    project: Project, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the output, and not the input beyond its sample and the places."""
    project.image(structured((1, 1, 1, 1024, 1024), "uint16"), chunks=(1, 1, 1, 64, 64))
    output, denoise = {"chunks": [1, 1, 1, 64, 64], "shards": None}, {"patch": [0, 0, 0, 1, 1]}
    output["pyramid"] = False
    start(project.write(output=output, denoise=denoise, blocks={"shape": [1, 1, 1, 256, 256]}))
    run = open_begun(project.config())
    monkeypatch.setattr(verify_module, "this_machine", lambda: Machine(2, 2**30))
    check_units(run, lambda *_: None)  # what is imported and cached only once
    tracemalloc.start()
    try:
        shares: list[float] = []
        checked = check_units(run, lambda done, total: shares.append(done / total))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert checked.voxel_bytes == 1024 * 1024 * 2
    assert peak < checked.voxel_bytes / 3, peak
    assert shares == sorted(shares)
    assert (len(shares), shares[-1]) == (256, 1)
    compared = check_places(run, choose_places(run, 3, np.random.default_rng(0)), lambda *_: None)
    assert compared == 3 * 16 * 16
