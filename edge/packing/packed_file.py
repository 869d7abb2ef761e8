"""A packed model file: constants entropy-coded, everything else by LZMA. Unpacking gives the same bytes back.

    "EPK1", length of the model, of the blob, of the packed blob, of the first pass (u32 each)
    the blob, by LZMA: head (tables, tensors), then the rest of the model file
    first pass: dense streams, kept bits, gaps; second pass: kept values

All streams of a pass are coded as one (edge/packing/rans.py), each symbol by the table that the head and the first
pass say. Whatever a packed file claims is held against what it may cost before memory is taken for it.
"""

import lzma
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.packing import coding, density
from edge.packing.coding import BITS, DENSE, FIRST_OWN_TABLE, GAPS, Values
from edge.packing.constants import Constant, find_constants
from edge.packing.fields import Reader, Writer
from edge.packing.rans import Contexts, Symbols, Tables, decode, encode

MAGIC = b"EPK1"
# Symbols of one pass: the decoder holds about 16 bytes for each. Constants beyond are left to LZMA.
MAX_SYMBOLS = 1 << 24
SMALLEST_BYTES = 64  # a constant below is not worth a table
_MOST_HEAD_BYTES = 1 << 22
_START = struct.Struct("<4sIIII")
_DICTIONARY_BYTES = 1 << 22
_LITERALS = ((3, 0, 2), (0, 2, 2), (0, 0, 0), (4, 0, 0))  # lc, lp, pb: bytes, aligned words, text


class _Streams:
    """The symbols of one pass with the table of each."""

    def __init__(self) -> None:
        self.symbols: list[Symbols] = []
        self.contexts: list[Contexts] = []

    def add(self, symbols: Symbols, contexts: Contexts | int) -> None:
        self.symbols.append(symbols)
        self.contexts.append(_named(contexts, len(symbols)))

    def encoded(self, tables: Tables) -> bytes:
        return encode(_joined(self.symbols, np.uint8), _joined(self.contexts, np.uint16), tables)


@dataclass(frozen=True)
class _Tensor:
    """What the head says of one tensor."""

    start: int
    n: int
    form: int
    values: Values
    tables: tuple[int, ...]
    hole: int = 0
    classes: density.Classes | None = None
    n_gaps: int = 0
    gap_table: int = 0


def pack(model: bytes, file_format: str) -> bytes:
    """A "tflite" or "onnx" model as `unpack` reads it; any other file is packed by LZMA alone."""
    known = coding.TableList()
    head, chosen, passes, room = Writer(), list[Constant](), (_Streams(), _Streams()), MAX_SYMBOLS
    for constant in find_constants(model, file_format):
        content = model[constant.start : constant.start + constant.size]
        if not SMALLEST_BYTES <= constant.size <= room:
            continue
        elements = coding.elements_of(content, constant.item_bytes)
        coded = coding.forms_of(elements, constant.item_bytes, constant.rows, known)[0]
        if coded.bits >= 8 * len(_squeezed(content, 0)):
            continue
        room -= constant.size
        end = chosen[-1].start + chosen[-1].size if chosen else 0
        head.number(constant.start - end, len(elements), constant.item_bytes)
        _add(coded, known, head, passes)
        chosen.append(constant)
    front = Writer()
    coding.write_tables(known, front)
    front.number(len(chosen))
    plain = bytes(front.content + head.content) + _without(model, chosen)
    tried = range(len(_LITERALS)) if len(plain) <= _DICTIONARY_BYTES else range(1)
    packed = min((bytes([i]) + _squeezed(plain, i) for i in tried), key=len)
    own = np.array(known.rows, np.uint16).reshape(-1, 256)
    tables = Tables(np.concatenate([density.bit_tables(), own]))
    first, second = (streams.encoded(tables) for streams in passes)
    return _START.pack(MAGIC, len(model), len(plain), len(packed), len(first)) + packed + first + second


def unpack(packed: bytes, max_bytes: int) -> bytes:
    """The model that `pack` was given.

    Raises:
        ValueError: it is damaged, or its model is larger than `max_bytes`.

    """
    if len(packed) < _START.size or packed[:4] != MAGIC:
        raise ValueError("it is not a packed model")
    _, size, n_plain, n_packed, n_first = _START.unpack_from(packed)
    if size > max_bytes:
        raise ValueError(f"it unpacks to {size} bytes, above {max_bytes}")
    if n_plain > size + _MOST_HEAD_BYTES:
        raise ValueError(f"its head takes {n_plain - size} bytes or more")
    body = packed[_START.size :]
    if n_packed < 1 or n_packed + n_first > len(body):
        raise ValueError("a packed model is cut short")
    head = Reader(_expanded(body[1:n_packed], body[0], n_plain))
    tables = Tables(coding.read_tables(head))
    tensors = _read_tensors(head, size)
    first = [context for tensor in tensors for context in _first_contexts(tensor)]
    ends = np.cumsum([len(context) for context in first])[:-1]
    symbols = np.split(decode(body[n_packed : n_packed + n_first], _joined(first, np.uint16), tables), ends)
    parts = iter(symbols if first else [])
    taken = [[next(parts) for _ in _first_contexts(tensor)] for tensor in tensors]
    kept = [_kept(tensor, streams) for tensor, streams in zip(tensors, taken, strict=True)]
    second = [
        _named(table, len(places))
        for tensor, places in zip(tensors, kept, strict=True)
        if places is not None
        for table in tensor.tables
    ]
    ends = np.cumsum([len(context) for context in second])[:-1]
    values = decode(body[n_packed + n_first :], _joined(second, np.uint16), tables)
    parts = iter(np.split(values, ends) if second else [])
    contents = []
    for tensor, streams, places in zip(tensors, taken, kept, strict=True):
        if places is None:
            contents.append(tensor.values.join(streams).tobytes())
            continue
        elements = np.full(tensor.n, tensor.hole, f"<u{tensor.values.item_bytes}")
        elements[places] = tensor.values.join([next(parts) for _ in tensor.tables])
        contents.append(elements.tobytes())
    return _with(head.rest(), tensors, contents, size)


def _add(coded: coding.Coded, known: coding.TableList, head: Writer, passes: tuple[_Streams, _Streams]) -> None:
    """Write what the head says of a tensor and put its streams where they belong."""
    item_bytes, book = coded.values.item_bytes, coded.values.codebook
    head.number(coded.form)
    if coded.form != DENSE:
        head.number(coded.hole)
    if coded.classes is not None and coded.mask is not None:
        classes = coded.classes
        head.number(len(classes.rows), *classes.tables.shape)
        for listed in (classes.tables, classes.rows, classes.columns):
            head.data(listed.tobytes())
        passes[0].add(coded.mask.astype(np.uint8), classes.contexts())
    if coded.gaps is not None:
        place = FIRST_OWN_TABLE + known.add(known.cost(coded.gaps)[1])
        head.number(len(coded.gaps), place)
        passes[0].add(coded.gaps, place)
    head.number(0 if book is None else len(book))
    head.data(b"" if book is None else book.astype(f"<u{item_bytes}").tobytes())
    for stream, table in zip(coded.streams, coded.tables, strict=True):
        place = FIRST_OWN_TABLE + known.add(table)
        head.number(place)
        passes[0 if coded.form == DENSE else 1].add(stream, place)


def _read_tensors(head: Reader, size: int) -> list[_Tensor]:
    tensors, end, room = list[_Tensor](), 0, MAX_SYMBOLS
    for _ in range(head.number(size)):
        start = end + head.number(size)
        n, item_bytes = head.number(size), head.number(8)
        end = start + n * item_bytes
        room -= n * item_bytes
        if item_bytes not in (1, 2, 4, 8) or n < 1 or end > size or room < 0:
            raise ValueError("a tensor lies outside the model, or all of them are too large")
        tensors.append(_read_tensor(head, start, n, item_bytes))
    return tensors


def _read_tensor(head: Reader, start: int, n: int, item_bytes: int) -> _Tensor:
    sparse: dict[str, Any] = {}
    form = head.number(GAPS)
    if form != DENSE:
        sparse["hole"] = head.number((1 << 8 * item_bytes) - 1)
    if form == BITS:
        rows, row_classes, column_classes = head.number(n), head.number(256), head.number(256)
        if rows < 1 or n % rows:
            raise ValueError(f"{n} elements in {rows} rows")
        lists = [_bytes(head, length) for length in (row_classes * column_classes, rows, n // rows)]
        if lists[1].max() >= row_classes or lists[2].max() >= column_classes or lists[0].max() >= FIRST_OWN_TABLE:
            raise ValueError("a class of density that is not there")
        sparse["classes"] = density.Classes(lists[1], lists[2], lists[0].reshape(row_classes, column_classes))
    if form == GAPS:
        sparse["n_gaps"], sparse["gap_table"] = head.number(n), head.number(_MOST_TABLES)
    length = head.number(coding.LARGEST_CODEBOOK)
    book = coding.elements_of(head.data(length * item_bytes), item_bytes) if length else None
    values = Values(item_bytes, book)
    tables = tuple(head.number(_MOST_TABLES) for _ in range(values.streams))
    return _Tensor(start, n, form, values, tables, **sparse)


_MOST_TABLES = FIRST_OWN_TABLE + coding.MAX_TABLES


def _first_contexts(tensor: _Tensor) -> list[Contexts]:
    """The tables of a tensor's streams in the first pass."""
    if tensor.form == BITS:
        assert tensor.classes is not None, "they are read with the form"
        return [tensor.classes.contexts()]
    if tensor.form == GAPS:
        return [_named(tensor.gap_table, tensor.n_gaps)]
    return [_named(table, tensor.n) for table in tensor.tables]


def _kept(tensor: _Tensor, streams: Sequence[Symbols]) -> npt.NDArray[np.int64] | None:
    """Where the elements stand that are no holes; None where there are no holes."""
    if tensor.form == DENSE:
        return None
    return np.flatnonzero(streams[0]) if tensor.form == BITS else density.places_of(streams[0], tensor.n)


def _named(table: Contexts | int, n: int) -> Contexts:
    return np.full(n, table, np.uint16) if isinstance(table, int) else table


def _joined(parts: Sequence[npt.NDArray[Any]], dtype: type[Any]) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *parts])


def _bytes(head: Reader, n: int) -> npt.NDArray[np.uint8]:
    if n < 1:
        raise ValueError("an empty list of classes")
    return np.frombuffer(head.data(n), np.uint8)


def _without(model: bytes, chosen: Sequence[Constant]) -> bytes:
    kept, end = bytearray(), 0
    for constant in chosen:
        kept += model[end : constant.start]
        end = constant.start + constant.size
    return bytes(kept + model[end:])


def _with(rest: bytes, tensors: Sequence[_Tensor], contents: Sequence[bytes], size: int) -> bytes:
    model, taken = bytearray(), 0
    for tensor, content in zip(tensors, contents, strict=True):
        between = tensor.start - len(model)
        model += rest[taken : taken + between] + content
        taken += between
    model += rest[taken:]
    if len(model) != size:
        raise ValueError(f"it unpacks to {len(model)} bytes, not {size}")
    return bytes(model)


def _squeezed(content: bytes, literals: int) -> bytes:
    return lzma.compress(content, lzma.FORMAT_RAW, filters=_filters(literals))


def _expanded(content: bytes, literals: int, size: int) -> bytes:
    if literals >= len(_LITERALS):
        raise ValueError(f"LZMA settings {literals} of {len(_LITERALS)}")
    try:
        plain = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_filters(literals)).decompress(content, size)
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(f"LZMA: {error}") from error
    if len(plain) != size:
        raise ValueError("the head and the rest are cut short")
    return plain


def _filters(literals: int) -> list[dict[str, Any]]:
    lc, lp, pb = _LITERALS[literals]
    return [{"id": lzma.FILTER_LZMA1, "dict_size": _DICTIONARY_BYTES, "preset": 9, "lc": lc, "lp": lp, "pb": pb}]
