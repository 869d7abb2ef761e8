"""The end of a process that may have threads left in somebody else's code."""

import os
import sys
import threading
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End with a code. A thread that is still in a runtime's or a camera library's C++ when Python ends would abort the
    process (it was seen on a busy machine), so Python's own end is left out where there is one; all that an app has to
    do at its end is done by then.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if len(threading.enumerate()) > 1:
        os._exit(code)
    sys.exit(code)
