"""What a delegate can be told: one frozen dataclass each, read from `KEY=VALUE` texts."""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.errors import BadRecipe, UnknownName


@dataclass(frozen=True)
class NoSettings:
    """A delegate without settings."""


def parse_settings(kind: type[Any], texts: Mapping[str, str], delegate: str) -> Any:
    """`{"fp16": "true", …}` to the settings of a delegate; whole numbers, true and false, texts.

    Raises:
        UnknownName: a setting that `kind` does not have; the hint names the nearest.
        BadRecipe: a value of another type, or one that the settings refuse.

    """
    hints = typing.get_type_hints(kind)
    for key in texts:
        if key not in hints:
            raise UnknownName(f"setting of {delegate}", key, hints)
    values = {key: _value(hints[key], text, f"{delegate} setting {key}") for key, text in texts.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise BadRecipe(f"{delegate}: {error}") from None


def to_texts(settings: Any) -> dict[str, str]:
    """The settings that differ from their defaults, as `parse_settings` reads them."""
    changed = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value != field.default:
            changed[field.name] = str(value).lower() if isinstance(value, bool) else str(value)
    return changed


def _value(kind: Any, text: str, what: str) -> Any:
    kinds = typing.get_args(kind) or (kind,)
    if bool in kinds:
        if text.lower() not in ("true", "false"):
            raise BadRecipe(f"{what} is {text!r}", "true or false")
        return text.lower() == "true"
    if int in kinds:
        try:
            return int(text)
        except ValueError:
            raise BadRecipe(f"{what} is {text!r}", "a whole number") from None
    return text
