"""The token that every request carries: how it is made, kept and compared."""

import base64
import binascii
import hmac
import os
import re
import secrets
import stat
from pathlib import Path

from edge.errors import BadInput, BadRecipe, EnvironmentFailed

# What a header and a shell carry unquoted; 16 characters of it are 96 bits where they are random
_PLAIN = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")


def new_token() -> str:
    """192 random bits as text."""
    return secrets.token_urlsafe(24)


def checked_token(token: str, where: str) -> str:
    """`token` itself. Raises BadRecipe: it is too short to be secret, or no header carries it."""
    if not _PLAIN.fullmatch(token):
        raise BadRecipe(f"{where} is no token", "16 to 512 letters, digits and . _ ~ + / = -")
    return token


def token_from_file(path: Path) -> tuple[str, bool]:
    """The token in a file and whether it was made now: a file that does not exist is made, readable by its owner only.

    Raises:
        BadInput: the file cannot be read, or others can read it.
        BadRecipe: what it holds is no token.
        EnvironmentFailed: it cannot be made.

    """
    if not path.exists():
        token = new_token()
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(token + "\n")
        except OSError as error:
            raise EnvironmentFailed(f"cannot write {path}: {error.strerror}", "choose another place") from error
        return token, True
    try:
        mode = path.stat().st_mode
        content = path.read_text(errors="replace")
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadInput(f"{path} can be read by others (mode {stat.S_IMODE(mode):o})", f"chmod 600 {path}")
    return checked_token(content.strip(), f"the content of {path}"), False


def is_right(authorization: bytes | None, token: str) -> bool:
    """Whether an Authorization header carries the token: `Bearer TOKEN`, or as the password of Basic (a browser)."""
    scheme, _, rest = (authorization or b"").partition(b" ")
    presented = rest.strip()
    if scheme.lower() == b"basic":
        try:
            presented = base64.b64decode(presented, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
    elif scheme.lower() != b"bearer":
        return False
    return hmac.compare_digest(presented, token.encode())  # takes as long for a near miss as for a far one
