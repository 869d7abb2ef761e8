"""Keras 3, tf_keras, SavedModel and float .tflite to ONNX, through tf2onnx."""

from pathlib import Path
from typing import Any

import numpy as np

from convert.serving import serving
from edge.errors import BadModel
from edge.quiet import quiet

# 17 is the newest set that every ONNX Runtime since 1.12 (2022) reads, so boards with an old runtime do too, and it
# has per-channel QuantizeLinear (13). Quantizing to 16-bit activations raises a copy to 21 where it is asked for.
OPSET = 17


def to_onnx(model: Any) -> bytes:
    """Convert a Keras model to ONNX (operator set 17) with batch 1 and the names of the Keras model.

    Raises:
        BadModel: an operation that tf2onnx does not know (named), or shapes that are not fixed.

    """
    import tensorflow as tf

    module, inputs, outputs = serving(model)
    with quiet():
        import tf2onnx

        _patch_numpy2()
        try:
            signature = [tf.TensorSpec(spec.shape, spec.dtype, name=spec.name) for spec in inputs]
            proto, _ = tf2onnx.convert.from_function(
                module.serve, signature, opset=OPSET, custom_op_handlers={"Erfc": (_erfc, [])}
            )
        except Exception as error:
            raise BadModel(
                f"ONNX conversion failed: {_line(error)}", "replace the layer that makes this operation"
            ) from error
    # tf2onnx names tensors after the traced arguments and the dictionary's keys, and drops an input that nothing uses.
    have = [value.name for value in proto.graph.input], [value.name for value in proto.graph.output]
    named = {}
    for names, specs in zip(have, (inputs, outputs), strict=True):
        for name in names:
            named[name] = next((spec.name for spec in specs if name in (spec.name, f"{spec.name}:0")), name)
    _rename(proto, named)
    by_name = {value.name: value for value in proto.graph.output}
    lost = [spec.name for spec in outputs if spec.name not in by_name]
    if lost:
        raise BadModel(f"ONNX conversion lost the outputs {', '.join(lost)}; it has {', '.join(by_name)}")
    del proto.graph.output[:]
    proto.graph.output.extend(by_name[spec.name] for spec in outputs)
    return _slim(proto)


def tflite_to_onnx(path: Path, *, batch_1: bool = False) -> bytes:
    """Convert a .tflite file to ONNX with the names of its signature and its batch, 1 where that is open.

    `batch_1` makes a batch that is fixed at another size 1 (`convert.batch`).

    Raises:
        BadModel: an operation that tf2onnx does not know, or a batch that cannot become 1.
        CheckFailed: with a batch of 1 the model says something else.

    """
    from convert.batch import with_batch_1
    from convert.flatbuffer import read_flatbuffer, signature_specs

    flat = read_flatbuffer(path)
    inputs, outputs = signature_specs(flat)
    with quiet():
        import tf2onnx

        _patch_numpy2()
        try:
            proto, _ = tf2onnx.convert.from_tflite(str(path), opset=OPSET)
        except Exception as error:
            raise BadModel(
                f"{path}: ONNX conversion failed: {_line(error)}", "convert the Keras model it was made from"
            ) from error
    graph = flat.subgraphs[0]
    tensors = [graph.tensors[i].name.decode() for i in (*graph.inputs, *graph.outputs)]
    found = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    named = {}
    for tensor, spec in zip(tensors, (*inputs, *outputs), strict=True):
        hit = tensor if tensor in found else f"{tensor}:0"
        if hit in found and hit != spec.name:
            named[hit] = spec.name
    _rename(proto, named)
    for value in (*proto.graph.input, *proto.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_value = 1
    return _slim(with_batch_1(proto) if batch_1 else proto)


def refuse_onnx_to_litert(path: Path) -> None:
    """There is no way from ONNX to LiteRT here.

    Raises:
        BadModel: always, with what to do instead.

    """
    raise BadModel(
        f"{path} is ONNX: it cannot become .tflite (the one converter, onnx2tf, needs Python 3.12 and other versions "
        "of numpy and onnx than this environment)",
        "start from the Keras model, or keep ONNX and use --to onnx; the ONNX engine runs on the device as well",
    )


def _patch_numpy2() -> None:
    """tf2onnx 1.17 still looks for two names that NumPy 2 removed, in the pass that folds constants."""
    for name, value in (("object", object), ("bool", np.bool_)):
        if name not in vars(np):
            setattr(np, name, value)


def _erfc(ctx: Any, node: Any, _name: str, _args: Any) -> None:
    """Erfc(x) = 1 - Erf(x), which exact GELU needs and tf2onnx lacks."""
    dtype = ctx.get_dtype(node.output[0])
    shape = ctx.get_shape(node.output[0])
    ctx.remove_node(node.name)
    erf = ctx.make_node("Erf", [node.input[0]])
    one = ctx.make_const(f"{node.name}_one", np.array(1, np.float32))
    ctx.make_node(
        "Sub", [one.output[0], erf.output[0]], outputs=node.output, name=node.name, dtypes=[dtype], shapes=[shape]
    )


def _rename(proto: Any, names: dict[str, str]) -> None:
    """Give inputs and outputs the names in `names` (old -> new); an inner tensor in the way gets out of it."""
    used = {n for node in proto.graph.node for n in (*node.input, *node.output)}
    used |= {tensor.name for tensor in proto.graph.initializer}
    moved = {new: f"{new}__inner" for new in names.values() if new in used and new not in names}
    full = moved | names
    for node in proto.graph.node:
        node.input[:] = [full.get(n, n) for n in node.input]
        node.output[:] = [full.get(n, n) for n in node.output]
    for tensor in proto.graph.initializer:
        tensor.name = moved.get(tensor.name, tensor.name)
    for value in proto.graph.value_info:
        value.name = moved.get(value.name, value.name)
    for value in (*proto.graph.input, *proto.graph.output):
        value.name = names.get(value.name, value.name)


def _slim(proto: Any) -> bytes:
    """Fold constants and drop what tf2onnx leaves behind, then check the result."""
    import onnx
    import onnxslim

    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    foreign = sorted({node.op_type for node in proto.graph.node if not node.domain and node.op_type not in known})
    if foreign:
        raise BadModel(
            f"the model needs operations that ONNX lacks: {', '.join(foreign)}", "replace the layers that make them"
        )
    with quiet():
        slim = onnxslim.slim(proto) or proto
    onnx.checker.check_model(slim, full_check=True)
    return bytes(slim.SerializeToString())


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
