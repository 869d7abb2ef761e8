"""Libraries that report each of their steps, kept off the user's terminal."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what Python libraries print, log or warn; failures come as exceptions all the same.

    What native code writes to the standard error is left alone: where a crash is to be expected the process has a
    log of its own, and its last line says what happened.
    """
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
