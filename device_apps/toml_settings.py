"""A TOML file to frozen dataclasses: every key and type is checked, an unknown key names the nearest."""

import dataclasses
import math
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from edge.errors import BadRecipe, UnknownName

T = TypeVar("T")
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def read_settings(kind: type[T], path: Path) -> T:
    """The settings in a file; `kind` is a dataclass of plain values, optional values, further dataclasses, and tables
    (`dict[str, …]`) of them by any name.

    Raises:
        BadRecipe: the file is missing or no TOML, a key is missing, or a value is of another type or refused.
        UnknownName: a key that `kind` does not have.

    """
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRecipe(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadRecipe(f"{path} is no TOML: {error}") from error
    except RecursionError:
        raise BadRecipe(f"{path} is nested too deeply") from None
    return settings_from(kind, data, path.name)


def settings_from(kind: type[T], data: dict[str, Any], where: str) -> T:
    """As `read_settings`, of decoded data; `where` is the file or the table that errors name."""
    hints = typing.get_type_hints(kind)
    for key in data:
        if key not in hints:
            raise UnknownName(f"key in {where}", key, hints)
    values = {key: _value(hints[key], value, f"{where}: {key}") for key, value in data.items()}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # every kind is a dataclass
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in values:
            raise BadRecipe(f"{where} lacks {field.name}")
    try:
        return kind(**values)
    except ValueError as error:
        raise BadRecipe(f"{where}: {error}") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        hint = next(one for one in typing.get_args(hint) if one is not type(None))
    if typing.get_origin(hint) is dict or dataclasses.is_dataclass(hint):
        return _table(hint, value, where)
    if typing.get_origin(hint) is typing.Literal:
        if value not in typing.get_args(hint):
            raise UnknownName(where, str(value), map(str, typing.get_args(hint)))
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise BadRecipe(f"{where} is {value!r}", f"{KINDS[hint]} is expected")
    if isinstance(value, float) and not math.isfinite(value):
        raise BadRecipe(f"{where} is {value}", "a finite number is expected")
    return value


def _table(hint: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise BadRecipe(f"{where} is {value!r}", "a table is expected")
    if dataclasses.is_dataclass(hint):
        return settings_from(typing.cast("type[Any]", hint), value, where)
    inner = typing.get_args(hint)[1]
    return {key: _value(inner, one, f"{where}.{key}") for key, one in value.items()}
