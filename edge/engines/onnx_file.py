"""What must be known of an .onnx file before a runtime may open it, read without the onnx package.

An ONNX file may name other files that hold its weights. A path that leaves the model's folder would
make a runtime read any file of the machine, so every such path is looked at first. Field numbers are
those of onnx.proto (ONNX IR version 3 and later); the wire format is Protocol Buffers'.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge.errors import BadModel

# field number -> what lies behind it, of each message on the way from ModelProto to TensorProto
MODEL = {7: "graph", 20: "training", 25: "function"}
CHILDREN: Mapping[str, Mapping[int, str]] = {
    "model": MODEL,
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
MAX_DEPTH = 64


def check_external_data(content: bytes | memoryview, folder: Path | None) -> None:
    """Refuse external data outside `folder`; without a folder (a model given as bytes) refuse all of it.

    Raises:
        BadModel: no ONNX file, or external data that is missing or not below `folder`.

    """
    for location in external_locations(content):
        if folder is None:
            raise BadModel(
                f"the model keeps weights in another file ({location!r}), but was given without its folder",
                "open it by its path, or save it as one file",
            )
        file = (folder / location).resolve()
        if not file.is_relative_to(folder.resolve()):
            raise BadModel(f"the model's external data {location!r} lies outside its folder {folder}")
        if not file.is_file():
            raise BadModel(f"the model's external data {location!r} is missing in {folder}")


def external_locations(content: bytes | memoryview) -> list[str]:
    """The `location` of every tensor's external data, in initializers, attributes, subgraphs and functions.

    Raises:
        BadModel: the content is not in the wire format.

    """
    return [
        bytes(value).decode("utf-8", "replace")
        for kind, entry in _messages("model", memoryview(content), 0)
        if kind == "entry"
        for key, value in [_pair(entry)]
        if key == b"location"
    ]


def node_count(content: bytes | memoryview) -> int:
    """How many nodes the main graph has.

    Raises:
        BadModel: the content is not in the wire format.

    """
    graphs = [value for number, value in _fields(memoryview(content)) if number == 7]
    return sum(number == 1 for graph in graphs for number, _ in _fields(graph))


@dataclass(frozen=True)
class CompiledFor:
    """What a compiled model (one with EPContext nodes) was compiled for: ONNX Runtime's name of the provider, and the
    number of the SoC where Qualcomm's provider wrote one (0: any).
    """

    provider: str
    soc: int


def compiled_for(content: bytes | memoryview) -> CompiledFor | None:
    """Whether the model is a compiled one, and for what; None for a model that any provider may take.

    Raises:
        BadModel: the content is not in the wire format.

    """
    provider = None
    soc = 0
    for number, value in _fields(memoryview(content)):
        if number == 7:  # graph
            for kind, node in _fields(value):
                if kind == 1 and (4, b"EPContext") in ((n, bytes(v)) for n, v in _fields(node)):
                    provider = provider or _text_attribute(node, b"source")
        if number == 14:  # metadata_props
            key, told = _pair(value)
            # "v2:backend:sdk:api:htp_arch:soc_model:…", written by onnxruntime-qnn 2
            if key == b"ep_compatibility_info.QNNExecutionProvider" and told.count(b":") >= 5:
                number_of_soc = told.split(b":")[5]
                soc = int(number_of_soc) if number_of_soc.isdigit() else 0
    return None if provider is None else CompiledFor(provider, soc)


def batch_symbols(content: bytes | memoryview) -> set[str]:
    """The names that inputs give to a first dimension without a length ("batch").

    Raises:
        BadModel: the content is not in the wire format.

    """
    symbols: set[str] = set()
    for graph in (value for number, value in _fields(memoryview(content)) if number == 7):
        for put in (value for number, value in _fields(graph) if number == 11):  # ValueInfoProto
            # type (2) . tensor_type (1) . shape (2) . the first dim (1) . dim_param (2)
            inner: list[memoryview] = [put]
            for wanted in (2, 1, 2, 1, 2):
                inner = [v for data in inner[:1] for n, v in _fields(data) if n == wanted]
            symbols.update(bytes(value).decode("utf-8", "replace") for value in inner[:1])
    return symbols - {""}


def _text_attribute(node: memoryview, name: bytes) -> str:
    for attribute in (value for number, value in _fields(node) if number == 5):
        fields = {number: bytes(value) for number, value in _fields(attribute)}
        if fields.get(1) == name:
            return fields.get(4, b"").decode("utf-8", "replace")
    return ""


def _messages(kind: str, data: memoryview, depth: int) -> Iterator[tuple[str, memoryview]]:
    if depth > MAX_DEPTH:
        raise BadModel(f"not a usable ONNX file: messages are nested more than {MAX_DEPTH} deep")
    children = CHILDREN.get(kind, {})
    for number, value in _fields(data):
        child = children.get(number)
        if child is not None:
            yield child, value
            yield from _messages(child, value, depth + 1)


def _pair(entry: memoryview) -> tuple[bytes, bytes]:
    fields = {number: bytes(value) for number, value in _fields(entry)}
    return fields.get(1, b""), fields.get(2, b"")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The length-delimited fields of a message; numbers and fixed-size fields are stepped over."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            _, position = _varint(data, position)
            continue
        if wire in (1, 5):
            position += 8 if wire == 1 else 4
        elif wire == 2:
            length, position = _varint(data, position)
            position += length
            if position <= len(data):
                yield number, data[position - length : position]
        else:
            raise BadModel(f"not an ONNX file: wire type {wire} at byte {position}")
        if position > len(data):
            raise BadModel("not an ONNX file, or a truncated one: a field ends behind the end of the file")


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise BadModel("not an ONNX file, or a truncated one: a number has no end")
