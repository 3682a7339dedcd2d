"""Pictures of results. They need matplotlib, which the extra ``denoise5d[report]`` brings."""

from denoise5d.report.canvas import can_draw
from denoise5d.report.noise import NoiseChart, save_noise
from denoise5d.report.page import write_report
from denoise5d.report.planes import save_comparison
from denoise5d.report.preview import PreviewPanel, VoxelSize, save_preview

__all__ = [
    "NoiseChart",
    "PreviewPanel",
    "VoxelSize",
    "can_draw",
    "save_comparison",
    "save_noise",
    "save_preview",
    "write_report",
]
