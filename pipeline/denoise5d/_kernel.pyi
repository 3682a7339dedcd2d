from typing import Any

from numpy import float32
from numpy.typing import NDArray

class NoiseModel:
    def __init__(self, gain: float, offset: float, read_noise: float) -> None: ...

class SafirParameters:
    def __init__(self, patch: list[int], windows: list[list[int]], threshold: float) -> None: ...

class RidgeParameters:
    def __init__(
        self,
        patch: list[int],
        search: list[int],
        stride: list[int],
        group: int,
        rounds: int,
    ) -> None: ...

class Parameters:
    def __init__(self, safir: SafirParameters, ridge: RidgeParameters) -> None: ...

def denoise_channel(
    padded: NDArray[Any],
    out: NDArray[float32],
    image_shape: list[int],
    padded_origin: list[int],
    core_start: list[int],
    noise: NoiseModel,
    parameters: Parameters,
    threads: int,
    isa: str,
) -> None: ...
def reach(parameters: Parameters) -> list[int]: ...
def scratch_bytes(parameters: Parameters, shape: list[int]) -> int: ...
def team_size(threads: int) -> int: ...
def build_info() -> dict[str, Any]: ...
