"""Numbers as people write them."""

from __future__ import annotations

import pytest

from denoise5d.quantities import grey_level


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (-394.46, "-394.5"), (9999.6, "10000"), (37304.2, "37304"), (-51721.8, "-51722"),
     (1.23456e-5, "1.235e-05"), (2.5e9, "2.5e+09")],
)  # fmt: skip
def test_grey_levels_have_no_exponent_where_it_can_be_done_without(
    value: float, written: str
) -> None:
    assert grey_level(value) == written
