"""A place that several machines read and write: a folder they share, or whatever fsspec has an address for (s3://…)."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edge.durable import write
from edge.errors import BadRecipe, RuntimeMissing, from_system
from edgetool.patience import patiently

T = TypeVar("T")


class SharedStore:
    """Files by name, each there whole or not at all. A store that goes away is waited for.

    Args:
        address: a folder, which is made, or an fsspec address.
        said: told when the store has to be waited for.

    Raises:
        BadRecipe: the address means nothing, or a file is there.
        RuntimeMissing: what speaks to such an address is not installed.

    """

    def __init__(self, address: str, said: Callable[[str], None] = lambda _: None) -> None:
        import fsspec
        from fsspec.implementations.local import LocalFileSystem

        try:
            self._system, self._root = fsspec.url_to_fs(address)
        except ValueError as error:
            raise BadRecipe(f"the store {address} cannot be understood: {error}", "a folder, or s3://BUCKET") from error
        except ImportError as error:
            raise RuntimeMissing(
                f"the store {address} needs a package: {error}", "pip install 'edgetool[cluster]'"
            ) from error
        self._is_folder = isinstance(self._system, LocalFileSystem)
        if self._is_folder and Path(self._root).exists() and not Path(self._root).is_dir():
            raise BadRecipe(f"the store {address} is a file", "give a folder, or s3://BUCKET")
        # what other machines are told; a folder is the same wherever they start
        self.address = self._root if self._is_folder else address
        self._said = said
        self._there: set[str] = set()

    def fetch(self, name: str) -> bytes | None:
        """The content of a file; None where there is none.

        Raises EnvironmentFailed: the store stayed away.
        """

        def ask() -> bytes | None:
            try:
                content: bytes = self._system.cat_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return None
            return content

        return self._patiently(ask)

    def has(self, name: str) -> bool:
        """Whether there is such a file.

        Raises EnvironmentFailed: the store stayed away.
        """
        if name not in self._there and self._patiently(lambda: bool(self._system.exists(f"{self._root}/{name}"))):
            self._there.add(name)
        return name in self._there

    def put(self, name: str, content: bytes) -> None:
        """Keep a file under a name; what was there under it is replaced.

        Raises:
            EnvironmentFailed: the store stayed away.
            BadRecipe: there is no such bucket.

        """

        def ask() -> None:
            if not self._is_folder:
                self._system.pipe_file(f"{self._root}/{name}", content)
                return
            folder = Path(self._root)
            folder.mkdir(parents=True, exist_ok=True)
            beside = folder / f".{name}.{uuid.uuid4().hex}"  # another machine may write the same just now
            try:
                write(beside, content)
                beside.replace(folder / name)
            finally:
                beside.unlink(missing_ok=True)

        try:
            self._patiently(ask)
        except FileNotFoundError as error:
            raise BadRecipe(f"there is no store at {self.address}", "make the bucket, or name another") from error

    def _patiently(self, ask: Callable[[], T]) -> T:
        return patiently(ask, f"the store {self.address}", _is_away, self._said)


def _is_away(error: Exception) -> bool:
    """Whether it is the store that is not there, not what was asked of it."""
    if isinstance(error, OSError):
        return not isinstance(error, FileNotFoundError) and from_system(error) is None
    # boto's own errors of the network are no OSErrors
    return not {"HTTPClientError", "ConnectionError"}.isdisjoint(kind.__name__ for kind in type(error).__mro__)
