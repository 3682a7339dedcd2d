"""Other settings than the YAML's, held to the YAML's own rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from denoise5d.config import DenoiseConfig, RidgeConfig, denoise_section, denoise_variant
from denoise5d.config.load import load_config
from denoise5d.errors import ConfigError

STANDARD = DenoiseConfig(RidgeConfig(None, None, None, 1), None, None, 0.1)
SAFIR = DenoiseConfig(None, None, None, 0.1)


def loaded(folder: Path, section: dict[str, Any]) -> DenoiseConfig:
    file = folder / "a.yaml"
    paths = {"input": {"path": "a.zarr"}, "output": {"path": "b.zarr"}}
    file.write_text(yaml.safe_dump(paths | {"denoise": section}))
    return load_config(file).denoise


def plain(value: Any) -> Any:
    """Return what YAML writes: lists instead of tuples."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


radii = st.tuples(st.integers(0, 4), st.just(0), *[st.integers(0, 4)] * 3)
refinements = st.builds(
    RidgeConfig,
    search=st.none() | radii,
    group=st.none() | st.integers(2, 256),
    stride=st.none() | st.tuples(st.just(1), st.just(1), *[st.integers(1, 3)] * 3),
    rounds=st.integers(1, 4),
)


@given(
    st.builds(
        DenoiseConfig,
        ridge=st.none() | refinements,
        patch=st.none() | radii,
        iterations=st.none() | st.integers(1, 6),
        pvalue=st.sampled_from([0.1, 0.01, 0.5]),
    )
)
def test_a_section_gives_the_settings_that_it_was_made_of(
    tmp_path_factory: pytest.TempPathFactory, settings: DenoiseConfig
) -> None:
    folder = tmp_path_factory.mktemp("a")
    assert loaded(folder, plain(denoise_section(settings))) == settings
    assert denoise_variant(settings, {}) == settings


@pytest.mark.parametrize("quality", ["fast", "standard", "best"])
def test_a_quality_is_the_whole_section(quality: str, tmp_path: Path) -> None:
    wanted = loaded(tmp_path, {"quality": quality})
    for base in (STANDARD, SAFIR, DenoiseConfig(None, (0, 0, 0, 1, 1), 3, 0.5)):
        assert denoise_variant(base, {"quality": quality}) == wanted


def test_a_key_changes_itself_alone() -> None:
    assert denoise_variant(SAFIR, {"iterations": 3}) == DenoiseConfig(None, None, 3, 0.1)
    other = denoise_variant(STANDARD, {"patch": (0, 0, 0, 1, 1), "pvalue": 0.5})
    assert other == DenoiseConfig(STANDARD.ridge, (0, 0, 0, 1, 1), None, 0.5)
    assert denoise_variant(other, {"patch": "auto", "pvalue": 0.1}) == STANDARD


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"pvalue": 2}, r"denoise\.pvalue: must be less than 1, got 2; write for example 0\.1"),
        ({"pvalue": "x"}, r"denoise\.pvalue: must be a number, got x"),
        ({"iterations": 0}, r"denoise\.iterations: must be at least 1, got 0"),
        ({"iterations": 1.5}, r"denoise\.iterations: .*whole number, got 1\.5"),
        ({"patch": (0, 0, 1)}, r"denoise\.patch: must have five entries .*, got \[0, 0, 1\]"),
        ({"patch": (0, 0, 1, 2, 99)}, r"denoise\.patch\[4\]: must be at most 8"),
        ({"quality": "worst"}, r"denoise\.quality: must be fast, standard or best, got worst"),
        (
            {"quality": "best", "iterations": 2},
            r"denoise\.iterations: must not stand beside quality, got 2; remove one of the two",
        ),
    ],
)
def test_the_rules_of_the_yaml_hold(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        denoise_variant(STANDARD, keys)


def test_every_mistake_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        denoise_variant(STANDARD, {"pvalue": 2, "iterations": 9})
    assert len(str(caught.value).splitlines()) == 2
