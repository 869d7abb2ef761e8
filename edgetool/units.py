"""Quantities as people write them: 1pp, 300kB, 20ms, 64MB, 5m."""

import re

from edge.errors import BadRecipe

_NUMBER = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z%]*)\s*$")

# Decimal prefixes as on data sheets, and the binary ones by their own names (IEC 80000-13).
_BYTES = {"B": 1, "kB": 1000, "KB": 1000, "MB": 10**6, "GB": 10**9, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
# What a suffix makes of a drop: the unit it is in, and how many of it. `relative` is a fraction.
_DROP = {"pp": ("points", 1.0), "%": ("relative", 0.01), "dB": ("dB", 1.0)}


def _quantity(text: str, what: str, units: dict[str, float] | dict[str, int], example: str) -> float:
    match = _NUMBER.match(text)
    if match is None or match[2] not in units:
        known = ", ".join(unit for unit in units if unit)
        raise BadRecipe(f"{what}: cannot read {text!r}", f"write a number with a unit ({known}), for example {example}")
    return float(match[1]) * units[match[2]]


def parse_bytes(text: str, what: str = "size") -> int:
    """`300kB` -> 300000. Raises BadRecipe for anything else than a number with a unit of bytes."""
    return round(_quantity(text, what, _BYTES, "300kB"))


def parse_milliseconds(text: str, what: str = "time") -> float:
    """`20ms` -> 20.0, in milliseconds."""
    return _quantity(text, what, _MILLISECONDS, "20ms")


def parse_duration(text: str, what: str = "duration") -> float:
    """`5m` -> 300.0, in seconds."""
    return _quantity(text, what, _SECONDS, "5m")


def parse_drop(text: str, what: str = "max_drop") -> tuple[float, str]:
    """`1pp` -> (1.0, "points"), `2%` -> (0.02, "relative"), `0.5dB` -> (0.5, "dB")."""
    value = _quantity(text, what, dict.fromkeys(_DROP, 1.0), "1pp")
    unit, factor = _DROP[text.strip().lstrip("0123456789. ")]
    return value * factor, unit


def format_bytes(count: int) -> str:
    """12345 -> `12.3 kB`."""
    for unit, size in (("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
