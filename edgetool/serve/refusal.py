"""What a request can be refused for: one table of kinds with their HTTP status."""

from typing import Any

from edge.errors import BadInput, EdgetoolError, RuntimeMissing

# RFC 9110, section 15
STATUS = {
    "malformed": 400,  # no JSON, or not what the content type says
    "disconnected": 400,  # nobody is there to read it
    "no_token": 401,
    "foreign_host": 403,
    "not_found": 404,
    "unknown_model": 404,
    "method": 405,
    "slow_body": 408,
    "too_large": 413,
    "media_type": 415,
    "misfit": 422,  # well-formed, but not what the model takes
    "bug": 500,
    "queue_full": 503,
    "unavailable": 503,
    "crashed": 503,
    "timeout": 504,
}
# Bodies that were not read to their end: the connection cannot be used again
CLOSES = frozenset({"slow_body", "too_large"})


class Refusal(Exception):
    """A request that gets no answer: `kind` is a key of STATUS, `message` one line, `hint` what to do."""

    def __init__(self, kind: str, message: str, hint: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.kind, self.message, self.hint, self.retry_after_s = kind, message, hint, retry_after_s

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.kind]

    @property
    def headers(self) -> dict[str, str]:
        """What the response says beside its body."""
        headers = {"cache-control": "no-store"}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(self.retry_after_s)
        if self.kind in CLOSES:
            headers["connection"] = "close"
        if self.kind == "no_token":
            headers["www-authenticate"] = 'Basic realm="edgetool", charset="UTF-8", Bearer realm="edgetool"'
        return headers

    def plain(self) -> dict[str, Any]:
        """The body of the response."""
        return {"error": {"kind": self.kind, "message": self.message, "hint": self.hint}}


def refusal_of(error: EdgetoolError) -> Refusal:
    """What an expected error about a request's content means in HTTP."""
    if isinstance(error, RuntimeMissing):  # of a decoder: pictures other than .pgm and .ppm need OpenCV
        return Refusal("media_type", error.message, error.hint)
    if isinstance(error, BadInput):
        return Refusal("misfit", error.message, error.hint)
    return Refusal("unavailable", error.message, error.hint, retry_after_s=1)
