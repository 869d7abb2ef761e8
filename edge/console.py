"""What the command lines of a device share: output that always prints, and expected errors as a line and a code."""

import io
import os
import sys
from collections.abc import Callable


def printable_streams() -> None:
    """A terminal that knows ASCII only loses a sign, not the answer."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def exit_code(command: Callable[[], object]) -> int:
    """Run a command: 0 done, an expected error's own code after its line and hint, 130 interrupted (design section 4).

    Whatever else it raises is a bug, and raised on.
    """
    from edge.errors import EdgetoolError

    try:
        command()
        sys.stdout.flush()
    except EdgetoolError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has seen enough; Python would complain again when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0
