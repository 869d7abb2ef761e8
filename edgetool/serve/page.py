"""The page at /: one file without external assets, under a policy that lets it talk to this server alone."""

import secrets
from functools import lru_cache
from pathlib import Path

NONCE = "NONCE"


def page() -> tuple[str, str]:
    """A fresh nonce, and the page whose script and style carry it."""
    nonce = secrets.token_urlsafe(16)
    return nonce, _template().replace(NONCE, nonce)


def page_headers(nonce: str) -> dict[str, str]:
    """What the browser may load and where it may send: nothing from elsewhere, nothing to elsewhere."""
    rules = (
        "default-src 'none'",
        f"script-src 'nonce-{nonce}'",
        f"style-src 'nonce-{nonce}'",
        "connect-src 'self'",
        "img-src blob: data:",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
    return {"content-security-policy": "; ".join(rules), "referrer-policy": "no-referrer"}


@lru_cache(maxsize=1)
def _template() -> str:
    return Path(__file__).with_name("page.html").read_text(encoding="utf-8")
