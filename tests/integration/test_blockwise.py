"""Blockwise equals whole image, bit for bit, from one store on the disk to the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import zarr

from denoise5d.execute import Run
from runs import Project, run, structured

VOLUME = (3, 2, 11, 37, 45)
"""Odd on every axis but C: ragged blocks, ragged shards, ragged chunks."""

OME = {
    "multiscales": [
        {
            "version": "0.4",
            "axes": [{"name": name} for name in "czyx"],
            "datasets": [
                {
                    "path": "s0",
                    "coordinateTransformations": [{"type": "scale", "scale": [1, 2, 0.4, 0.4]}],
                }
            ],
        }
    ]
}


@dataclass(frozen=True)
class Case:
    """An image as it is stored, and the YAML where it is not the usual one."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "uint16"
    store: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case(
        "volumes in time, chunks alone, t and z halo, refined",
        VOLUME,
        sections={
            "output": {"chunks": [1, 1, 4, 16, 16], "shards": None},
            "denoise": {"method": "ridge"},
            "blocks": {"shape": [2, 1, 8, 16, 32]},
        },
    ),
    Case(
        "shards, two channels a block, two threads, noise a channel",
        VOLUME,
        store={"shards": (1, 2, 8, 32, 32), "chunks": (1, 1, 4, 16, 32)},
        sections={
            "output": {"chunks": [1, 1, 4, 8, 8], "shards": [1, 1, 8, 16, 16]},
            "blocks": {"shape": [1, 2, 8, 32, 16]},
            "noise": {"gain": [1, 1.5], "offset": [0, 3]},
            "cluster": {"cpus": 2},
        },
    ),
    Case(
        "float32 out, one worker",
        VOLUME,
        sections={
            "output": {"dtype": "float32", "chunks": [1, 1, 4, 16, 16], "shards": None},
            "blocks": {"shape": [3, 1, 11, 16, 16]},
            "cluster": {"workers": 1, "cpus": 2},
        },
    ),
    Case(
        "v2, uint8, axes ZYX",
        (13, 50, 41),
        "uint8",
        store={"zarr_format": 2},
        sections={
            "input": {"axes": "ZYX"},
            "output": {"chunks": [1, 1, 4, 16, 16], "shards": None},
            "blocks": {"shape": [1, 1, 8, 16, 48]},
            "noise": {"sigma": 7},
        },
    ),
    Case(
        "axes in another order, float32 in",
        (31, 40, 5, 3),
        "float32",
        sections={
            "input": {"axes": "YXZT"},
            "output": {"chunks": [1, 1, 2, 16, 16], "shards": [1, 1, 4, 16, 32]},
            "blocks": {"shape": [1, 1, 4, 16, 32]},
        },
    ),
    Case(
        "a film, four iterations, a halo wider than a block",
        (5, 40, 61),
        store={"chunks": (5, 7, 61)},
        sections={
            "input": {"axes": "TYX"},
            "output": {"chunks": [1, 1, 1, 8, 8], "shards": None},
            "denoise": {"iterations": 4, "patch": [1, 0, 0, 2, 2]},
            "blocks": {"shape": [2, 1, 1, 16, 8]},
        },
    ),
    Case(
        "more halo than needed",
        (40, 61),
        "int16",
        sections={
            "input": {"axes": "YX"},
            "output": {"chunks": [1, 1, 1, 8, 8], "shards": None},
            "blocks": {"shape": [1, 1, 1, 16, 24], "halo": [3, 0, 2, 40, 50]},
        },
    ),
    Case(
        "everything left to auto",
        (2, 1, 9, 150, 140),
        store={"chunks": (1, 1, 9, 64, 64)},
        sections={"noise": "auto", "denoise": {"method": "ridge"}},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_blockwise_equals_whole(case: Case, project: Project, start: Callable[..., Run]) -> None:
    project.image(structured(case.shape, case.dtype), **case.store).write(**case.sections)
    finished = start(project)
    assert finished.ledger.blocks > 1
    assert project.header()["exact_halo"]
    project.check()


def test_an_ome_zarr_of_version_2_and_its_scales(
    project: Project, start: Callable[..., Run]
) -> None:
    group = zarr.create_group(project.input, attributes=OME, zarr_format=2)
    data = structured((2, 9, 30, 33), "uint8")
    group.create_array("s0", data=data, chunks=(1, 4, 16, 16), chunk_key_encoding={"name": "v2", "separator": "/"})  # fmt: skip  # noqa: E501
    project.write(output={"chunks": [1, 1, 4, 16, 16]}, blocks={"shape": [1, 1, 8, 16, 16]})
    start(project)
    project.check()
    ome = json.loads((project.output / "zarr.json").read_text())["attributes"]["ome"]
    scale = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == [1, 1, 2, 0.4, 0.4]


def test_too_small_a_halo_is_allowed_and_labelled(
    project: Project, start: Callable[..., Run]
) -> None:
    """And it shows: were the halo not used, this would be equal, and the others no test."""
    project.image(structured((1, 1, 1, 64, 64), "float32"), chunks=(1, 1, 1, 64, 64))
    project.write(
        output={"chunks": [1, 1, 1, 16, 16], "shards": None},
        blocks={"shape": [1, 1, 1, 16, 16], "halo": [0, 0, 0, 1, 1]},
    )
    start(project)
    assert project.header()["exact_halo"] is False
    provenance = json.loads((project.output / "zarr.json").read_text())["attributes"]["denoise5d"]
    assert provenance["halo_is_exact"] is False
    assert not np.array_equal(project.result(), project.expected())


@pytest.mark.parametrize(("workers", "cpus"), [(1, 2), (2, 1)])
def test_by_the_command_with_workers_of_its_own(workers: int, cpus: int, project: Project) -> None:
    project.image(structured(VOLUME, "uint16")).write(
        output={"chunks": [1, 1, 4, 8, 8], "shards": [1, 1, 8, 16, 16]},
        blocks={"shape": [1, 1, 8, 32, 32]},
        cluster={"workers": workers, "cpus": cpus},
    )
    code, log = run(project)
    assert code == 0, log
    project.check()
    assert len({record.worker for record in project.records()}) == workers
