"""What native code writes to the standard streams while something is done: a runtime's only word on some failures."""

import contextlib
import ctypes
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

OWN_ERROR = Path("/proc/self/fd/2")
# ONNX Runtime's default sink: colour, date, [severity:category:id, file:line function] message
LINE = re.compile(
    r"^(?:\x1b\[[\d;]*m)?\d{4}-\d\d-\d\d \S+ \[([VIWEF]):onnxruntime:[^\]]*\] (.*?)(?:\x1b\[m)?$", re.MULTILINE
)


class NativeLog:
    """The lines that were written."""

    def __init__(self) -> None:
        self.text = ""

    def lines(self, severity: str | None = None) -> list[str]:
        """All lines in order, or ONNX Runtime's of one severity ("I", "W", "E") without their date and place."""
        if severity is None:
            return self.text.splitlines()
        return [message for kind, message in LINE.findall(self.text) if kind == severity]


@contextlib.contextmanager
def native_log() -> Iterator[NativeLog]:
    """Collect what is written to file descriptor 2 inside the block, to 1 as well; it is complete after the block.

    Where that is a file that has no name any more (a worker's), it is read and left as it is, so that after a crash its
    last line still tells. Elsewhere it is kept from the user's eyes,
    and from the data on the standard output.
    """
    log = NativeLog()
    sys.stderr.flush()
    seen = os.fstat(2)
    if stat.S_ISREG(seen.st_mode) and seen.st_nlink == 0:
        before = seen.st_size
        try:
            yield log
        finally:
            with OWN_ERROR.open("rb") as written:
                written.seek(before)
                log.text = written.read().decode("utf-8", "replace")
        return
    sys.stdout.flush()
    kept = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 1)
        os.dup2(written.fileno(), 2)
        try:
            yield log
        finally:
            sys.stderr.flush()
            ctypes.CDLL(None).fflush(None)  # what native code printed may still be in C's buffer
            for descriptor, original in zip((1, 2), kept, strict=True):
                os.dup2(original, descriptor)
                os.close(original)
            written.seek(0)
            log.text = written.read().decode("utf-8", "replace")
