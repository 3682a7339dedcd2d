from typing import Any

from numpy import float32
from numpy.typing import NDArray

class NoiseModel:
    def __init__(self, gain: float, offset: float, read_noise: float) -> None: ...

class SafirParameters:
    def __init__(self, patch: list[int], windows: list[list[int]], threshold: float) -> None: ...

def denoise_channel(
    padded: NDArray[Any],
    out: NDArray[float32],
    image_shape: list[int],
    padded_origin: list[int],
    core_start: list[int],
    noise: NoiseModel,
    safir: SafirParameters,
    threads: int,
    isa: str,
) -> None: ...
def reach(safir: SafirParameters) -> list[int]: ...
def scratch_bytes(safir: SafirParameters, shape: list[int]) -> int: ...
def team_size(threads: int) -> int: ...
def build_info() -> dict[str, Any]: ...
