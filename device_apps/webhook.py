"""Events to somebody's own address, signed: an HTTP POST of JSON.

`X-Edgetool-Signature` is `sha256=` and the HMAC-SHA-256 (RFC 2104), in hex, of `X-Edgetool-Timestamp` (seconds since
1970), a dot and the body; who receives it checks both, and that the timestamp is fresh.
"""

import hashlib
import hmac
import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from device_apps.events import Event

TIMEOUT_S = 3.0
WAITS_S = (0.5, 2.0)  # before the second and the third try


@dataclass(frozen=True)
class WebhookRules:
    """Where events go; anything but https is for one's own network, since bodies name people's ids."""

    url: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.fragment:
            raise ValueError("url is http://… or https://…, without a user")
        parts.port  # noqa: B018  # which raises a ValueError where it is none


def signature(key: bytes, timestamp: str, body: bytes) -> str:
    """What `X-Edgetool-Signature` has to be."""
    return "sha256=" + hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Webhook:
    """A listener that posts the events that `wanted` says; run it in `events.Background`.

    An event is tried three times and then left out: `lost` counts these and `last_error` says why. A redirect is not
    followed, and an answer 4xx is not tried again.
    """

    def __init__(
        self, rules: WebhookRules, key: bytes, wanted: Callable[[Event], bool], waits_s: tuple[float, ...] = WAITS_S
    ) -> None:
        self._url, self._key, self._wanted, self._waits_s = urlsplit(rules.url), key, wanted, waits_s
        self._stopping = threading.Event()
        self.sent = self.lost = 0
        self.last_error: str | None = None

    def __call__(self, event: Event) -> None:
        """Post one event, where it is wanted."""
        if not self._wanted(event):
            return
        for wait_s in (*self._waits_s, None):
            again = self._post(event)
            if not again or wait_s is None or self._stopping.wait(wait_s):
                break
        if self.last_error is None:
            self.sent += 1
        else:
            self.lost += 1

    def stop(self) -> None:
        """Try nothing again from now on."""
        self._stopping.set()

    def _post(self, event: Event) -> bool:
        """Whether to try again."""
        body, timestamp = event.as_json().encode(), f"{event.at:.3f}"
        headers = {
            "Content-Type": "application/json",
            "X-Edgetool-Timestamp": timestamp,
            "X-Edgetool-Signature": signature(self._key, timestamp, body),
        }
        secure = self._url.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._url.hostname or "", self._url.port, timeout=TIMEOUT_S)
        path = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        try:
            connection.request("POST", path, body, headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            self.last_error = f"{type(error).__name__}: {error}"
            return True
        finally:
            connection.close()
        self.last_error = None if 200 <= status < 300 else f"the answer was {status}"
        return status >= 500
