"""Frames over any pair of byte streams: a JSON header and raw arrays behind a length prefix. No pickle.

One frame is `b"EDF1"`, the header's length (4 bytes), the arrays' length (8 bytes, both little-endian),
the header as UTF-8 JSON, and the arrays' bytes one after the other, little-endian in C order:

    {"message": {…}, "arrays": [{"name": "image", "dtype": "float32", "shape": [2, 8, 8, 1]}, …]}
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from edge.errors import BadData, EnvironmentFailed
from edge.tensors import Array

MAGIC = b"EDF1"
PREFIX = struct.Struct("<4sIQ")
MAX_HEADER_BYTES = 1 << 20
MAX_ARRAYS_BYTES = 1 << 30
DTYPES = frozenset(
    ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"],
)


class Reader(Protocol):
    """A binary stream that is read; `read` gives fewer bytes than asked for, or none, at its end."""

    def read(self, size: int, /) -> bytes | None: ...


class Writer(Protocol):
    """A binary stream that is written to."""

    def write(self, data: Any, /) -> Any: ...

    def flush(self) -> None: ...


@dataclass(frozen=True)
class Frame:
    """One message: plain JSON data, and arrays by name."""

    message: dict[str, Any]
    arrays: dict[str, Array] = field(default_factory=dict)


def write(stream: Writer, frame: Frame) -> None:
    """Write one frame and flush.

    Raises:
        BadData: an array of an unknown dtype, or more bytes than one frame may have.

    """
    arrays = {name: _little_endian(name, array) for name, array in frame.arrays.items()}
    described = [{"name": n, "dtype": a.dtype.name, "shape": a.shape} for n, a in arrays.items()]
    header = json.dumps({"message": frame.message, "arrays": described}).encode()
    size = sum(array.nbytes for array in arrays.values())
    if len(header) > MAX_HEADER_BYTES or size > MAX_ARRAYS_BYTES:
        raise BadData(
            f"a frame of {len(header)} + {size} bytes is above the limit of {MAX_HEADER_BYTES} + {MAX_ARRAYS_BYTES}",
            "send fewer examples at once",
        )
    stream.write(PREFIX.pack(MAGIC, len(header), size) + header)
    for array in arrays.values():
        stream.write(array.tobytes())
    stream.flush()


def read(stream: Reader) -> Frame | None:
    """Read one frame; None where the stream ends between two frames. The arrays are writable and owned.

    Raises:
        EnvironmentFailed: the stream ends inside a frame, or holds something that is no frame.

    """
    prefix = _exactly(stream, PREFIX.size, "its prefix", may_end=True)
    if not prefix:
        return None
    magic, header_bytes, arrays_bytes = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise EnvironmentFailed(f"no frame: it begins with {bytes(prefix)!r} instead of {MAGIC!r}")
    if header_bytes > MAX_HEADER_BYTES or arrays_bytes > MAX_ARRAYS_BYTES:
        raise EnvironmentFailed(
            f"a frame announces {header_bytes} + {arrays_bytes} bytes, "
            f"above the limit of {MAX_HEADER_BYTES} + {MAX_ARRAYS_BYTES}"
        )
    message, described = _header(bytes(_exactly(stream, header_bytes, "its header")))
    if sum(size for *_, size in described) != arrays_bytes:
        raise EnvironmentFailed(f"damaged frame: its arrays have other sizes than the {arrays_bytes} bytes announced")
    arrays = {}
    for name, dtype, shape, size in described:
        data = _exactly(stream, size, f"array {name!r}")
        arrays[name] = np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
    return Frame(message, arrays)


def _little_endian(name: str, array: Array) -> Array:
    if array.dtype.name not in DTYPES:
        raise BadData(f"array {name!r} has dtype {array.dtype}, which no frame carries", f"use {sorted(DTYPES)}")
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _header(data: bytes) -> tuple[dict[str, Any], tuple[tuple[str, np.dtype[Any], tuple[int, ...], int], ...]]:
    try:
        header = json.loads(data)
        message = dict(header["message"])
        return message, tuple(_described(header["arrays"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EnvironmentFailed(f"damaged frame: its header cannot be read ({error})") from None


def _described(entries: list[Mapping[str, Any]]) -> Iterator[tuple[str, np.dtype[Any], tuple[int, ...], int]]:
    for entry in entries:
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"unknown dtype {entry['dtype']!r}")
        shape = tuple(int(length) for length in entry["shape"])
        if any(length < 0 for length in shape):
            raise ValueError(f"negative length in shape {shape}")
        dtype = np.dtype(entry["dtype"]).newbyteorder("<")
        yield str(entry["name"]), dtype, shape, math.prod(shape) * dtype.itemsize


def _exactly(stream: Reader, size: int, what: str, *, may_end: bool = False) -> bytearray:
    """`size` bytes, however few each read gives. Memory grows with what arrives, not with what is announced."""
    data = bytearray()
    while len(data) < size:
        piece = stream.read(min(size - len(data), 1 << 20))
        if not piece:
            if may_end and not data:
                return data
            raise EnvironmentFailed(f"truncated frame: {what} ended after {len(data)} of {size} bytes")
        data += piece
    return data
