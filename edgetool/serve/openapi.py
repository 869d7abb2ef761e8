"""The OpenAPI document: one path for each served model, with the exact form of what it takes and gives."""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from edge import __version__
from edge.audio import AudioInput
from edge.image import ImageInput
from edge.preprocess import Preprocess
from edge.report import Placement
from edge.table import TableInput
from edge.tensors import TensorSpec
from edgetool.serve.model import ServedModel
from edgetool.serve.payload import JSON, media_types, raw_dtype, raw_limits
from edgetool.serve.refusal import STATUS
from edgetool.serve.settings import Settings
from edgetool.units import format_bytes

MAX_TOP = 1000
DEFAULT_TOP = 5
_PREDICT_REFUSALS = (
    "malformed", "no_token", "foreign_host", "slow_body", "too_large", "media_type", "misfit", "queue_full", "timeout",
)  # fmt: skip
_BINARY = {"type": "string", "format": "binary", "minLength": 1}


def document(models: Sequence[ServedModel], settings: Settings, *, token: bool) -> dict[str, Any]:
    """The document for these models. `token` says whether one is asked for."""
    guarded = ("no_token", "foreign_host")
    paths: dict[str, Any] = {
        "/": {"get": _operation("page", "A page to try the models.", {"text/html": {"type": "string"}}, guarded)},
        "/health": {"get": _operation("health", "The process lives.", {JSON: _ref("Health")}, (), is_open=True)},
        "/ready": {
            "get": _operation("ready", "Every model is up.", {JSON: _ref("Health")}, ("unavailable",), is_open=True)
        },
        "/metrics": {
            "get": _operation(
                "metrics", "Calls, errors and latencies, for Prometheus.", {"text/plain": {"type": "string"}}, guarded
            )
        },
        "/openapi.json": {"get": _operation("openapi", "This document.", {JSON: {"type": "object"}}, guarded)},
        "/v1/models": {"get": _operation("models", "What is served.", {JSON: _ref("Models")}, guarded)},
    }
    paths |= {path_of(model.name): {"post": _predict(model, settings)} for model in models}
    content: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "edgetool serve", "version": __version__, "description": (__doc__ or "").strip()},
        "paths": paths,
        "components": {"schemas": _SCHEMAS},
    }
    if token:
        content["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "basic": {"type": "http", "scheme": "basic", "description": "Any name; the token is the password."},
        }
        content["security"] = [{"bearer": []}, {"basic": []}]
    return content


def path_of(name: str) -> str:
    """Where a model is asked."""
    return f"/v1/models/{quote(name)}/predict"


def _predict(model: ServedModel, settings: Settings) -> dict[str, Any]:
    manifest, steps = model.bundle.manifest, model.bundle.preprocess
    inputs = {spec.name: raw_schema(steps[spec.name], spec) for spec in manifest.inputs}
    body = {
        "type": "object",
        "properties": {"inputs": _closed(inputs)},
        "required": ["inputs"],
        "additionalProperties": False,
    }
    content = {kind: {"schema": body if kind == JSON else _BINARY} for kind in media_types(steps)}
    operation = _operation(
        f"predict_{model.name}",
        f"What {model.name} says to one raw example, of at most {format_bytes(settings.max_body_bytes)}.",
        {JSON: _answer(model)},
        _PREDICT_REFUSALS,
    )
    operation["parameters"] = [
        {
            "name": "top",
            "in": "query",
            "description": "How many of the best classes are named.",
            "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TOP, "default": DEFAULT_TOP},
        }
    ]
    operation["requestBody"] = {"required": True, "content": content}
    return operation


def raw_schema(step: Preprocess, spec: TensorSpec) -> dict[str, Any]:
    """The JSON of one raw example of an input, which `step` takes.

    What no JSON Schema says: all rows of an array have one length.
    """
    number = _number(step)
    if isinstance(step, ImageInput):
        colour = {"type": "array", "items": number, "minItems": 3, "maxItems": 4}
        return {
            "description": "Pixels as rows of one length, grey [H][W], or RGB or RGBA [H][W][3 or 4]; any size.",
            "anyOf": [_rows(_rows(number)), _rows(_rows(colour))],
        }
    if isinstance(step, AudioInput):
        does = f"Samples at {step.sample_rate_hz} Hz, mono; the first {step.samples} of them are used."
        return {"description": does, **_rows(number)}
    if isinstance(step, TableInput):
        columns = len(step.columns)
        does = f"One row: {', '.join(step.columns)}."
        return {"description": does, "type": "array", "items": number, "minItems": columns, "maxItems": columns}
    schema: dict[str, Any] = number
    for length in reversed(spec.example_shape):
        schema = _rows(schema) if length is None else {**_rows(schema), "minItems": length, "maxItems": length}
    return schema


def _number(step: Preprocess) -> dict[str, Any]:
    kind = raw_dtype(step).kind
    if kind == "b":
        return {"type": "boolean"}
    least, most = raw_limits(step)
    return {"type": "number" if kind == "f" else "integer", "minimum": least, "maximum": most}


def _rows(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


def _answer(model: ServedModel) -> dict[str, Any]:
    manifest = model.bundle.manifest
    entry = {
        "type": "object",
        "properties": {
            "label": {"type": "string", **({"enum": list(manifest.labels)} if manifest.labels else {})},
            "index": {"type": "integer", "minimum": 0},
            "probability": _NULLABLE,
            "score": _NULLABLE,
        },
        "required": ["label", "index"],
        "additionalProperties": False,
    }
    milliseconds = {name: {"type": "number", "minimum": 0} for name in ("queue", "prepare", "inference")}
    return _closed(
        {
            "model": {"const": model.name},
            "top": {"type": "array", "items": entry, "description": "The best classes, best first."},
            "outputs": _closed({spec.name: {} for spec in manifest.outputs}),
            "milliseconds": _closed(milliseconds),
        }
    )


def _operation(
    name: str, does: str, content: Mapping[str, Any], refusals: Sequence[str], *, is_open: bool = False
) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {"description": does, "content": {kind: {"schema": schema} for kind, schema in content.items()}}
    }
    for kind in refusals:
        status = str(STATUS[kind])
        said = f"{responses[status]['description']}, {kind}" if status in responses else kind
        responses[status] = {"description": said, "content": {JSON: {"schema": _ref("Refusal")}}}
    return {"operationId": name, "summary": does, "responses": responses, **({"security": []} if is_open else {})}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _of(kind: Any) -> dict[str, Any]:
    """The JSON of a type that `dataclasses.asdict` makes plain."""
    if dataclasses.is_dataclass(kind):
        return _closed({name: _of(hint) for name, hint in typing.get_type_hints(kind).items()})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return {"type": "array", "items": _of(arguments[0])}
    if type(None) in arguments:
        return {"anyOf": [_of(one) for one in arguments if one is not type(None)] + [{"type": "null"}]}
    plain = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object"}
    return {"type": plain[origin or kind]}


def _closed(properties: Mapping[str, Any], optional: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


_TEXT, _TEXTS = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
_NULLABLE = {"type": ["number", "null"], "description": "null where the model answered NaN or infinity"}
_TENSOR = _closed(
    {
        "name": _TEXT,
        "shape": {"type": "array", "items": {"type": ["integer", "null"]}},
        "dtype": _TEXT,
        "preprocess": {"type": "object", "description": "What the server does to a raw example."},
    },
    optional=("preprocess",),
)
_MODEL = _closed(
    {
        "name": _TEXT,
        "task": _TEXT,
        "target": _TEXT,
        "sha256": {"type": "string", "description": "of the whole bundle"},
        "path": _TEXT,
        "takes": _TEXTS,
        "labels": _TEXTS,
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {"type": "array", "items": _TENSOR},
        "engine": _TEXT,
        "delegate": _TEXT,
        "threads": {"type": "integer"},
        "workers": {"type": "integer"},
        "ready_workers": {"type": "integer"},
        "placement": _of(Placement),
        "recent_ms": {"type": "array", "items": {"type": "number"}, "description": "the latest answers, newest last"},
    }
)
_SCHEMAS: dict[str, Any] = {
    "Health": _closed({"status": {"const": "ok"}}),
    "Refusal": _closed(
        {"error": _closed({"kind": {"enum": sorted(STATUS)}, "message": _TEXT, "hint": {"type": ["string", "null"]}})}
    ),
    "Models": _closed({"models": {"type": "array", "items": _MODEL}}),
}
