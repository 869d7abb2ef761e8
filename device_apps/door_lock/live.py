"""What the page shows of a running lock: its events, its newest picture with what was seen, and the last decision."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import cv2

from device_apps.events import Event
from device_apps.web.server_sent import server_sent

if TYPE_CHECKING:
    from device_apps.door_lock.camera import Camera
    from device_apps.door_lock.detect import Picture

KEPT = 100
FRAME_S = 0.1
JPEG_QUALITY = 75
BOUNDARY = "frame"
COLOURS = {"accept": (80, 200, 80), "refuse": (60, 60, 230), "wait": (40, 190, 240)}


class Live:
    """A listener that remembers the newest events, for whoever watches, and the picture of the last decision.

    `counted` is that of which part of a face counted in it, JPEG, made after the lock has acted.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._events: deque[tuple[int, Event]] = deque(maxlen=KEPT)
        self._number = 0
        self._frame: Event | None = None
        self._decided: tuple[Event, Picture] | None = None
        self.camera: Camera | None = None
        self.counted: bytes | None = None
        self.stopping = threading.Event()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        camera = self.camera
        picture = None
        if camera is not None and event.kind == "frame" and event.fields["outcome"] != "wait":
            newest = camera.newer_than(0, 0.0)
            picture = None if newest is None else newest.picture
        with self._condition:
            self._number += 1
            self._events.append((self._number, event))
            if event.kind == "frame":
                self._frame = event
            if picture is not None:
                self._decided = (event, picture)
            self._condition.notify_all()

    def newer_than(self, number: int, timeout_s: float) -> list[tuple[int, Event]]:
        """The events after `number`, once there are some; none where none come in time."""
        with self._condition:
            self._condition.wait_for(lambda: self._number > number, timeout_s)
            return [(own, event) for own, event in self._events if own > number]

    def last_decision(self) -> tuple[Event, bytes] | None:
        """The last frame that was accepted or refused, and its picture as JPEG."""
        with self._condition:
            decided = self._decided
        return None if decided is None else (decided[0], _jpeg(decided[1]))

    def pictures(self) -> Iterator[bytes]:
        """The parts of an MJPEG stream (multipart/x-mixed-replace): annotated, at most 10 a second."""
        number = 0
        while not self.stopping.is_set():
            camera = self.camera
            newest = None if camera is None else camera.newer_than(number, 0.5)
            if newest is None:
                self.stopping.wait(FRAME_S)
                continue
            number = newest.number
            jpeg = _jpeg(annotated(newest.picture, self._frame))
            yield f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
            yield jpeg + b"\r\n"
            self.stopping.wait(FRAME_S)

    def lines(self) -> Iterator[str]:
        """The events as server-sent events, first those that are remembered."""
        return server_sent(self.newer_than, self.stopping)


def annotated(picture: "Picture", frame: Event | None) -> "Picture":
    """A copy of a picture [H, W, 3] with the boxes of the faces and what they came to."""
    shown = picture.copy()
    if frame is None:
        return shown
    fields: dict[str, Any] = dict(frame.fields)
    colour = COLOURS[fields["outcome"]]
    for x, y, width, height in fields["faces"]:
        cv2.rectangle(shown, (int(x), int(y)), (int(x + width), int(y + height)), colour, 2)
    texts = [f"{name} {fields[name]:.2f}" for name in ("live", "similarity") if name in fields]
    text = "  ".join([fields["outcome"], *texts])
    cv2.putText(shown, text, (8, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(shown, text, (8, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, 1, cv2.LINE_AA)
    return shown


def _jpeg(picture: "Picture") -> bytes:
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])
