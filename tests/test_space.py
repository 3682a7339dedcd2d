"""What an output takes of its disk: counted as it is, refused or warned of where it is too much."""

from __future__ import annotations

import json
import os
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from denoise5d import space
from denoise5d.cli import cli
from denoise5d.config import load_config
from denoise5d.errors import PlanError
from denoise5d.geometry import Box
from denoise5d.machine import Machine
from denoise5d.prepare import Job, describe_input, prepare
from denoise5d.space import check_space, file_words
from denoise5d.store import create_output, free_files, open_output

FORMATS = ["ome-zarr-0.5", "ome-zarr-0.4"]


def planned(folder: Path, shape: tuple[int, ...] = (2, 2, 5, 40, 70), **output: Any) -> Job:
    document = {
        "input": {"path": "in.zarr", "shape": list(shape), "dtype": "uint16"},
        "output": {"path": "out.zarr"} | output,
        "denoise": {"method": "safir"},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(document))
    config = load_config(path)
    return prepare(config, describe_input(config), Machine(4, 8 * 2**30))


@pytest.mark.parametrize("name", FORMATS)
def test_files_and_folders_are_counted_as_they_are(name: str, tmp_path: Path) -> None:
    job = planned(tmp_path, format=name, chunks=[1, 1, 2, 16, 16], shards=None)
    path, layout = job.config.output.path, job.plan.layout
    create_output(path, job.image, layout=layout, dtype=job.dtype, provenance={})
    output = open_output(path)
    for unit in Box.whole(job.image.shape).tiles(output.unit):
        output.write_unit(unit, np.ones(unit.shape, "uint16"))
    found = [inside.is_file() for inside in path.rglob("*")]
    assert job.plan.files == sum(found) + 2  # ledger and lock
    assert job.plan.inodes - (len(found) + 2) == (2 if name == "ome-zarr-0.5" else 3)


@pytest.mark.parametrize("name", FORMATS)
def test_a_disk_with_too_few_files_left_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = planned(tmp_path, format=name, chunks=[1, 1, 2, 16, 16], shards=None)
    monkeypatch.setattr(space, "free_files", lambda _: job.plan.inodes - 1)
    with pytest.raises(PlanError, match=rf"more files .* may need {job.plan.inodes}; ") as caught:
        check_space(job)
    assert ("ome-zarr-0.5, which has shards" in str(caught.value)) == (name == "ome-zarr-0.4")
    begun: Any = SimpleNamespace(blocks=10, done_count=1)
    check_space(job, begun)
    monkeypatch.setattr(space, "free_files", lambda _: job.plan.inodes)
    check_space(job)


@pytest.mark.parametrize("name", FORMATS)
def test_millions_of_files_are_warned_of(name: str, tmp_path: Path) -> None:
    cut = {"format": name, "chunks": [1, 1, 8, 16, 16], "shards": None}
    job = planned(tmp_path, (17, 1, 1501, 2048, 1936), **cut)
    words, many = file_words(job.plan)
    assert many
    assert words.startswith(f"{job.plan.files}, more than many file systems and quotas like; ")
    assert ("ome-zarr-0.5" in words) == (name == "ome-zarr-0.4")
    result = CliRunner().invoke(cli, ["plan", str(job.config.source)], terminal_width=1000)
    assert words in " ".join(result.stdout.split())
    found = json.loads(CliRunner().invoke(cli, ["plan", "--json", str(job.config.source)]).stdout)
    assert (found["format"], found["files"]) == (name, job.plan.files)
    few = planned(tmp_path).plan
    assert file_words(few) == (str(few.files), False)


def test_free_files_are_what_the_file_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert free_files(tmp_path / "not/yet/there") > 0

    class Found:
        f_favail = 7

    monkeypatch.setattr(os, "statvfs", lambda _: Found)
    assert free_files(tmp_path) == 7
    monkeypatch.setattr(Found, "f_favail", 0)  # as Btrfs says, which has no such limit
    assert free_files(tmp_path) == inf
