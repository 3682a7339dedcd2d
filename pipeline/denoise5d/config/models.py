"""The keys of the YAML: types, rules, defaults, and what each one means to its user.

Descriptions and examples serve the editors (JSON schema) and the messages alike. Rules that look at
several keys raise one error with all that they found, through `broken_rules`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from denoise5d.config.cluster_models import ClusterModel
from denoise5d.config.fields import (
    GROUP,
    Auto,
    AutoGroup,
    AutoIterations,
    AutoPatch,
    AutoSearch,
    AutoShape,
    AutoStride,
    ExactHalo,
    PerChannel,
    RuleBroken,
    Section,
    broken_rules,
    either,
)
from denoise5d.config.image_models import InputModel, OutputModel


class NoiseGiven(Section):
    """The noise of the camera, when known: gain and offset, or sigma."""

    gain: PerChannel = Field(
        default=None,
        description="Grey levels for each detected photo-electron: how fast the variance of the "
        "noise grows with brightness. One number, or a list with one for each channel.",
        examples=[3.92, [3.92, 4.1]],
    )
    offset: PerChannel = Field(
        default=None,
        description="The noise's variance at grey level 0: variance = gain x brightness + offset. "
        "Below zero for most cameras, as they add a constant to all grey levels.",
        examples=[-388, [-388, -402]],
    )
    read_noise: PerChannel = Field(
        default=None,
        description="Standard deviation in grey levels of what the camera's electronics add. "
        "Only matters where there are hardly any photons. Left out: half the gain.",
        examples=[2.0, [2.0, 2.2]],
    )
    sigma: PerChannel = Field(
        default=None,
        description="Standard deviation in grey levels of noise that is equally strong everywhere, "
        "dark or bright. Instead of gain and offset.",
        examples=[20, [20, 25]],
    )

    @model_validator(mode="after")
    def _rules(self) -> NoiseGiven:
        if broken := [*self._together(), *self._ranges(), *self._lengths()]:
            raise broken_rules(broken)
        return self

    def _together(self) -> Iterator[RuleBroken]:
        values = self.given()
        if not values:
            yield (), "must hold gain and offset, or sigma; or write noise: auto"
        if "sigma" in values:
            for key in values:
                if key != "sigma":
                    yield (key,), "must not stand beside sigma; remove one of the two"
        elif values:
            for key, other in (("gain", "offset"), ("offset", "gain")):
                if other in values and key not in values:
                    yield (key,), f"is missing, {other} needs it; give it, or sigma alone"
            if "read_noise" in values and not {"gain", "offset"} & set(values):
                yield ("gain",), "is missing, read_noise needs it; give gain and offset"

    def _ranges(self) -> Iterator[RuleBroken]:
        for key, values in self.given().items():
            for i, value in enumerate(values):
                where = (key, i) if isinstance(getattr(self, key), tuple) else (key,)
                if key in ("gain", "sigma") and value <= 0:
                    yield where, "must be greater than 0"
                if key == "read_noise" and value < 0:
                    yield where, "must be at least 0"

    def _lengths(self) -> Iterator[RuleBroken]:
        lists = {key: v for key, v in self.given().items() if isinstance(getattr(self, key), tuple)}
        for key in list(lists)[1:]:
            first = next(iter(lists))
            if len(lists[key]) != len(lists[first]):
                yield (key,), f"must be as long as noise.{first}, one number for each channel"

    def given(self) -> dict[str, tuple[float, ...]]:
        """Return the keys that have a value, a single number as a list of one."""
        values = {key: getattr(self, key) for key in type(self).model_fields}
        return {
            key: value if isinstance(value, tuple) else (value,)
            for key, value in values.items()
            if value is not None
        }


Noise = Annotated[
    Auto | Annotated[NoiseGiven, GROUP],
    either("must be auto, or hold gain and offset, or sigma"),
]


class RidgeModel(Section):
    """The refinement: groups of similar patches are estimated together."""

    search: AutoSearch = Field(
        default="auto",
        description="How far in voxels (T, C, Z, Y, X) similar patches are looked for; 0 for C. "
        "auto: after the axes that the image has.",
        examples=["auto", [1, 0, 1, 2, 2]],
    )
    group: AutoGroup = Field(
        default="auto",
        description="How many similar patches are estimated together, 2 to 256. Fewer: faster, "
        "more noise stays. auto: after the axes that the image has.",
        examples=["auto", 48],
    )
    stride: AutoStride = Field(
        default="auto",
        description="Distance in voxels (T, C, Z, Y, X) from one reference patch to the next, at "
        "most the length of a patch; 1 for C. Larger: faster, less is averaged. "
        "auto: after the axes that the image has.",
        examples=["auto", [1, 1, 3, 5, 5]],
    )
    rounds: Annotated[int, Field(ge=1, le=4)] = Field(
        default=1,
        description="How often the result is refined, 1 to 4; each round takes its time again, "
        "and a wider margin around blocks.",
        examples=[1],
    )


class DenoiseModel(Section):
    """How strongly, and by which comparisons, the image is denoised."""

    method: Literal["ridge", "safir"] = Field(
        default="ridge",
        description="ridge: a first estimate by SAFIR, refined by NL-Ridge; the better image. "
        "safir: the first estimate alone; the shorter time.",
        examples=["ridge"],
    )
    quality: Literal["fast", "standard", "best"] | None = Field(
        default=None,
        description="Instead of numbers. fast: SAFIR alone. standard: refined once. best: refined "
        "twice. Excludes patch, iterations, pvalue and ridge.",
        examples=["standard"],
    )
    patch: AutoPatch = Field(
        default="auto",
        description="Radius in voxels (T, C, Z, Y, X) of the small surroundings by which voxels "
        "are compared in the first estimate; 0 for C. Larger: smoother, safer in strong noise, "
        "slower. auto: after the axes that the image has.",
        examples=["auto", [0, 0, 1, 3, 3]],
    )
    iterations: AutoIterations = Field(
        default="auto",
        description="Number of rounds of the first estimate, 1 to 6; each looks for similar places "
        "further away. auto: after the axes that the image has.",
        examples=["auto", 4],
    )
    pvalue: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1,
        description="How readily the first estimate takes two places for different, between 0 and "
        "1. Smaller: more is averaged, smoother. Larger: more detail and more noise stay.",
        examples=[0.1],
    )
    ridge: RidgeModel = Field(
        default=RidgeModel(),
        description="Settings of the refinement; only with method: ridge.",
        examples=[{"rounds": 2}],
    )

    @model_validator(mode="after")
    def _rules(self) -> DenoiseModel:
        if broken := list(self._contradictions()):
            raise broken_rules(broken)
        return self

    def _contradictions(self) -> Iterator[RuleBroken]:
        given = set(self.model_fields_set)
        if not self.ridge.model_fields_set:
            given.discard("ridge")  # a section with everything commented out says nothing
        if self.quality is not None:
            for key in ("patch", "iterations", "pvalue", "ridge"):
                if key in given:
                    yield (key,), "must not stand beside quality; remove one of the two"
            if "method" in given and (self.method == "safir") != (self.quality == "fast"):
                rule = f"contradicts method: {self.method}; remove one of the two"
                yield ("quality",), f"{rule}, as fast is safir and the others are ridge"
        if self.method == "safir" and "ridge" in given:
            rule = "must not stand beside method: safir, which refines nothing"
            yield ("ridge",), f"{rule}; remove one of the two"


class BlocksModel(Section):
    """How the image is cut into the blocks that are worked on one by one."""

    shape: AutoShape = Field(
        default="auto",
        description="Size in voxels (T, C, Z, Y, X) of a block without its margin. "
        "auto: what fits the memory and takes the least time.",
        examples=["auto", [17, 1, 1501, 512, 512]],
    )
    halo: ExactHalo = Field(
        default="exact",
        description="Margin in voxels (T, C, Z, Y, X) that is read around a block; 0 for C. "
        "exact: as much as can matter, so no block edge is ever seen. Less is faster but "
        "approximate.",
        examples=["exact", [0, 0, 2, 10, 10]],
    )
    memory_factor: Annotated[float, Field(ge=1, le=1000)] = Field(
        default=6.0,
        description="Memory that a worker is given, as a multiple of one block with its margin "
        "(4 bytes a voxel).",
        examples=[6],
    )
    retries: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=2,
        description="How many times a block that failed is tried again.",
        examples=[2],
    )


class ConfigModel(Section):
    """A run of denoise5d: which image to denoise, how, and where."""

    input: InputModel
    output: OutputModel
    noise: Noise = Field(
        default="auto",
        description="The noise of the camera. auto: measured in the image itself; or gain and "
        "offset, or sigma, if you know them.",
        examples=["auto", {"gain": [3.92], "offset": [-388]}],
    )
    denoise: DenoiseModel = DenoiseModel()
    blocks: BlocksModel = BlocksModel()
    cluster: ClusterModel = ClusterModel()


SECTIONS: dict[tuple[str, ...], type[Section]] = {
    (): ConfigModel,
    ("input",): InputModel,
    ("output",): OutputModel,
    ("noise",): NoiseGiven,
    ("denoise",): DenoiseModel,
    ("denoise", "ridge"): RidgeModel,
    ("blocks",): BlocksModel,
    ("cluster",): ClusterModel,
}
"""Every group of keys by its place in the YAML."""
