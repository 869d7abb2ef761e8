"""Quantities as people write them."""

import pytest

from edge.errors import BadRecipe
from edgetool.units import format_bytes, parse_bytes, parse_drop, parse_milliseconds


def test_units() -> None:
    assert parse_bytes("300kB") == 300_000
    assert parse_bytes("1.5 MiB") == 1_572_864
    assert parse_milliseconds("20ms") == 20
    assert parse_milliseconds("1.5s") == 1500
    assert parse_drop("1pp") == (1.0, "points")
    assert parse_drop("2 %") == (0.02, "relative")
    assert parse_drop("0.5dB") == (0.5, "dB")


@pytest.mark.parametrize("text", ["", "kB", "3 parsecs", "-1kB", "1,5MB"])
def test_what_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(BadRecipe, match="max_size") as caught:
        parse_bytes(text, "max_size")
    assert "300kB" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["0.01", "1", "1p"])
def test_a_drop_needs_its_unit(text: str) -> None:
    with pytest.raises(BadRecipe, match="max_drop"):
        parse_drop(text)


def test_bytes_are_written_short() -> None:
    assert [format_bytes(n) for n in (12, 12_345, 3_000_000)] == ["12 B", "12.3 kB", "3.0 MB"]
