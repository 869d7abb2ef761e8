"""A batch of 1 for an ONNX model that was exported with another one.

A camera has one face at a time: a fixed batch of two costs twice the time, for a copy. What a batch is fixed by are the
shapes of inputs and outputs and the constants that Reshape is given; everything between follows from them.
"""

from typing import Any

import numpy as np

from edge.errors import BadModel, CheckFailed

TOLERANCE = 1e-4  # of the outputs' spread: kernels add in another order for another batch


def batch_of(model: Any) -> int | None:
    """The fixed batch of a ModelProto, the first axis of all its inputs; None where it is open or they differ."""
    constants = {tensor.name for tensor in model.graph.initializer}
    sizes = {
        value.type.tensor_type.shape.dim[0].dim_value if value.type.tensor_type.shape.dim else 0
        for value in model.graph.input
        if value.name not in constants
    }
    return sizes.pop() or None if len(sizes) == 1 else None


def with_batch_1(model: Any) -> Any:
    """A copy of a ModelProto that takes one example, proven to say of each what the original says of it in a batch.

    Raises:
        BadModel: its batch is open already or not the first axis of every input, or something else in it is made for
            that batch.
        CheckFailed: it says something else: the examples of a batch act on one another.

    """
    import onnx

    batch = batch_of(model)
    if batch is None:
        raise BadModel("the model's inputs have no fixed batch in common", "leave batch_1 out")
    single = onnx.ModelProto()
    single.CopyFrom(model)
    if batch == 1:
        return single
    graph = single.graph
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_value == batch:
            dims[0].dim_value = 1
    del graph.value_info[:]
    _reshape(graph, batch)
    try:
        single = onnx.shape_inference.infer_shapes(single, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(single)
        difference = _difference(model, single, batch)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise BadModel(f"the model is made for a batch of {batch}: {reason}", "export it with a batch of 1") from error
    if difference > TOLERANCE:
        raise CheckFailed(
            f"with a batch of 1 the model says something else, by {difference:.3g} of the outputs' spread",
            "its examples act on one another; export it with a batch of 1",
        )
    return single


def _reshape(graph: Any, batch: int) -> None:
    """Constant shapes of Reshape that begin with the batch begin with 1 instead."""
    import onnx

    constants = {tensor.name: tensor for tensor in graph.initializer}
    for number, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        shape = onnx.numpy_helper.to_array(constants[node.input[1]]).copy()
        if not shape.size or shape[0] != batch:
            continue
        shape[0] = 1
        node.input[1] = f"{node.input[1]}_batch_1_{number}"  # others may read the constant
        graph.initializer.append(onnx.numpy_helper.from_array(shape, node.input[1]))


def _difference(model: Any, single: Any, batch: int) -> float:
    """The largest difference between a batch's outputs and those of its examples one by one, of their spread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    whole, alone = (
        onnxruntime.InferenceSession(one.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for one in (model, single)
    )
    rng = np.random.default_rng(0)
    feeds = {}
    for entry in whole.get_inputs():
        values = rng.standard_normal(entry.shape)
        feeds[entry.name] = values.astype(np.float32) if "float" in entry.type else np.abs(values).astype(np.int64)
    together = whole.run(None, feeds)
    each = [alone.run(None, {name: values[row : row + 1] for name, values in feeds.items()}) for row in range(batch)]
    found = 0.0
    for number, values in enumerate(together):
        singly = np.concatenate([outputs[number] for outputs in each])
        if singly.shape != values.shape:
            return float("inf")
        spread = float(np.ptp(values)) or 1.0
        found = max(found, float(np.abs(singly - values).max()) / spread)
    return found
