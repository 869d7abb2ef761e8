"""Memory that is free inside the process, handed back to the system."""

import contextlib


def give_back() -> None:
    """Hand the heap's free pages back, where the C library can (glibc): opening models frees what parsing them took."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
