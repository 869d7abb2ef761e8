"""The assistant's page: waveform, wake score, transcript, intent, milliseconds; mute; the last triggers to hear."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from device_apps.clock import Clock
from device_apps.voice_assistant.cases import Cases, wav
from device_apps.voice_assistant.live import Live
from device_apps.voice_assistant.meter import Meter
from device_apps.voice_assistant.metrics import Metrics
from device_apps.voice_assistant.state import State
from device_apps.web.login import Attempts, Password, Sessions
from device_apps.web.pages import behind_password
from edge.errors import BadInput, EdgetoolError

if TYPE_CHECKING:
    from fastapi import FastAPI


@dataclass
class Room:
    """What the pages act on. `cases` is None where the settings keep nothing; `refresh` tells the app of a change."""

    state: State
    clock: Clock
    live: Live
    metrics: Metrics
    meter: Meter
    cases: Cases | None
    refresh: Callable[[], None]

    def __post_init__(self) -> None:
        self.password: Password = self.state.password()
        self.sessions, self.attempts = Sessions(self.clock), Attempts(self.clock)

    def admits(self, password: str | None) -> str | None:
        """Why a password is not accepted; None where it is."""
        remaining = self.attempts.remaining_s()
        if remaining:
            return f"locked out after too many failures, {remaining:.0f} s left"
        try:
            right = password is not None and self.password.is_right(password)
        except EdgetoolError as error:
            return error.message
        self.attempts.ended(right)
        return None if right else "wrong password"

    def act(self, path: str, form: dict[str, str]) -> str:
        """Do what a form asks for, and say what was done. Raises an EdgetoolError: it could not be."""
        if path == "/mute":
            self.state.mute()
            self.refresh()
            return "the microphone is closed"
        if path == "/unmute":
            self.state.unmute()
            self.refresh()
            return "the microphone is open"
        number = form.get("number", "")
        replay = self.meter.replay(int(number)) if number.isdigit() and len(number) < 10 else None
        if replay is None:
            raise BadInput("that trigger is not in memory any more")
        self.meter.was_false(replay.number)
        if self.cases is None:
            return "counted as false; the settings keep no sound"
        event = {"word": replay.wake.word, "score": round(replay.wake.score, 4), "at": replay.at}
        self.cases.add(event, replay.samples, replay.at)
        return "counted as false, and kept for a person to label"

    def shown(self) -> dict[str, Any]:
        """What the page shows beside the events."""
        rows = [{"number": one.number, "word": one.wake.word, "score": f"{one.wake.score:.2f}", "at": one.at}
                for one in reversed(self.meter.replays())]  # fmt: skip
        cases = None if self.cases is None else len(self.cases.names())
        return {"triggers": rows, "meter": self.meter.reading.as_plain(), "muted": self.state.muted, "cases": cases}


def page_app(room: Room) -> "FastAPI":
    """The page of an assistant."""
    from fastapi import HTTPException
    from fastapi.responses import Response

    pages = behind_password(room, "voice_assistant", ("/mute", "/unmute", "/false"), sound=True)

    @pages.app.get("/", dependencies=pages.inside)
    def index(said: str = "") -> Response:
        return pages.rendered("voice_assistant.html", said=said[:300], **room.shown())

    @pages.app.get("/trigger/{number}.wav", dependencies=pages.inside)
    def trigger(number: int) -> Response:
        replay = room.meter.replay(number)
        if replay is None:
            raise HTTPException(404)
        return Response(wav(replay.samples), media_type="audio/wav", headers=pages.headers)

    return pages.app
