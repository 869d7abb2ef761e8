"""Inputs that are nearly right: what fuzzing feeds to parsers."""

import random
from collections.abc import Sequence


def mutated(rng: random.Random, content: bytes, tokens: Sequence[bytes] = ()) -> bytes:
    """`content` after 1 to 6 small damages: bits and bytes changed, parts cut, doubled, moved or put in.

    `tokens` are pieces that mean something to what will parse it; half of what is put in is one of them.
    """
    data = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 2, 8, 64, 512)))
        kind = rng.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = rng.choice((0, 0x20, 0x22, 0x5C, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del data[at:end]
        elif kind == 3:
            data[at:at] = data[at:end]
        elif kind == 4:
            del data[at:]
        elif kind == 5 and tokens:
            data[at:at] = rng.choice(tokens)
        else:
            data[at:at] = rng.randbytes(rng.choice((1, 4, 32)))
    return bytes(data)
