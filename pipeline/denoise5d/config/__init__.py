"""The YAML file of a run: read, checked as a whole, and turned into plain values.

::

    file --document--> nodes with lines, plain data --models--> checked --load--> Config (values)

`load_config` reports every mistake at once, each with file, line and key. `json_schema` describes
the same keys for editors. Both come from the pydantic models in `models`; nothing but the frozen
dataclasses of `values` leaves this package.
"""

from __future__ import annotations

from denoise5d.config.load import json_schema, load_config
from denoise5d.config.values import (
    BatchConfig,
    BlocksConfig,
    ClusterConfig,
    Config,
    DenoiseConfig,
    InputConfig,
    NoiseConfig,
    OutputConfig,
    RidgeConfig,
)
from denoise5d.config.variants import denoise_section, denoise_variant

__all__ = [
    "BatchConfig",
    "BlocksConfig",
    "ClusterConfig",
    "Config",
    "DenoiseConfig",
    "InputConfig",
    "NoiseConfig",
    "OutputConfig",
    "RidgeConfig",
    "denoise_section",
    "denoise_variant",
    "json_schema",
    "load_config",
]
