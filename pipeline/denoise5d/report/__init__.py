"""Pictures of results. They need matplotlib, which the extra ``denoise5d[report]`` brings."""

from denoise5d.report.canvas import can_draw
from denoise5d.report.noise import NoiseChart, save_noise
from denoise5d.report.planes import save_comparison

__all__ = ["NoiseChart", "can_draw", "save_comparison", "save_noise"]
