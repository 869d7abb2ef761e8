import pytest

from edge.errors import BadInput
from edge.trust.envelope import MARK, MAX_SIGNATURE_BYTES, join, split


def test_what_is_joined_is_split() -> None:
    assert split(join(b"archive", b"signature")) == (b"archive", b"signature")
    assert split(join(b"", b"")) == (b"", b"")


@pytest.mark.parametrize("content", [b"", b"archive", MARK, MARK + b"archive"])
def test_what_has_no_signature_stays_as_it_is(content: bytes) -> None:
    assert split(content) == (content, None)


@pytest.mark.parametrize("length", [9, MAX_SIGNATURE_BYTES + 1, 2**32 - 1])
def test_a_signature_that_cannot_be_there_is_refused(length: int) -> None:
    with pytest.raises(BadInput, match=f"announces a signature of {length} bytes"):
        split(b"archive" + length.to_bytes(4, "big") + MARK)


def test_a_signature_that_is_too_long_is_not_joined() -> None:
    with pytest.raises(BadInput, match="too long"):
        join(b"archive", bytes(MAX_SIGNATURE_BYTES + 1))
