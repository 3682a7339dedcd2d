"""A second run of an edited YAML, or of an edited disk: what goes on, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import zarr

from denoise5d.begun import open_begun
from denoise5d.errors import FingerprintError, OutputError, PlanError
from denoise5d.execute import Run
from runs import Project, run, structured

Start = Callable[..., Run]

OUTPUT = {"chunks": [1, 1, 1, 16, 16], "shards": None}
BLOCKS = {"shape": [1, 1, 1, 32, 32]}


@pytest.fixture
def done(project: Project, start: Start) -> Project:
    """A small run that is done."""
    project.image(structured((1, 1, 1, 64, 64), "uint16"), chunks=(1, 1, 1, 32, 32))
    start(project.write(output=OUTPUT, blocks=BLOCKS))
    return project


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"denoise": {"pvalue": 0.2}}, "denoise.pvalue: 0.1 -> 0.2"),
        ({"denoise": {"patch": [0, 0, 0, 1, 1]}}, "denoise.patch: [0, 0, 0, 3, 3] -> "),
        ({"denoise": {"iterations": 1}}, "denoise.windows: "),
        ({"denoise": {"method": "ridge"}}, "denoise.ridge"),
        ({"noise": {"gain": 2, "offset": 0}}, "noise[0].gain: 1.0 -> 2.0"),
        ({"noise": "auto"}, 'noise: [{"gain": 1.0, "offset": 0.0, "read_noise": 0.5}] -> "auto"'),
        ({"blocks": BLOCKS | {"halo": [0, 0, 0, 1, 1]}}, "blocks.halo: "),
        ({"output": OUTPUT | {"dtype": "float32"}}, 'output.dtype: "uint16" -> "float32"'),
        ({"output": OUTPUT | {"chunks": [1, 1, 1, 32, 32]}}, "output.chunks: "),
        ({"output": OUTPUT | {"shards": [1, 1, 1, 32, 32]}}, "output.shards: "),
        (
            {"output": OUTPUT | {"format": "ome-zarr-0.4"}},
            'output.format: "ome-zarr-0.5" -> "ome-zarr-0.4"',
        ),
        ({"input": {"path": "other.zarr"}}, "input.path: "),
    ],
)
def test_another_result_is_refused(
    sections: dict[str, Any], key: str, done: Project, start_without_workers: Start
) -> None:
    shutil.copytree(done.input, done.folder / "other.zarr")
    before = done.lines()
    done.write(**{"output": OUTPUT, "blocks": BLOCKS} | sections)
    with pytest.raises(FingerprintError) as caught:
        start_without_workers(done)
    assert caught.value.exit_code == 2
    assert key in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert done.lines() == before


def test_all_keys_that_differ_are_listed(done: Project, start_without_workers: Start) -> None:
    done.write(output=OUTPUT | {"dtype": "float32"}, denoise={"pvalue": 0.2})
    with pytest.raises(FingerprintError) as caught:
        start_without_workers(done)
    named = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:-1]]
    assert named == ["denoise.pvalue", "denoise.threshold", "output.dtype"]


@pytest.mark.parametrize(
    "sections",
    [
        {"cluster": {"workers": 1, "cpus": 2, "memory": 1.5}},
        {"blocks": BLOCKS | {"memory_factor": 9, "retries": 0}},
        {"blocks": {"shape": [1, 1, 1, 16, 16]}},
        {"blocks": {}},
    ],
)
def test_the_same_result_goes_on(
    sections: dict[str, Any], done: Project, start_without_workers: Start
) -> None:
    before = done.lines()
    finished = start_without_workers(done.write(**{"output": OUTPUT, "blocks": BLOCKS} | sections))
    assert finished.ledger.done_count == 4
    assert done.lines() == before


def test_a_run_begun_when_there_was_one_format_goes_on(
    done: Project, start: Start, start_without_workers: Start
) -> None:
    header, *records = done.lines()
    older = json.loads(header)
    del older["output_format"], older["fingerprint"]["output"]["format"]
    metadata = done.output / "zarr.json"
    document = json.loads(metadata.read_text())
    provenance = document["attributes"]["denoise5d"]
    del provenance["versions"], provenance["fingerprint"]["output"]["format"]
    metadata.write_text(json.dumps(document))
    done.ledger.write_text("\n".join([json.dumps(older), *records[:-1]]) + "\n")
    assert open_begun(done.config()).left == 1
    start(done)
    done.check()
    done.write(output=OUTPUT | {"format": "ome-zarr-0.4"}, blocks=BLOCKS)
    with pytest.raises(FingerprintError, match=r"output\.format: "):
        start_without_workers(done)


def test_a_block_that_no_longer_fits(done: Project, start_without_workers: Start) -> None:
    done.write(output=OUTPUT, cluster={"memory": 0.3})
    with pytest.raises(PlanError, match=r"need 0\.\d\d GiB a worker .* has 0\.30 GiB"):
        start_without_workers(done)


def test_another_content_of_the_input(done: Project, start_without_workers: Start) -> None:
    zarr.open_array(done.input)[..., 40, 40] = 7
    with pytest.raises(FingerprintError, match=r"input\.content"):
        start_without_workers(done)


def test_output_without_ledger(done: Project, start_without_workers: Start) -> None:
    done.ledger.unlink()
    with pytest.raises(OutputError, match="--overwrite"):
        start_without_workers(done)
    assert done.result().any()


def test_ledger_without_output(done: Project, start_without_workers: Start) -> None:
    shutil.rmtree(done.output)
    with pytest.raises(OutputError, match=r"is gone, but its ledger .* 4 blocks are done"):
        start_without_workers(done)


def test_ledger_of_another_output(done: Project, start_without_workers: Start) -> None:
    group = zarr.open_group(done.output)
    group.attrs["denoise5d"] = group.attrs["denoise5d"] | {"fingerprint": {"estimator": 0}}
    with pytest.raises(OutputError, match="is not the image that its ledger"):
        start_without_workers(done)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("ledger", [False, True])
def test_an_image_made_by_convert_is_never_touched(
    overwrite: bool, ledger: bool, done: Project, start_without_workers: Start
) -> None:
    zarr.open_group(done.output).attrs["denoise5d"] = {"made_by": "convert"}
    if not ledger:
        done.ledger.unlink()
    with pytest.raises(OutputError, match="convert"):
        start_without_workers(done, overwrite=overwrite)
    assert done.result().any()


def test_a_foreign_output_is_never_touched(project: Project, start_without_workers: Start) -> None:
    project.image(structured((1, 1, 1, 64, 64), "uint16")).write()
    project.output.mkdir()
    (project.output / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="was not made by denoise5d"):
        start_without_workers(project, overwrite=True)
    assert (project.output / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_older_image_that_convert_made_is_never_touched_either(
    overwrite: bool, project: Project, start_without_workers: Start
) -> None:
    """The mark is found in either format."""
    project.image(structured((1, 1, 1, 64, 64), "uint16")).write()
    marked = {"denoise5d": {"made_by": "convert"}}
    zarr.create_group(project.output, zarr_format=2, attributes=marked)
    with pytest.raises(OutputError, match="convert"):
        start_without_workers(project, overwrite=overwrite)
    assert zarr.open_group(project.output, mode="r").attrs["denoise5d"] == marked["denoise5d"]


def test_another_format_begins_anew(done: Project, start: Start) -> None:
    done.write(output=OUTPUT | {"format": "ome-zarr-0.4"}, blocks=BLOCKS)
    start(done, overwrite=True)
    assert not (done.output / "zarr.json").exists()
    done.check()


def test_overwrite_begins_anew(done: Project) -> None:
    before, old = done.lines(), done.result()
    done.write(output=OUTPUT | {"chunks": [1, 1, 1, 32, 32]}, denoise={"pvalue": 0.3})
    code, log = run(done)
    assert code == 2
    assert "denoise.pvalue: 0.1 -> 0.3" in log
    assert done.lines() == before
    code, log = run(done, "--overwrite")
    assert code == 0, log
    done.check()
    assert not np.array_equal(done.result(), old)
