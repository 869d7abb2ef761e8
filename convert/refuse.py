"""Refusing models that would run code of their own when they are loaded.

A Keras configuration can carry marshalled Python (`Lambda`), name functions to import, or ask for classes of the
author's; a SavedModel's graph can call Python or touch files; an ONNX file can point at files outside its folder.
All of it is found by reading the file as plain data, before any framework sees it.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.errors import BadModel

HINT = "if you trust where this model comes from, load it with --trust; else rebuild it from built-in layers"

# Modules whose classes are Keras's own. A module outside them is code of the author's.
_KERAS = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras", "builtins")
# Built-in, but made to run, import or read something that the configuration names.
_UNSAFE_CLASSES = frozenset(
    {"Lambda", "__lambda__", "PyFunc", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
)
# Graph operations that run Python, or read and write files, when a SavedModel is loaded or called.
_UNSAFE_OPS = frozenset(
    [
        "PyFunc",
        "PyFuncStateless",
        "EagerPyFunc",
        "ReadFile",
        "WriteFile",
        "MatchingFiles",
        "Save",
        "SaveSlices",
        "ShardedFilename",
        "PrintV2",
        "LookupTableExportV2",
        "TextFileLineDatasetV2",
        "TextLineDataset",
        "TFRecordDataset",
        "FixedLengthRecordDatasetV2",
        "GeneratorDataset",
        "LoadDataset",
        "SaveDataset",
        "WholeFileReaderV2",
        "DebugIdentityV2",
        "RpcCall",
        "XlaHostCompute",
        "RiscCall",
        "Rpc",
        "TryRpc",
        "CompilationResultProto",
    ]
)


def refuse_keras_archive(path: Path) -> None:
    """Check a `.keras` file: its checksums, its entries' names and its configuration.

    Raises:
        BadModel: the archive is damaged, or its configuration asks for code.

    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            if broken is not None:
                raise BadModel(f"{path} is damaged: {broken} fails its checksum", "copy or save the model again")
            for name in archive.namelist():
                if name.startswith("/") or ".." in Path(name).parts:
                    raise BadModel(f"{path} has an entry that leaves its folder: {name!r}", "do not use this file")
            config = json.loads(archive.read("config.json"))
    # zipfile and its decompressors raise several kinds of error for the same damage.
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, KeyError, NotImplementedError) as error:
        raise BadModel(f"{path} is damaged: {error}", "copy or save the model again") from error
    _refuse_config({k: v for k, v in config.items() if k not in ("compile_config", "build_config")}, path)


def refuse_h5(path: Path) -> None:
    """Check a Keras `.h5` file: that it can be read to its end, holds a model, and asks for no code.

    Raises:
        BadModel: damaged, weights without an architecture, or a configuration that asks for code.

    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            raw = file.attrs.get("model_config")
            if raw is None:
                raise BadModel(
                    f"{path} holds weights without an architecture (no model_config)",
                    "save the whole model: model.save('model.keras')",
                )
            config = json.loads(raw)
            file.visititems(_read)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise BadModel(f"{path} is damaged: {_line(error)}", "copy or save the model again") from error
    _refuse_config(config, path)


def _read(_: str, item: Any) -> None:
    if hasattr(item, "shape"):
        item[()]  # a truncated file fails here, not half-way through building layers


def refuse_savedmodel(path: Path) -> None:
    """Check a SavedModel's graph for operations that run Python or touch files, and its Keras metadata for code.

    Raises:
        BadModel: damaged, or it would run code.

    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no types
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    try:
        proto.ParseFromString((path / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise BadModel(f"{path}/saved_model.pb is damaged: {error}", "copy or export the model again") from error
    if not proto.meta_graphs:
        raise BadModel(f"{path}/saved_model.pb holds no graph", "copy or export the model again")
    for graph in proto.meta_graphs:
        nodes = list(graph.graph_def.node)
        nodes += [node for function in graph.graph_def.library.function for node in function.node_def]
        # Every SavedModel has one Save/ShardedFilename in the functions that write its own checkpoint.
        used = {node.op for node in nodes} & (_UNSAFE_OPS - {"Save", "SaveSlices", "ShardedFilename"})
        if used:
            raise BadModel(f"{path} uses {', '.join(sorted(used))}, which can run code or touch files", HINT)
        for node in graph.object_graph_def.nodes:
            if node.WhichOneof("kind") == "user_object" and node.user_object.metadata:
                _refuse_metadata(node.user_object.metadata, path)
    metadata = path / "keras_metadata.pb"
    if metadata.is_file():
        from tensorflow.python.keras.protobuf import saved_metadata_pb2

        objects = saved_metadata_pb2.SavedMetadata()
        try:
            objects.ParseFromString(metadata.read_bytes())
        except DecodeError as error:
            raise BadModel(f"{metadata} is damaged: {error}", "copy or export the model again") from error
        for entry in objects.nodes:
            _refuse_metadata(entry.metadata, path)


def _refuse_metadata(text: str, path: Path) -> None:
    try:
        data = json.loads(text)
    except ValueError:
        return  # metadata of another kind than Keras's: nothing builds an object from it
    _refuse_config({k: v for k, v in data.items() if k != "training_config"} if isinstance(data, dict) else data, path)


def _refuse_config(config: Any, path: Path) -> None:
    for entry in _dicts(config):
        name = entry.get("class_name")
        if not isinstance(name, str):
            continue
        inner = entry.get("config")
        label = inner.get("name") if isinstance(inner, dict) else None
        where = f" (layer {label!r})" if label else ""
        if name.rpartition(">")[2] in _UNSAFE_CLASSES:
            raise BadModel(f"{path} has a {name}{where}, which runs code that the file carries", HINT)
        module, registered = entry.get("module"), entry.get("registered_name")
        if isinstance(module, str) and not any(module == own or module.startswith(own + ".") for own in _KERAS):
            raise BadModel(f"{path} asks for {module}.{name}{where}, which is not part of Keras", HINT)
        if ">" in name or (isinstance(registered, str) and ">" in registered):
            raise BadModel(f"{path} asks for the custom object {registered or name!r}{where}", HINT)


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for child in value.values():
            yield from _dicts(child)
    elif isinstance(value, list):
        for child in value:
            yield from _dicts(child)


def refuse_external_data(model: Any, folder: Path) -> None:
    """Check that every external tensor of an ONNX `ModelProto` lies inside `folder`, reached without links.

    Raises:
        BadModel: an absolute path, "..", a symbolic link, a missing file, or a range beyond its end.

    """
    from onnx.external_data_helper import uses_external_data

    root = folder.resolve()
    for tensor in tensors_of(model):
        if not uses_external_data(tensor):
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        relative = Path(location)
        bad = f"tensor {tensor.name!r} has its data at {location!r}"
        hint = "external data must be a plain file beside the model; save the model again with its data inside"
        if not location or relative.is_absolute() or location.startswith("\\") or ".." in relative.parts:
            raise BadModel(f"{bad}, which is outside the model's folder", hint)
        steps = [root.joinpath(*relative.parts[: i + 1]) for i in range(len(relative.parts))]
        if any(step.is_symlink() for step in steps):
            raise BadModel(f"{bad}, which is a symbolic link", hint)
        if not steps[-1].is_file():
            raise BadModel(f"{bad}, which does not exist", "copy that file beside the model")
        end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
        if end > steps[-1].stat().st_size:
            raise BadModel(f"{bad} up to byte {end}, which is beyond its end", "copy that file again")


def tensors_of(model: Any) -> Iterator[Any]:
    """Every `TensorProto` of an ONNX model: initializers and attributes, in subgraphs and functions too."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _graph_tensors(attribute.g)
            for graph in attribute.graphs:
                yield from _graph_tensors(graph)


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
