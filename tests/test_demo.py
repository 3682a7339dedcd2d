"""The demo: a small embryo that is made once, repaired if half made, and denoised."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from denoise5d import demo
from denoise5d.cli import cli
from denoise5d.config import load_config
from denoise5d.demo import DemoFiles, make_demo, middle_planes, psnr
from denoise5d.errors import FingerprintError, OutputError
from denoise5d.geometry import Box
from denoise5d.plan import Layout
from denoise5d.store import Description, create_output, open_image, open_output

SHAPE = (3, 1, 8, 64, 72)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the embryo quick; the one of the real size is made by `make demo`."""
    monkeypatch.setattr(demo, "SHAPE", SHAPE)
    monkeypatch.setattr(demo, "_LAYOUT", Layout((1, 1, 8, 32, 36)))


@pytest.fixture
def files(tmp_path: Path) -> DemoFiles:
    return DemoFiles(tmp_path / "de mo")


def make(files: DemoFiles) -> list[tuple[int, int]]:
    """Make the demo; return what was told of the progress."""
    told: list[tuple[int, int]] = []
    make_demo(files, lambda done, total: told.append((done, total)))
    return told


def whole(path: Path) -> np.ndarray:
    return open_image(path).read(Box.whole(SHAPE))


def test_it_is_a_described_image_with_a_configuration(files: DemoFiles) -> None:
    assert not files.complete
    assert make(files) == [(1, 3), (2, 3), (3, 3)]
    assert files.complete
    info = open_image(files.noisy).info
    assert (info.shape, info.dtype, info.name) == (SHAPE, np.uint16, "embryo")
    assert info.units[0] == "second"
    assert info.scales == (60.0, 1.0, 2.0, 0.4, 0.4)
    config = load_config(files.yaml)
    assert config.input.path == files.noisy
    assert config.output.path.parent == files.folder


def test_the_noise_is_what_the_configuration_says(files: DemoFiles) -> None:
    make(files)
    noise = load_config(files.yaml).noise
    assert noise is not None
    assert (noise.gain, noise.offset) == ((3.92,), (-388.0,))
    truth = whole(files.truth).astype(float)
    error = whole(files.noisy) - truth
    assert truth.min() >= 100  # the camera's black level
    expected = 3.92 * truth - 388
    assert (error**2).mean() == pytest.approx(expected.mean(), rel=0.1)
    assert abs(error.mean()) < 0.1


def test_what_is_there_is_kept(files: DemoFiles) -> None:
    make(files)
    files.yaml.write_text("# mine\n")
    before = {path: path.stat().st_mtime_ns for path in files.folder.rglob("*")}
    assert make(files) == []
    assert {path: path.stat().st_mtime_ns for path in files.folder.rglob("*")} == before


@pytest.mark.parametrize("kill", [KeyboardInterrupt, OSError])
def test_killed_in_the_middle_it_is_made_anew(
    files: DemoFiles, kill: type[BaseException], tmp_path: Path
) -> None:
    def die(done: int, _: int) -> None:
        if done == 2:
            raise kill

    with pytest.raises(kill):
        make_demo(files, die)
    assert not files.complete
    assert not files.noisy.exists()
    assert make(files) == [(1, 3), (2, 3), (3, 3)]
    make(other := DemoFiles(tmp_path / "other"))
    np.testing.assert_array_equal(whole(files.noisy), whole(other.noisy))
    np.testing.assert_array_equal(whole(files.truth), whole(other.truth))
    assert not [path for path in files.folder.iterdir() if "incomplete" in path.name]


def test_a_part_that_is_gone_is_made_again(files: DemoFiles) -> None:
    make(files)
    before = whole(files.truth)
    files.truth.rename(files.folder / "moved.zarr")
    files.yaml.unlink()
    assert len(make(files)) == 3
    assert files.complete
    np.testing.assert_array_equal(whole(files.truth), before)


def test_what_is_not_ours_is_not_replaced(files: DemoFiles) -> None:
    files.noisy.mkdir(parents=True)
    (files.noisy / "precious").write_text("data")
    with pytest.raises(OutputError, match="was not made by denoise5d"):
        make(files)
    assert (files.noisy / "precious").read_text() == "data"


def test_psnr(tmp_path: Path) -> None:
    """Two images that differ by 1 everywhere, of a range of 100."""
    values = np.linspace(0, 100, int(np.prod(SHAPE)), dtype=np.float32).reshape(SHAPE)
    paths = tmp_path / "a.zarr", tmp_path / "b.zarr"
    for path, shift in zip(paths, (0, 1), strict=True):
        image = Description(name="x", shape=SHAPE, dtype=np.dtype(np.float32))
        layout = Layout(SHAPE)
        create_output(path, image, layout=layout, dtype=image.dtype, provenance={})
        open_output(path).write_unit(Box.whole(SHAPE), values + np.float32(shift))
    assert psnr(paths[1], paths[0]) == pytest.approx(40, abs=1e-3)


def test_planes_come_from_the_middle(files: DemoFiles) -> None:
    make(files)
    [plane] = middle_planes([files.truth])
    np.testing.assert_array_equal(plane, whole(files.truth)[1, 0, 4])


def test_the_command_makes_it_runs_it_and_runs_it_again(files: DemoFiles) -> None:
    arguments = ["demo", "--folder", str(files.folder)]
    first = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert first.exit_code == 0
    before, after = (
        float(line.split()[2]) for line in first.stdout.splitlines() if line.startswith("  PSNR")
    )
    assert after > before + 3
    assert f"Making a small embryo with a camera's noise in {files.folder}" in first.stdout
    assert f"denoise5d plan '{files.yaml}'" in first.stdout  # quoted for the shell
    assert files.picture.read_bytes().startswith(b"\x89PNG")

    files.picture.unlink()
    again = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert f"The embryo is in {files.folder} already." in again.stdout
    assert "Nothing to do: all" in again.stdout
    assert f"{after:.2f} dB" in again.stdout
    assert files.picture.exists()

    files.yaml.write_text(files.yaml.read_text() + "\ndenoise: {pvalue: 0.2}\n")
    changed = CliRunner().invoke(cli, arguments)
    assert isinstance(changed.exception, FingerprintError)
    assert f"denoise5d run '{files.yaml}' --overwrite" in str(changed.exception)
    assert "denoise.pvalue: 0.1 -> 0.2" in str(changed.exception)


def test_without_matplotlib_the_picture_is_left_out(
    files: DemoFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run itself is not the point here: the noisy image stands in for the result."""
    command = import_module("denoise5d.cli.demo")  # `denoise5d.cli` has the command of that name
    output = SimpleNamespace(path=files.noisy)
    finished = SimpleNamespace(job=SimpleNamespace(config=SimpleNamespace(output=output)))
    monkeypatch.setattr(command, "run_with_progress", lambda _: finished)
    monkeypatch.setattr(command, "can_draw", lambda: False)
    result = CliRunner().invoke(
        cli, ["demo", "--folder", str(files.folder)], catch_exceptions=False
    )
    assert "left out: it needs matplotlib (pip install 'denoise5d[report]')" in result.stdout
    assert "(+0.00 dB)" in result.stdout
    assert not files.picture.exists()
