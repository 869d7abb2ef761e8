"""Wyoming's frames: read as they come, and nothing that a header claims is believed."""

import json

import pytest

from device_apps.voice_assistant.wyoming import (
    MAX_DATA,
    MAX_HEADER,
    MAX_PAYLOAD,
    Frame,
    FrameParser,
    audio_format,
    text_of,
)
from edge.errors import BadData

FRAMES = [
    Frame("describe"),
    Frame("audio-chunk", {"rate": 16000, "width": 2, "channels": 1}, bytes(range(256)) * 3),
    Frame("transcript", {"text": "Grüße\n"}),
]


@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_frames_are_read_as_they_were_written(piece: int) -> None:
    content = b"".join(frame.encoded() for frame in FRAMES)
    parser, found = FrameParser(), []
    for at in range(0, len(content), piece):
        found += parser.feed(content[at : at + piece])
    assert [(one.kind, dict(one.data), one.payload) for one in found] == [
        (one.kind, dict(one.data), one.payload) for one in FRAMES
    ]
    assert parser.is_between


def test_data_in_the_header_and_behind_it_are_one() -> None:
    more = b'{"b": 2}'
    header = {"type": "x", "data": {"a": 1}, "data_length": len(more)}
    (frame,) = FrameParser().feed(json.dumps(header).encode() + b"\n" + more)
    assert frame.data == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"x" * (MAX_HEADER + 1), "header has more than"),
        (b"hello\n", "no JSON"),
        (b"[1]\n", "no JSON object"),
        (b"[" * 10_000 + b"\n", "no JSON"),
        (b"{}\n", "no type"),
        (b'{"type": 3}\n', "no type"),
        (b'{"type": "x", "data": 3}\n', "no object"),
        (json.dumps({"type": "x", "payload_length": 999_999_999_999}).encode() + b"\n", "payload_length of 9999"),
        (json.dumps({"type": "x", "payload_length": MAX_PAYLOAD + 1}).encode() + b"\n", "payload_length"),
        (json.dumps({"type": "x", "data_length": MAX_DATA + 1}).encode() + b"\n", "data_length"),
        (b'{"type": "x", "payload_length": -1}\n', "payload_length"),
        (b'{"type": "x", "payload_length": true}\n', "payload_length"),
        (b'{"type": "x", "payload_length": 1e99}\n', "payload_length"),
        (b'{"type": "x", "data_length": 4}\nnope', "no JSON"),
        (b'\xff\xfe{"type": "x"}\n', "no JSON"),
    ],
)
def test_a_damaged_frame_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(BadData, match=reason):
        FrameParser().feed(content)


def test_a_body_that_never_comes_keeps_nothing_but_what_came() -> None:
    parser = FrameParser()
    assert parser.feed(b'{"type": "audio-chunk", "payload_length": 1000000}\n' + bytes(10)) == []
    assert not parser.is_between
    assert len(parser._bytes) == 10


def test_the_form_of_sound_and_texts_are_checked() -> None:
    assert audio_format(FRAMES[1]).rate_hz == 16000
    for data in ({}, {"rate": "16000", "width": 2, "channels": 1}, {"rate": True, "width": 2, "channels": 1}):
        with pytest.raises(BadData, match="no rate, width and channels"):
            audio_format(Frame("audio-start", data))
    with pytest.raises(BadData, match="1 Hz"):
        audio_format(Frame("audio-start", {"rate": 1, "width": 2, "channels": 1}))
    for text in (None, 3, "x" * 1001):
        with pytest.raises(BadData, match="no text"):
            text_of(Frame("recognize", {"text": text}), "text")
