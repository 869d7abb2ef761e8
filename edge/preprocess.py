"""From a raw file or row to a model's input: one code for training and for the device.

Each step is a frozen dataclass with a `kind`, called on raw data, written to and read from the bundle as JSON.
"""

import io
import math
import tokenize
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from edge import report
from edge.audio import AudioInput
from edge.errors import BadData, BadInput, UnknownName
from edge.image import SUFFIXES, ImageInput, read_image
from edge.table import TableInput, read_csv

Array = npt.NDArray[Any]
# What numpy raises beside ValueError on a header that is no Python literal, or one of a shape that no array has
HEADER_DAMAGE = (SyntaxError, TypeError, OverflowError, MemoryError, RecursionError, tokenize.TokenError)


class Preprocess(Protocol):
    """Turns one raw example into one input of the model, without the batch axis."""

    @property
    def kind(self) -> str:
        """The name under which the step is stored in a bundle."""
        ...

    def __call__(self, raw: Array) -> Array:
        """One raw example (decoded picture, samples, row) to the input that the model takes."""
        ...


@dataclass(frozen=True)
class ArrayInput:
    """An array of numbers as it is, or x * scale + offset in float32 where those are given; shape kept."""

    scale: float = 1.0
    offset: float = 0.0
    dtype: str = "float32"
    kind: Literal["array"] = "array"

    def __post_init__(self) -> None:
        if self.kind != "array" or self.dtype not in np.sctypeDict or np.dtype(self.dtype).kind not in "biuf":
            raise BadData(f"an array input of kind {self.kind!r} and dtype {self.dtype!r}")
        if (self.scale, self.offset) != (1.0, 0.0) and np.dtype(self.dtype).kind != "f":
            raise BadData(f"an array input of dtype {self.dtype} cannot be scaled")

    def __call__(self, raw: Array) -> Array:
        """[...] to the same shape in `dtype`."""
        if (self.scale, self.offset) == (1.0, 0.0):
            return raw.astype(self.dtype, copy=False)
        scaled = raw.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)
        return scaled.astype(self.dtype, copy=False)


KINDS: dict[str, type[ArrayInput | AudioInput | ImageInput | TableInput]] = {
    "array": ArrayInput,
    "audio": AudioInput,
    "image": ImageInput,
    "table": TableInput,
}


def from_plain(data: Any) -> Preprocess:
    """The step that `dataclasses.asdict` (or JSON) made `data` from.

    Raises:
        UnknownName: no such kind.
        BadInput: a field is missing, unknown or out of range.

    """
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise UnknownName("kind of preprocessing", str(kind), KINDS)
    try:
        step: Preprocess = report.from_plain(KINDS[kind], data)
    except (TypeError, ValueError) as error:
        raise BadInput(f"damaged preprocessing of kind {kind!r}: {error}") from error
    return step


def read_examples(path: Path, steps: Mapping[str, Preprocess]) -> Iterator[tuple[str, dict[str, Array]]]:
    """The raw examples in a file, each with its name and one array for each input of `steps`.

    A picture, a wav and an .npy file hold one example; a .csv one in each row, named `file:line`; an .npz holds
    the examples of each input under the input's name, [n, ...], named `file:index`.

    Raises:
        BadData: the file is missing, damaged, or of a kind that the inputs do not take.

    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        arrays = read_npz(path)
        lengths = {len(arrays[name]) if name in arrays and arrays[name].ndim else None for name in steps}
        if len(lengths) != 1 or None in lengths:
            raise BadData(
                f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}",
                f"it needs arrays [n, ...] called {' and '.join(steps)}, all of one length",
            )
        for index in range(min(length for length in lengths if length is not None)):
            yield f"{path}:{index}", {name: arrays[name][index] for name in steps}
        return
    if len(steps) != 1:
        raise BadData(f"{path}: a model with {len(steps)} inputs takes .npz files", f"with {' and '.join(steps)} in it")
    ((name, step),) = steps.items()
    if suffix == ".csv" and isinstance(step, TableInput):
        table = read_csv(path)
        for line, row in zip(table.lines, table.numbers(step.columns), strict=True):
            yield f"{path}:{line}", {name: row}
        return
    yield str(path), {name: _read_one(path, step)}


def _read_one(path: Path, step: Preprocess) -> Array:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return read_npy(path)
    if suffix in SUFFIXES and isinstance(step, ImageInput):
        return read_image(path)
    if suffix == ".wav" and isinstance(step, AudioInput):
        return step.read(path)
    if not path.exists():
        raise BadData(f"there is no {path}")
    takes = {"image": f"pictures ({' '.join(SUFFIXES)}), ", "audio": ".wav, ", "table": ".csv, "}.get(step.kind, "")
    raise BadData(f"{path}: this model takes {takes}.npy and .npz files")


def read_npy(path: Path) -> Array:
    """The array in an .npy file. Raises BadData: missing, damaged, pickled, not numbers, NaN or infinite."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror or error}") from error
    return decode_npy(content, str(path))


def decode_npy(content: bytes, name: str) -> Array:
    """As `read_npy`, of the bytes of a file called `name`."""
    try:
        return finite(parse_npy(content), name)
    except ValueError as error:
        raise BadData(f"{name} cannot be read: {_first_line(error)}", "expected an .npy file of numbers") from error


def parse_npy(content: bytes) -> Array:
    """The numbers in the bytes of an .npy file, which take no more memory than the bytes do.

    numpy's own reader allocates what the header announces before it looks whether it is there.

    Raises:
        ValueError: damaged, cut short, pickled or not numbers.

    """
    try:
        return _parse_npy(content)
    except HEADER_DAMAGE as error:
        raise ValueError(f"its header is damaged: {_first_line(error)}") from error


def _parse_npy(content: bytes) -> Array:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in {(1, 0), (2, 0)}:
        raise ValueError(f"version {version} of the format cannot be read")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(stream)
    if dtype.kind not in "biuf":
        raise ValueError(f"it holds {dtype}, not numbers")
    needed, found = math.prod(shape) * dtype.itemsize, len(content) - stream.tell()
    if needed != found:
        raise ValueError(f"its header announces {needed} bytes, but {found} follow")
    values = np.frombuffer(content, dtype, math.prod(shape), stream.tell())
    return values.reshape(shape, order="F" if fortran else "C")


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays in an .npz file by name. Raises BadData: missing, damaged or pickled."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise BadData(f"{path} is no .npz file")
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, NotImplementedError) as error:
        pickled = "pickle" in str(error) and zipfile.is_zipfile(path)
        raise BadData(
            f"{path} cannot be read: {'it holds pickled objects' if pickled else _first_line(error)}",
            "save plain arrays of numbers: loading never runs code" if pickled else "is it cut short or damaged?",
        ) from error


def finite(array: Array, name: str) -> Array:
    """`array` itself, where it holds only finite numbers. Raises BadData with the first index that is not."""
    if array.dtype.kind not in "biuf":
        raise BadData(f"{name} holds {array.dtype}, not numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        index = np.argwhere(~np.isfinite(array))[0].tolist()
        raise BadData(f"{name} has NaN or infinity, first at index {index}", "fill or drop such examples")
    return array


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
