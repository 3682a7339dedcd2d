"""LIF and ND2, of which there is no writer: files are made here, as their readers take them.

The readers are liffile and nd2 themselves. That does not prove that a file of a microscope is read.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import product
from pathlib import Path
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
    with pytest.raises(InputError, match=r"Series0 \(M 2, T 3.*none of TCZYX.*a mosaic merged"):
        open_source(source)


@pytest.mark.parametrize("kept", [0.1, 0.3, 0.6, 0.99])
def test_lif_that_is_cut_short(tmp_path: Path, kept: float) -> None:
    content = write_lif(tmp_path / "a.lif", [STACK]).read_bytes()
    (tmp_path / "a.lif").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match=r"a\.lif is damaged or cut short"):
        open_source(tmp_path / "a.lif")


# --- ND2 --------------------------------------------------------------------------------------

ND2_MAP = b"ND2 FILEMAP SIGNATURE NAME 0001!"
ND2_END = b"ND2 CHUNK MAP SIGNATURE 0000001!"
NAME_BYTES = 4072
COLOURS = (0x0010FF00, 0x000000FF)  # blue, green, red from above: 00FF10, FF0000


def variant(name: str, value: Any) -> bytes:
    """Write one value with its name, as the binary metadata of ND2 have it."""
    letters = (name + "\0").encode("utf-16-le")
    kinds = ((bool, 1, "<B"), (int, 3, "<I"), (float, 6, "<d"))
    if isinstance(value, dict):
        items = b"".join(variant(key, item) for key, item in value.items())
        head = struct.pack("<BB", 11, len(name) + 1) + letters
        length = len(head) + 12 + len(items)
        return head + struct.pack("<IQ", len(value), length) + items + bytes(8 * len(value))
    if isinstance(value, str):
        return struct.pack("<BB", 8, len(name) + 1) + letters + (value + "\0").encode("utf-16-le")
    number, form = next((number, form) for kind, number, form in kinds if isinstance(value, kind))
    return struct.pack("<BB", number, len(name) + 1) + letters + struct.pack(form, value)


def nd2_metadata(frames: int, calibrated: bool, probe: bool) -> dict[str, dict[str, Any]]:
    """Describe two positions of a stack of the shape of `STACK`, in the order P, T, Z."""
    probes = {"pFluorescentProbe": {"m_sName": "dye"}} if probe else {}
    t, c, z, y, x = STACK.shape
    slices = {"eType": 4, "uLoopPars": {"uiCount": z, "dZStep": 2.0, "dZLow": 0.0, "dZHigh": 6.0}}
    times = {"uiCount": t, "dStart": 0.0, "dPeriod": 2500.0, "dDuration": 7500.0}
    points = {f"i{number:010}": {"dPosX": 10.0 * number} for number in range(2)}
    film = {"eType": 1, "uLoopPars": times, "ppNextLevelEx": {"": slices}}
    planes = {  # without a probe nd2 finds no metadata at all
        f"a{number}": {"sDescription": name, "uiColor": colour, "uiCompCount": 1} | probes
        for number, (name, colour) in enumerate(zip(("GFP", "RFP"), COLOURS, strict=True))
    }
    return {
        "ImageAttributesLV!": {
            "SLxImageAttributes": {
                "uiWidth": x,
                "uiHeight": y,
                "uiWidthBytes": 2 * x * c,
                "uiComp": c,
                "uiBpcInMemory": 16,
                "uiBpcSignificant": 12,
                "uiSequenceCount": frames,
                "eCompression": 2,
            }
        },
        "ImageMetadataSeqLV|0!": {
            "SLxPictureMetadata": {
                "bCalibrated": calibrated,
                "dCalibration": 0.25,
                "sPicturePlanes": {"uiCount": c, "sPlaneNew": planes},
            }
        },
        "ImageMetadataLV!": {
            "SLxExperiment": {
                "eType": 2,
                "uLoopPars": {"uiCount": 2, "Points": points},
                "ppNextLevelEx": {"": film},
            }
        },
    }


def write_nd2(path: Path, frames: int = 24, *, calibrated: bool = True, probe: bool = True) -> Path:
    """Write `STACK`, plus 1 in the second position: chunks, a map of them, and where it begins."""
    metadata = nd2_metadata(frames, calibrated, probe)
    chunks = {key: variant(*next(iter(value.items()))) for key, value in metadata.items()}
    places = list(product(range(2), range(STACK.shape[0]), range(STACK.shape[2])))
    for number, (position, t, z) in enumerate(places[:frames]):
        pixels = (STACK[t, :, z] + position).transpose(1, 2, 0).astype("<u2")
        chunks[f"ImageDataSeq|{number}!"] = struct.pack("<d", 0.0) + pixels.tobytes()

    content = struct.pack("<IIQ", 0x0ABECEDA, 32, 64) + b"ND2 FILE SIGNATURE CHUNK NAME01!"
    content += b"Ver3.0".ljust(64, b"\0")
    listed = b""
    for key, data in chunks.items():
        name = key.encode().ljust(NAME_BYTES, b"\0")
        listed += key.encode() + struct.pack("<QQ", len(content), len(data))
        content += struct.pack("<IIQ", 0x0ABECEDA, len(name), len(data)) + name + data
    start = len(content)
    end = ND2_END + struct.pack("<Q", start)
    content += struct.pack("<IIQ", 0x0ABECEDA, len(ND2_MAP), len(listed + end)) + ND2_MAP
    path.write_bytes(content + listed + end)
    return path


def test_nd2(tmp_path: Path) -> None:
    source = write_nd2(tmp_path / "a.nd2")
    image = open_source(source, dataset="1")
    np.testing.assert_array_equal(whole(image), STACK + np.uint16(1))
    np.testing.assert_array_equal(image.read(BOX), STACK[BOX.slices] + np.uint16(1))
    assert image.info.scales == (2.5, 1.0, 2.0, 0.25, 0.25)
    assert image.info.units == ("second", None, "micrometer", "micrometer", "micrometer")
    assert image.info.channels == {
        "channels": [{"label": "GFP", "color": "00FF10"}, {"label": "RFP", "color": "FF0000"}]
    }
    assert image.info.chunks == (1, 2, 1, 20, 30)
    convert(source, tmp_path / "a.zarr", dataset="0")
    np.testing.assert_array_equal(whole(open_image(tmp_path / "a.zarr")), STACK)


def test_nd2_of_several_positions(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds 2 images.*0: position 0; 1: position 1"):
        open_source(write_nd2(tmp_path / "a.nd2"))


def test_nd2_without_calibration(tmp_path: Path) -> None:
    image = open_source(write_nd2(tmp_path / "a.nd2", calibrated=False), dataset="0")
    assert image.info.units == ("second", None, "micrometer", None, None)
    assert image.info.scales == (2.5, 1.0, 2.0, 1.0, 1.0)


def test_nd2_of_which_the_library_finds_no_metadata(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The voxels are there nevertheless."""
    image = open_source(write_nd2(tmp_path / "a.nd2", probe=False), dataset="0")
    assert "voxel sizes and names are left out" in caplog.text
    np.testing.assert_array_equal(whole(image), STACK)
    assert image.info.channels is None
    assert image.info.units == ("second", None, None, None, None)


def test_nd2_that_was_not_finished(tmp_path: Path) -> None:
    source = write_nd2(tmp_path / "a.nd2", frames=20)
    with pytest.raises(InputError, match="has 20 of the 24 frames of its experiment"):
        open_source(source, dataset="0")


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99])
def test_nd2_that_is_cut_short(tmp_path: Path, kept: float) -> None:
    content = write_nd2(tmp_path / "a.nd2").read_bytes()
    (tmp_path / "a.nd2").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match=r"a\.nd2 is damaged or cut short"):
        open_source(tmp_path / "a.nd2", dataset="0")
