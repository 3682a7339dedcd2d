"""What a run is: the fingerprint that a rerun is held to, and the provenance in the output.

The fingerprint holds everything that can change a voxel, and nothing else: a run goes on with other
workers, memory or blocks (with the exact halo blocks do not show), but not with another patch.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from denoise5d.config import Config, NoiseConfig
from denoise5d.errors import NoiseError, OutputError
from denoise5d.kernel import (
    ESTIMATOR_VERSION,
    build_info,
)
from denoise5d.noise import NoiseEstimate, NoiseModel, estimate_channel, sample_boxes
from denoise5d.noise_cells import Samples
from denoise5d.prepare import Job, wanted_halo
from denoise5d.store import Image


def fingerprint(job: Job, image: Image) -> dict[str, Any]:
    """Return everything that can change a voxel of the output, as plain JSON values."""
    config, plan = job.config, job.plan
    given = given_noise(config.noise, image.info.shape[1])
    result: dict[str, Any] = {
        "input": _input(config, image),
        "output": {
            "format": config.output.format,
            "dtype": job.dtype.name,
            "chunks": config.output.chunks or "auto",
            "shards": "auto" if config.output.shards_auto else config.output.shards,
        },
        "noise": "auto" if given is None else [asdict(model) for model in given],
        "denoise": asdict(job.parameters),
        "blocks": {"halo": wanted_halo(config, job.parameters)},
        "estimator": ESTIMATOR_VERSION,
    }
    if not plan.exact_halo:  # then the cuts show, and belong to what a voxel is
        result["blocks"]["shape"] = config.blocks.shape or "auto"
    plain: dict[str, Any] = _plain(result)
    return plain


def _input(config: Config, image: Image) -> dict[str, Any]:
    info = image.info
    return {
        "path": str(config.input.path),
        "dataset": info.dataset,
        "axes": info.axes,
        "shape": info.shape,
        "dtype": info.dtype.name,
        "chunks": info.chunks,
        "content": image.content_sample(),
    }


def estimated_before(config: Config, image: Image, header: dict[str, Any]) -> bool:
    """Tell whether an earlier run, with whatever settings, estimated the noise of this image.

    Parameters
    ----------
    config : Config
        Has its noise estimated.
    image : Image
        Its input.
    header : dict
        Of the earlier run's ledger.
    """
    same = {"input": _plain(_input(config, image)), "noise": "auto", "estimator": ESTIMATOR_VERSION}
    before = header.get("fingerprint", {})
    return config.noise is None and all(before.get(key) == same[key] for key in same)


def given_noise(noise: NoiseConfig | None, channels: int) -> list[NoiseModel] | None:
    """Return the models that a YAML gives, one a channel; None for ``auto``.

    Raises
    ------
    NoiseError
        If the YAML gives another number of values than the image has channels.
    """
    if noise is None:
        return None
    if noise.sigma is not None:
        models = [NoiseModel.gaussian(sigma) for sigma in noise.sigma]
    else:
        assert noise.gain is not None  # config has seen to it
        assert noise.offset is not None
        reads: Sequence[float | None] = noise.read_noise or [None] * len(noise.gain)
        values = zip(noise.gain, noise.offset, reads, strict=True)
        models = [NoiseModel.poisson_gaussian(g, e, s) for g, e, s in values]
    if len(models) == 1:
        return models * channels
    if len(models) != channels:
        raise NoiseError(
            f"noise must give one value for all channels or one for each of the image's "
            f"{channels}, got {len(models)}"
        )
    return models


def estimate_noise(image: Image) -> list[NoiseEstimate]:
    """Estimate the noise of every channel from boxes spread over the whole image."""
    channels = range(image.info.shape[1])
    return [estimate_from(list(read_samples(image, c)), c) for c in channels]


def read_samples(image: Image, channel: int) -> Iterator[Samples]:
    """Yield what a channel's noise is estimated from, 4-D TZYX, box by box."""
    return (image.read(box)[:, 0] for box in sample_boxes(image.info.shape, channel))


def estimate_from(samples: Sequence[Samples], channel: int) -> NoiseEstimate:
    """Estimate the noise of a channel; an error says which channel it is."""
    try:
        return estimate_channel(samples)
    except NoiseError as error:
        raise NoiseError(f"channel {channel}: {error}") from error


def frozen_noise(header: dict[str, Any]) -> list[NoiseModel]:
    """Return the noise that a run began with; raise OutputError if the ledger does not say."""
    try:
        return [NoiseModel(**model) for model in header["noise"]]
    except (KeyError, TypeError) as error:
        raise OutputError(
            f"the ledger does not say with which noise its run began ({error!r}); "
            f"begin anew with `denoise5d run --overwrite`"
        ) from error


def provenance(job: Job, noise: Sequence[NoiseModel]) -> dict[str, Any]:
    """Return what the output says of how it was made."""
    plain: dict[str, Any] = _plain(
        {
            "made_by": f"denoise5d {version('denoise5d')}",
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "input": str(job.config.input.path),
            "method": "safir" if job.parameters.ridge is None else "ridge",
            "parameters": asdict(job.parameters),
            "noise": [asdict(model) for model in noise],
            "halo": job.plan.grid.halo,
            "halo_is_exact": job.plan.exact_halo,
            "estimator": ESTIMATOR_VERSION,
            "versions": versions(),
        }
    )
    return plain


def versions() -> dict[str, str]:
    """Return the versions of the program, of what it stands on, and of its kernel's build."""
    kernel = build_info()
    libraries = ("denoise5d", "numpy", "zarr", "dask", "distributed", "dask-jobqueue")
    return {
        **{name: version(name) for name in libraries},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "kernel": f"{kernel['compiler']}, {kernel['build_type']}, "
        f"OpenMP {kernel['openmp'] or 'none'}, {kernel['instruction_set']}",
    }


def _plain(value: Any) -> Any:
    """Return the value as JSON gives it back: tuples as lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
