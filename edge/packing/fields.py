"""Numbers and byte strings one after another: what the head of a packed file is made of."""

from collections.abc import Iterable


class Writer:
    """Collects numbers (7 bits a byte, the last with its high bit clear) and bytes."""

    def __init__(self) -> None:
        self.content = bytearray()

    def number(self, *values: int) -> None:
        """Numbers of at least 0."""
        for value in values:
            rest = int(value)
            while rest >= 0x80:
                self.content.append(rest & 0x7F | 0x80)
                rest >>= 7
            self.content.append(rest)

    def data(self, content: bytes) -> None:
        """Bytes as they are; their number has to be known to the reader."""
        self.content += content

    def numbers(self, values: Iterable[int]) -> None:
        """How many there are, and each."""
        listed = list(values)
        self.number(len(listed), *listed)


class Reader:
    """Reads what a `Writer` wrote; ValueError where it ends early or a number is above its limit."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def number(self, most: int) -> int:
        """A number of at most `most`."""
        value = 0
        for shift in range(0, 70, 7):
            if self._at >= len(self._content):
                break
            byte = self._content[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > most:
                    raise ValueError(f"{value} stands where at most {most} may")
                return value
        raise ValueError("a number has no end")

    def data(self, size: int) -> bytes:
        """The next `size` bytes."""
        content = self._content[self._at : self._at + size]
        if len(content) != size:
            raise ValueError("the head ends early")
        self._at += size
        return bytes(content)

    def rest(self) -> bytes:
        """Everything that was not read."""
        return self.data(len(self._content) - self._at)
