"""LIF and ND2, of which there is no writer: what is read of files, and of a library, made here.

The LIF is made by what its format says and read by liffile; in the place of nd2 there is an object
that answers as its documents say. Neither proves that a file of a microscope is read.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from denoise5d.convert import convert
from denoise5d.errors import InputError
from denoise5d.geometry import Box
from denoise5d.sources import open_source
from denoise5d.store import Image, open_image

STACK = np.random.default_rng(3).integers(0, 4000, (3, 2, 4, 20, 30)).astype("uint16")
BOX = Box((1, 0, 1, 3, 7), (3, 2, 3, 20, 8))


def whole(image: Image) -> NDArray[Any]:
    return image.read(Box.whole(image.info.shape))


# --- LIF --------------------------------------------------------------------------------------

DIMENSION = (
    '<DimensionDescription DimID="{id}" NumberOfElements="{n}" Origin="0" Length="{length}" '
    'Unit="m" BitInc="0" BytesInc="{step}"/>'
)
CHANNEL = (
    '<ChannelDescription DataType="0" ChannelTag="0" Resolution="16" NameOfMeasuredQuantity="" '
    'Min="0" Max="65535" Unit="" LUTName="{lut}" IsLUTInverted="0" BytesInc="{step}" BitInc="0"/>'
)
ELEMENT = (
    '<Element Name="{name}" UniqueID="u{number}"><Data><Image><ImageDescription>'
    "<Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription>"
    '</Image></Data><Memory Size="{size}" MemoryBlockID="MemBlock_{number}"/></Element>'
)


def lif_element(number: int, size: int, more: str = "") -> str:
    """Describe a stack of the shape of `STACK`, stored as T, Z, C, Y, X."""
    t, c, z, y, x = STACK.shape
    steps = {1: 2, 2: 2 * x, 3: 2 * x * y * c, 4: 2 * x * y * c * z}
    lengths = {1: 0.25e-6 * (x - 1), 2: 0.5e-6 * (y - 1), 3: 2e-6 * (z - 1), 4: 12.0 * (t - 1)}
    dimensions = "".join(
        DIMENSION.format(id=i, n=n, length=lengths[i], step=steps[i])
        for i, n in ((1, x), (2, y), (3, z), (4, t))
    )
    channels = "".join(
        CHANNEL.format(lut=lut, step=2 * x * y * i) for i, lut in enumerate(("Green", "Red"))
    )
    return ELEMENT.format(
        name=f"Series{number}",
        number=number,
        channels=channels,
        dimensions=dimensions + more,
        size=size,
    )


def lif_text(text: str) -> bytes:
    return struct.pack("<BI", 0x2A, len(text)) + text.encode("utf-16-le")


def write_lif(path: Path, stacks: Sequence[NDArray[Any]], more: str = "") -> Path:
    blocks = [stack.transpose(0, 2, 1, 3, 4).astype("<u2").tobytes() for stack in stacks]
    elements = "".join(lif_element(n, len(block), more) for n, block in enumerate(blocks))
    xml = lif_text(
        '<LMSDataContainerHeader Version="2"><Element Name="a"><Children>'
        f"{elements}</Children></Element></LMSDataContainerHeader>"
    )
    content = struct.pack("<II", 0x70, len(xml)) + xml
    for number, block in enumerate(blocks):
        name = lif_text(f"MemBlock_{number}")
        head = struct.pack("<BQ", 0x2A, len(block)) + name
        content += struct.pack("<II", 0x70, len(head)) + head + block
    path.write_bytes(content)
    return path


def test_lif(tmp_path: Path) -> None:
    source = write_lif(tmp_path / "a.lif", [STACK])
    image = open_source(source)
    np.testing.assert_array_equal(whole(image), STACK)
    np.testing.assert_array_equal(image.read(BOX), STACK[BOX.slices])
    assert image.info.name == "Series0"
    assert image.info.scales == (12.0, 1.0, 2.0, 0.5, 0.25)
    assert image.info.units == ("second", None, "micrometer", "micrometer", "micrometer")
    assert image.info.channels == {"channels": [{"color": "00FF00"}, {"color": "FF0000"}]}
    convert(source, tmp_path / "a.zarr")
    np.testing.assert_array_equal(whole(open_image(tmp_path / "a.zarr")), STACK)


def test_lif_of_several_images(tmp_path: Path) -> None:
    source = write_lif(tmp_path / "a.lif", [STACK, STACK[::-1]])
    with pytest.raises(InputError, match=r"holds 2 images.*0: Series0 .*1: Series1"):
        open_source(source)
    np.testing.assert_array_equal(whole(open_source(source, dataset="1")), STACK[::-1])


def test_lif_mosaics_are_refused(tmp_path: Path) -> None:
    tiles = DIMENSION.format(id=10, n=2, length=1, step=STACK.nbytes)
    source = write_lif(tmp_path / "a.lif", [STACK], more=tiles)
    with pytest.raises(InputError, match=r"Series0 has the axes M \(2\).*a mosaic merged"):
        open_source(source)


@pytest.mark.parametrize("kept", [0.1, 0.3, 0.6, 0.99])
def test_lif_that_is_cut_short(tmp_path: Path, kept: float) -> None:
    content = write_lif(tmp_path / "a.lif", [STACK]).read_bytes()
    (tmp_path / "a.lif").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match=r"a\.lif is damaged or cut short"):
        open_source(tmp_path / "a.lif")


# --- ND2 --------------------------------------------------------------------------------------


class FakeNd2:
    """Answers as `nd2.ND2File` does for two positions of `STACK`, frames in the order P, T, Z."""

    def __init__(self, _: Path, **changes: Any) -> None:
        t, c, z, y, x = STACK.shape
        self.sizes = {"P": 2, "T": t, "Z": z, "C": c, "Y": y, "X": x}
        self.dtype = STACK.dtype
        self.is_rgb = False
        self.closed = False
        self.loop_indices = tuple(
            {"P": p, "T": i, "Z": k} for p, i, k in product(range(2), range(t), range(z))
        )
        self.attributes = SimpleNamespace(sequenceCount=len(self.loop_indices))
        channels = [("GFP", (0, 255, 16)), ("RFP", (255, 0, 0))]
        self.metadata = SimpleNamespace(
            channels=[
                SimpleNamespace(
                    channel=SimpleNamespace(
                        name=name, color=SimpleNamespace(**dict(zip("rgb", rgb, strict=True)))
                    )
                )
                for name, rgb in channels
            ]
        )
        period = SimpleNamespace(periodMs=2500.0)
        self.experiment = [SimpleNamespace(type="TimeLoop", parameters=period)]
        for key, value in changes.items():
            setattr(self, key, value)

    def voxel_size(self) -> SimpleNamespace:
        return SimpleNamespace(x=0.25, y=0.5, z=2.0)

    def read_frame(self, number: int) -> NDArray[Any]:
        at = self.loop_indices[number]
        return STACK[at["T"], :, at["Z"]] + np.uint16(at["P"])

    def close(self) -> None:
        self.closed = True


def open_fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, **changes: Any) -> Any:
    fake = FakeNd2(tmp_path, **changes)
    monkeypatch.setitem(sys.modules, "nd2", SimpleNamespace(ND2File=lambda _: fake))
    source = tmp_path / "a.nd2"
    source.write_bytes(b"\xda\xce\xbe\x0a" + bytes(99))
    return open_source(source, dataset=dataset), fake


def test_nd2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, fake = open_fake(tmp_path, monkeypatch, "1")
    np.testing.assert_array_equal(whole(image), STACK + np.uint16(1))
    np.testing.assert_array_equal(image.read(BOX), STACK[BOX.slices] + np.uint16(1))
    assert image.info.scales == (2.5, 1.0, 2.0, 0.5, 0.25)
    assert image.info.units == ("second", None, "micrometer", "micrometer", "micrometer")
    assert image.info.channels == {
        "channels": [{"label": "GFP", "color": "00FF10"}, {"label": "RFP", "color": "FF0000"}]
    }
    assert image.info.chunks == (1, 2, 1, 20, 30)
    image.close()
    assert fake.closed


def test_nd2_that_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"holds 2 images.*got 2.*1: position 1"):
        open_fake(tmp_path, monkeypatch, "2")
    with pytest.raises(InputError, match="is a colour image"):
        open_fake(tmp_path, monkeypatch, "0", is_rgb=True)
    with pytest.raises(InputError, match="has 20 of the 24 frames of its experiment"):
        open_fake(tmp_path, monkeypatch, "0", attributes=SimpleNamespace(sequenceCount=20))
    with pytest.raises(InputError, match=r"has the axes V \(3\), which are none of TCZYX"):
        open_fake(tmp_path, monkeypatch, "0", sizes={"V": 3, "Y": 20, "X": 30})
    image, _ = open_fake(tmp_path, monkeypatch, "0", read_frame=lambda _: np.zeros(7))
    with pytest.raises(InputError, match=r"the frame t 1, z 1 \(from 0\) cannot be read"):
        image.read(BOX)


def test_nd2_of_the_real_library(tmp_path: Path) -> None:
    """No file, but nd2 itself, and how it refuses."""
    (tmp_path / "a.nd2").write_bytes(b"\xda\xce\xbe\x0a" + bytes(99))
    with pytest.raises(InputError, match=r"a\.nd2 is damaged or cut short"):
        open_source(tmp_path / "a.nd2")
