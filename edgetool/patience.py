"""Waiting for a server or a shared folder that went away, for ten minutes at most."""

import time
from collections.abc import Callable
from typing import TypeVar

from edge.errors import EnvironmentFailed

T = TypeVar("T")
WAIT_S = 2.0
PATIENCE_S = 600.0


def patiently(ask: Callable[[], T], what: str, is_away: Callable[[Exception], bool], said: Callable[[str], None]) -> T:
    """What `ask()` gives, asked again while its error says that `what` is away; `said` is told what is waited for.

    Raises EnvironmentFailed: it stayed away. Any other error of `ask` is raised as it is.
    """
    began = time.monotonic()
    while True:
        try:
            return ask()
        except Exception as error:
            if not is_away(error):
                raise
            if time.monotonic() - began > PATIENCE_S:
                raise EnvironmentFailed(
                    f"{what} was away for {PATIENCE_S:.0f} s: {first_line(error)}",
                    "finished work is kept; bring it back and go on with --resume",
                ) from error
            said(f"waiting for {what}: {first_line(error)}")
            time.sleep(WAIT_S)


def first_line(error: BaseException) -> str:
    """What an error says first, or what caused it where something did."""
    cause = error.__cause__ or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]
