"""xarray: axes by name, labels kept; what type checkers make of each kind of array."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from denoise5d import denoise, estimate_noise
from denoise5d.errors import InputError
from runs import structured

QUICK: dict[str, Any] = {"gain": 1, "offset": 0, "quality": "fast"}
VALUES = structured((2, 24, 5, 30), "uint16")


def labelled(*dims: str, values: Any = VALUES) -> xr.DataArray:
    image = xr.DataArray(
        values,
        dims=dims,
        name="embryo",
        coords={dims[0]: [0.5, 7.0], "stage": "gastrula"},
        attrs={"units": "counts"},
    )
    image.encoding = {"dtype": "uint16", "chunks": (1, 24, 5, 30)}
    return image


@pytest.mark.parametrize(
    ("dims", "axes"),
    [(("c", "y", "z", "x"), "CYZX"), (("T", "X", "Z", "Y"), "TXZY"),
     (("time", "x", "Channel", "y"), "TXCY")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["NumPy", "dask"])
def test_a_dataarray_tells_its_axes_and_keeps_its_labels(
    dims: tuple[str, ...], axes: str, kind: str
) -> None:
    image = labelled(*dims, values=da.from_array(VALUES, chunks=11) if kind == "dask" else VALUES)
    before = image.copy(deep=True)
    result = denoise(image, **QUICK)
    assert type(result) is xr.DataArray
    assert isinstance(result.data, da.Array if kind == "dask" else np.ndarray)
    expected = image.copy(data=denoise(VALUES, axes=axes, **QUICK))
    xr.testing.assert_identical(result.compute(), expected)
    xr.testing.assert_identical(image, before)


def test_how_the_noisy_values_were_stored_says_nothing_of_the_result(tmp_path: Path) -> None:
    result = denoise(labelled("c", "y", "z", "x"), **QUICK)
    assert result.encoding == {}
    result.to_zarr(tmp_path / "clean.zarr", zarr_format=2)
    stored = xr.open_dataarray(tmp_path / "clean.zarr", engine="zarr", chunks=None)
    xr.testing.assert_identical(stored.load(), result)
    assert result.dtype == np.float32


def test_axes_given_overrule_the_names() -> None:
    image = labelled("c", "y", "z", "x")
    result = denoise(image, axes="TYZX", **QUICK)
    np.testing.assert_array_equal(result.data, denoise(VALUES, axes="TYZX", **QUICK))
    assert result.dims == image.dims


@pytest.mark.parametrize("kind", ["NumPy", "dask"])
def test_noise_of_a_dataarray(kind: str) -> None:
    values = structured((2, 96, 96), "uint16")
    image = xr.DataArray(values, dims=("c", "y", "x"))
    if kind == "dask":
        image = image.chunk(40)
    models = [estimate.model for estimate in estimate_noise(image)]
    assert models == [estimate.model for estimate in estimate_noise(values, axes="CYX")]


@pytest.mark.parametrize("call", [denoise, estimate_noise])
def test_names_that_are_no_axes_are_refused(call: Any) -> None:
    for dims in (("band", "y", "z", "x"), ("c", "y", "zx", "x"), ("c", "", "z", "x")):
        with pytest.raises(InputError, match=r"named t, c, z, y, x, time or channel, got \['"):
            call(xr.DataArray(VALUES, dims=dims))
    with pytest.raises(InputError, match="without repetition, got 'TXTY'"):
        call(xr.DataArray(VALUES, dims=("t", "x", "time", "y")))


@pytest.mark.parametrize("call", [denoise, estimate_noise])
def test_a_dataset_is_refused(call: Any) -> None:
    with pytest.raises(InputError, match="give one of its DataArrays"):
        call(xr.Dataset({"embryo": labelled("c", "y", "z", "x")}))


@pytest.mark.parametrize("call", [denoise, estimate_noise])
def test_arrays_without_names_need_axes(call: Any) -> None:
    with pytest.raises(InputError, match="axes must be given, such as axes='ZYX'"):
        call(VALUES)


def test_importing_the_package_imports_neither_dask_nor_xarray() -> None:
    others = {"dask", "distributed", "xarray", "zarr"}
    code = f"import sys, denoise5d; print({others} & {{*sys.modules}})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


USER = """
from typing import assert_type

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

import denoise5d
from denoise5d import NoiseEstimate, denoise, estimate_noise


def arrays(array: NDArray[np.uint16], dask_array: da.Array, data_array: xr.DataArray) -> None:
    assert_type(denoise(array, axes="YX"), NDArray[np.float32])
    assert_type(denoise([[1, 2], [3, 4]], axes="YX", quality="fast"), NDArray[np.float32])
    assert_type(denoise(dask_array, axes="YX", chunks=(2, 2)), da.Array)
    assert_type(denoise(data_array, chunks=(2, 2)), xr.DataArray)
    assert_type(estimate_noise(data_array), list[NoiseEstimate])
    assert_type(estimate_noise(dask_array, axes="YX")[0].model, denoise5d.NoiseModel)
    denoise(array)  # type: ignore[call-overload]
    denoise(dask_array)  # type: ignore[call-overload]
    denoise(array, axes="YX", chunks=(2, 2))  # type: ignore[call-overload]
    denoise(array, axes="YX", quality="better")  # type: ignore[call-overload]


shape = (1, 1, 4, 64, 64)
parameters = denoise5d.resolve_parameters(shape)
assert_type(parameters, denoise5d.Parameters)
whole = denoise5d.Box.whole(shape)
assert_type(whole.grown(denoise5d.reach(parameters), shape), denoise5d.Box)
block = denoise5d.denoise_block(
    np.zeros(shape, np.float32),
    padded_origin=whole.start,
    core=whole,
    image_shape=shape,
    noise=[denoise5d.NoiseModel.gaussian(3)],
    parameters=parameters,
    threads=1,
)
assert_type(block, NDArray[np.float32])
"""


def test_type_checkers_see_which_kind_of_array_comes_back(tmp_path: Path) -> None:
    """Of the package as it is installed, beside packages of any kind of types."""
    (tmp_path / "user.py").write_text(USER)
    mypy = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "cache", "user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert mypy.returncode == 0, mypy.stdout + mypy.stderr
