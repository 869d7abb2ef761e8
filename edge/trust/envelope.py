"""Where the signature of a bundle stands: behind the archive, in the same file.

    archive | signature (a sigstore bundle, JSON) | its length, 4 bytes, big-endian | EDGESIG1

What is signed are the bytes of the archive as they are, so that a signature is checked before anything is unpacked.
An archive ends with its own directory, never with the eight letters: it is unsigned as it is.
"""

import struct

from edge.errors import BadInput

MARK = b"EDGESIG1"
# A chain of certificates takes some 5 kB, sigstore's proofs some 15; zip readers look back no further than this
MAX_SIGNATURE_BYTES = 60_000
_TAIL = struct.Struct(">I8s")


def split(content: bytes) -> tuple[bytes, bytes | None]:
    """The archive and its signature, or None where it has none.

    Raises:
        BadInput: the signature is longer than the file or than a signature may be.

    """
    if not content.endswith(MARK) or len(content) < _TAIL.size:
        return content, None
    length, _ = _TAIL.unpack(content[-_TAIL.size :])
    start = len(content) - _TAIL.size - length
    if length > MAX_SIGNATURE_BYTES or start < 0:
        raise BadInput(f"it announces a signature of {length} bytes", "it was cut short or changed: copy it again")
    return content[:start], content[start : -_TAIL.size]


def join(archive: bytes, signature: bytes) -> bytes:
    """The archive with its signature behind it.

    Raises:
        BadInput: the signature is too long.

    """
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise BadInput(f"a signature of {len(signature)} bytes is too long; {MAX_SIGNATURE_BYTES} is the limit")
    return archive + signature + _TAIL.pack(len(signature), MARK)
