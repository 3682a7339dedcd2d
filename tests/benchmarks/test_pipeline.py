"""The benchmark's arithmetic, picture and table, from records made up; it runs by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from denoise5d.records import BlockRecord, StageSeconds


@pytest.fixture(scope="module")
def pipeline() -> ModuleType:
    path = Path(__file__).with_name("pipeline.py")
    spec = importlib.util.spec_from_file_location("pipeline_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def records() -> list[BlockRecord]:
    """Two blocks on each of two workers, the second of them waiting for the first."""
    return [
        BlockRecord(
            block=number,
            worker=str(number // 2),
            job=None,
            start="2026-01-02T03:04:05+00:00",
            seconds=StageSeconds(1, 10, 2, 1, wait=10 * (number % 2)),
            peak_bytes=2**20,
            checksums=("0",),
            attempts=1,
        )
        for number in range(4)
    ]


def test_ratio_is_over_the_longer_of_kernel_and_files(pipeline: ModuleType) -> None:
    found = pipeline.overlap_of(records(), 24)
    assert (found["kernel_seconds_a_worker"], found["file_seconds_a_worker"]) == (20, 8)
    assert (found["ratio"], found["ratio_without_overlap"]) == (1.2, 1.4)


def test_picture_and_table(pipeline: ModuleType, tmp_path: Path) -> None:
    pipeline.draw(records(), tmp_path / "pipeline.png")
    assert (tmp_path / "pipeline.png").stat().st_size > 1000
    way = {"tasks": 4, "driver_peak_mib": 1, "workers_peak_mib": 2, "same": True}
    way = pipeline.middle([way | {"seconds": seconds} for seconds in (3.0, 0.5, 1.0)])
    found = {
        "machine": "a machine",
        **dict.fromkeys(("shape", "block", "halo"), (1, 1, 1, 8, 8)),
        "overlap": pipeline.overlap_of(records(), 24),
        "ways": dict.fromkeys(pipeline.WAYS, way),
        "scheduling": {
            "blocks": 100,
            "blocks_per_second": 250.0,
            "driver_mib_after_a_tenth": 100.0,
            "driver_mib_at_the_end": 100.0,
        },
    }
    text = pipeline.markdown(found)
    assert "| 4 | 24.0 | 20.0 | 8.0 | 1.20 | 1.40 |" in text
    assert all(f"| {name} | 1.0 | 4 | 1 | 2 | yes |" in text for name in pipeline.WAYS)
