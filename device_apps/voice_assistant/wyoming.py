"""Wyoming's frames (github.com/OHF-Voice/wyoming), read so that no header can ask for memory or hold a connection.

A frame is a line of JSON {"type", "data", "data_length", "payload_length"}, then `data_length` bytes of JSON that are
added to `data`, then `payload_length` bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from device_apps.voice_assistant.sound import Format
from edge.errors import BadData

VERSION = "1.10.2"  # of the protocol's package that the tests talk to
MAX_HEADER, MAX_DATA, MAX_PAYLOAD = 16 << 10, 64 << 10, 1 << 20


@dataclass(frozen=True)
class Frame:
    """One event: its type, its data, its bytes."""

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)
    payload: bytes = b""

    def encoded(self) -> bytes:
        """What goes over the wire."""
        header: dict[str, Any] = {"type": self.kind, "version": VERSION}
        data = json.dumps(dict(self.data), ensure_ascii=False).encode() if self.data else b""
        if data:
            header["data_length"] = len(data)
        if self.payload:
            header["payload_length"] = len(self.payload)
        return json.dumps(header).encode() + b"\n" + data + self.payload


@dataclass(frozen=True)
class _Header:
    kind: str
    data: dict[str, Any]
    data_length: int
    payload_length: int


class FrameParser:
    """Bytes in pieces of any length to frames. After an error the stream is not to be trusted: close it."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._header: _Header | None = None

    @property
    def is_between(self) -> bool:
        """Whether no frame has begun."""
        return self._header is None and not self._bytes

    def feed(self, content: bytes) -> list[Frame]:
        """The frames that the next bytes complete.

        Raises:
            BadData: a header that is too long or no JSON, or that claims more than is read.

        """
        self._bytes += content
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        if self._header is None:
            end = self._bytes.find(b"\n", 0, MAX_HEADER)
            if end < 0:
                if len(self._bytes) >= MAX_HEADER:
                    raise BadData(f"a frame's header has more than {MAX_HEADER} bytes")
                return None
            self._header = _header(bytes(self._bytes[:end]))
            del self._bytes[: end + 1]
        header = self._header
        length = header.data_length + header.payload_length
        if len(self._bytes) < length:
            return None
        more = _decoded(bytes(self._bytes[: header.data_length])) if header.data_length else {}
        payload = bytes(self._bytes[header.data_length : length])
        del self._bytes[:length]
        self._header = None
        return Frame(header.kind, {**header.data, **more}, payload)


def audio_format(frame: Frame) -> Format:
    """The form of the sound in an audio-start or audio-chunk. Raises BadData: it is missing, or cannot be used."""
    values = [frame.data.get(key) for key in ("rate", "width", "channels")]
    if not all(type(value) is int for value in values):
        raise BadData(f"{frame.kind} has no rate, width and channels")
    return Format(*values)  # type: ignore[arg-type]  # all are int, as checked


def text_of(frame: Frame, key: str, limit: int = 1000) -> str:
    """A text in a frame's data. Raises BadData: it is missing, too long, or no text."""
    value = frame.data.get(key)
    if not isinstance(value, str) or len(value) > limit:
        raise BadData(f"{frame.kind} has no {key} of at most {limit} characters")
    return value


def _header(line: bytes) -> _Header:
    found = _decoded(line)
    kind, data = found.get("type"), found.get("data")
    if not isinstance(kind, str) or not 0 < len(kind) <= 64:
        raise BadData("a frame has no type")
    if not isinstance(data, dict | None):
        raise BadData("a frame's data is no object")
    lengths = []
    for key, limit in (("data_length", MAX_DATA), ("payload_length", MAX_PAYLOAD)):
        length = found.get(key)
        length = 0 if length is None else length
        if type(length) is not int or not 0 <= length <= limit:
            raise BadData(f"a frame claims a {key} of {str(length)[:20]}: at most {limit} are read")
        lengths.append(length)
    return _Header(kind, data or {}, *lengths)


def _decoded(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise BadData("a frame is no JSON") from None
    if not isinstance(found, dict):
        raise BadData("a frame is no JSON object")
    return found
