"""Contrast windows of an output's channels, from its voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from denoise5d.noise import sample_boxes
from denoise5d.store import (
    Description,
    Output,
    Window,
    complete_channels,
    describe_channels,
    has_windows,
    open_image,
    open_output,
)

_PERCENTILES = (0.1, 99.9)

_SAMPLE_VOXELS = 2**22
"""Of each channel, in boxes spread over the image: a few seconds, and some tens of MB."""


def write_contrast(path: Path, image: Description) -> None:
    """Let every channel of an output be shown with the contrast that its voxels have.

    A window that the input says itself is kept. What has been written once is left alone, since
    whoever looks at the image may have changed it.

    Parameters
    ----------
    path : Path
        An output whose blocks are all done.
    image : Description
        The input; with its channels, as `create_output` wrote them down.
    """
    found = open_image(path).info.channels
    if found != (None if image.channels is None else complete_channels(image)):
        return
    if image.channels is not None and has_windows(image):
        return
    output = open_output(path)
    windows = [channel_window(output, channel) for channel in range(output.shape[1])]
    describe_channels(path, complete_channels(image, windows))


def channel_window(output: Output, channel: int) -> Window:
    """Return the range of a channel's voxels, and that of all but two in a thousand of them."""
    boxes = sample_boxes(output.shape, channel, max_voxels=_SAMPLE_VOXELS)
    values = np.concatenate([output.read(box).ravel() for box in boxes])
    start, end = np.percentile(values, _PERCENTILES, method="inverted_cdf").tolist()
    if end <= start:  # one value nearly everywhere: a window must not be empty
        end = start + 1
    low, high = float(values.min()), max(float(values.max()), float(end))
    return {"min": low, "max": high, "start": float(start), "end": float(end)}
