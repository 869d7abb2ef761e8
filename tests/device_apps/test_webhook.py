"""The webhook on a real server: what it sends is signed, tried again, and given up."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from device_apps.events import Event
from device_apps.webhook import Webhook, WebhookRules, signature

KEY = bytes(32)
EVENT = Event("unlock", 1_700_000_000.5, {"person": "ann"})


class Receiver:
    """Answers with one status after the other; keeps what it was sent."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # http.server's name
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers), body))
                self.send_response(receiver.answers.pop(0))
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def rules(self) -> WebhookRules:
        return WebhookRules(f"http://127.0.0.1:{self.server.server_port}/hook?door=1")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_an_event_arrives_signed(receiver: Receiver) -> None:
    receiver.answers = [204]
    hook = Webhook(receiver.rules, KEY, lambda _: True)
    hook(EVENT)
    ((headers, body),) = receiver.got
    assert json.loads(body)["person"] == "ann"
    assert headers["X-Edgetool-Signature"] == signature(KEY, headers["X-Edgetool-Timestamp"], body)
    assert headers["X-Edgetool-Signature"] != signature(KEY, headers["X-Edgetool-Timestamp"], body + b" ")
    assert (hook.sent, hook.lost) == (1, 0)


@pytest.mark.parametrize(
    ("answers", "tries", "sent"),
    [([500, 503, 200], 3, 1), ([500, 500, 500], 3, 0), ([403], 1, 0), ([302], 1, 0), ([200], 1, 1)],
)
def test_what_fails_is_tried_three_times_at_most(receiver: Receiver, answers: list[int], tries: int, sent: int) -> None:
    receiver.answers = answers
    hook = Webhook(receiver.rules, KEY, lambda _: True, (0.0, 0.0))
    hook(EVENT)
    assert (len(receiver.got), hook.sent, hook.lost) == (tries, sent, 1 - sent)


def test_nobody_there_is_a_loss_that_says_why_and_the_next_event_is_tried_again(receiver: Receiver) -> None:
    hook = Webhook(WebhookRules("http://127.0.0.1:9/"), KEY, lambda _: True, ())
    hook(EVENT)
    assert hook.lost == 1
    assert "refused" in str(hook.last_error)


def test_what_is_not_wanted_is_not_sent_and_a_stop_ends_the_waiting(receiver: Receiver) -> None:
    Webhook(receiver.rules, KEY, lambda event: event.kind == "fault")(EVENT)
    assert receiver.got == []
    receiver.answers = [500, 500]
    hook = Webhook(receiver.rules, KEY, lambda _: True, (60.0, 60.0))
    hook.stop()
    hook(EVENT)
    assert len(receiver.got) == 1


@pytest.mark.parametrize("url", ["", "ftp://host/", "http://", "http://user:word@host/", "http://host:x/", "host"])
def test_an_address_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"url is|[Pp]ort"):
        WebhookRules(url)
