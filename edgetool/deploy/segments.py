"""A bundle's file in segments that an update leaves alone: one for each member, and what stands between them."""

import hashlib
import io
import itertools
import zipfile
from collections.abc import Container, Sequence

LARGEST = 1 << 20
Segment = tuple[int, int, str]
"""(offset, size, sha256)"""


def segments(content: bytes) -> list[Segment]:
    """The whole file, cut where a member begins, and at every MiB: a bundle of the same members but one shares all
    segments but that one's and the directory's.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            starts = {entry.header_offset for entry in archive.infolist()} | {archive.start_dir}
    except zipfile.BadZipFile:
        starts = set()
    marks = sorted({0, *starts, len(content)})
    found = []
    for begin, end in itertools.pairwise(marks):
        for offset in range(begin, end, LARGEST):
            piece = content[offset : min(offset + LARGEST, end)]
            found.append((offset, len(piece), hashlib.sha256(piece).hexdigest()))
    return found


def lacking(content: bytes, parts: Sequence[Segment], held: Container[str]) -> bytes:
    """The segments that are not held, one behind the other."""
    return b"".join(content[offset : offset + size] for offset, size, digest in parts if digest not in held)
