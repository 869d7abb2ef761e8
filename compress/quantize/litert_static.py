"""Static int8 and int16x8 for a float .tflite: weights int8 per channel, activations per tensor from calibration.

Scheme: Jacob et al., CVPR 2018 (arXiv:1712.05877); specification: https://ai.google.dev/edge/litert/models/quantization_spec.
The flatbuffer is rewritten by litert_quantizer. Its own calibration is a moving average, whose ranges depend on the
order of the samples and miss most of the extremes (20 dB against 34 dB on the same 64 samples), so the ranges are
computed here: exactly, one sample at a time.
"""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from compress.quantize import Quantized, Samples
from compress.quantize.activation_ranges import ActivationRange, Method
from compress.quantize.litert_compact import write_model
from compress.quantize.litert_model import (
    FLOAT32,
    INT64,
    is_constant,
    read_model,
    require_float,
    require_static_graph,
    restore_names,
    stayed_float,
    upgrade,
)
from edge.errors import BadData, BadModel
from edge.quiet import quiet


def quantize_static(
    model: bytes,
    calibration: Samples,
    precision: Literal["int8", "int16x8"] = "int8",
    method: Method = "minmax",
    *,
    io: Literal["float32", "integer"] = "float32",
    dense_per_channel: bool = True,
    per_channel: bool = True,
) -> Quantized:
    """Quantize weights and activations. Inputs and outputs of the model stay float32, or become integers by `io`.

    `calibration` gives {input name: [1, ...]}, by the names of the signature or else of the tensors, and is read
    once. `method` clips the ranges of activations: minmax does not. `dense_per_channel=False` gives each dense layer
    one scale instead of one per output, which makes a file of dense layers smaller; `per_channel=False` gives every
    layer one scale, for accelerators that know no other.

    Raises:
        BadModel: damaged, quantized already, with loops, or refused by the quantizer.
        BadData: the samples do not fit the inputs, there are none, or they make an activation NaN.

    """
    from litert_quantizer import qtyping, quantizer, recipe

    parsed = read_model(model)
    require_float(parsed)
    require_static_graph(parsed, precision)
    model = write_model(upgrade(parsed))
    ranges = collect_ranges(model, calibration, with_histogram=method != "minmax")
    limits = {}
    for name, seen in ranges.items():
        low, high = seen.range(method)
        limits[name] = {"min": np.array([low], np.float32), "max": np.array([high], np.float32)}
    chosen = recipe.static_wi8_ai8() if precision == "int8" else recipe.static_wi8_ai16()
    with quiet():
        work = quantizer.Quantizer(model, chosen)
        dense = () if dense_per_channel and per_channel else (qtyping.TFLOperationName.FULLY_CONNECTED,)
        for kind in (*dense, *(() if per_channel else _convolutions())):
            work.add_static_config(
                ".*",
                kind,
                activation_num_bits=8 if precision == "int8" else 16,
                weight_num_bits=8,
                weight_granularity=qtyping.QuantGranularity.TENSORWISE,
            )
        if io == "float32":
            for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
                work.update_quantization_recipe(".*", end, None, quantizer.AlgorithmName.NO_QUANTIZE)
        try:
            result = bytes(work.quantize(limits, enable_progress_report=False).quantized_model)
        except (ValueError, RuntimeError, KeyError) as error:
            raise BadModel(
                f"{precision} of this .tflite failed: {error}",
                "convert the Keras model to it, or use dynamic or float16",
            ) from error
    result = write_model(rewrite_wide_biases(restore_names(read_model(result), parsed), parsed))
    return Quantized(result, stayed_float(result, f"the quantizer has no {precision} rule for it"))


def _convolutions() -> tuple[Any, ...]:
    from litert_quantizer.qtyping import TFLOperationName as Names

    return Names.CONV_2D, Names.DEPTHWISE_CONV_2D, Names.CONV_2D_TRANSPOSE


def rewrite_wide_biases(result: Any, original: Any) -> Any:
    """Quantize every 64-bit bias again, in place: round(bias / scale).

    litert_quantizer 0.11 clips them to 32 bits. A channel whose weights are almost zero has so small a scale that its
    bias does not fit there, and its output is then wrong by orders of magnitude (28 dB became 6 dB).
    """
    before = {tensor.name: tensor for tensor in original.subgraphs[0].tensors}
    graph = result.subgraphs[0]
    for operator in graph.operators:
        index = operator.inputs[2] if operator.inputs is not None and len(operator.inputs) > 2 else -1
        tensor = graph.tensors[index]
        source = before.get(tensor.name)
        if index < 0 or tensor.type != INT64 or tensor.quantization is None or source is None or source.type != FLOAT32:
            continue
        bias = np.frombuffer(bytes(original.buffers[source.buffer].data), np.float32).astype(np.float64)
        values = np.rint(bias / np.asarray(tensor.quantization.scale, np.float64)).astype(np.int64)
        result.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
        if hasattr(operator.builtinOptions, "quantizedBiasType"):
            operator.builtinOptions.quantizedBiasType = INT64  # without it some kernels read 32 bits
    return result


def collect_ranges(model: bytes, calibration: Samples, *, with_histogram: bool) -> dict[str, ActivationRange]:
    """What every float activation of the main graph takes on over the samples, by tensor name.

    Raises:
        BadData: the samples do not fit the inputs, there are none, or they make an activation NaN.

    """
    parsed = read_model(model)
    graph = parsed.subgraphs[0]
    watched = {
        index: ActivationRange(tensor.name.decode(), with_histogram)
        for index, tensor in enumerate(graph.tensors)
        if tensor.type == FLOAT32 and not is_constant(parsed, tensor)
    }
    for values in activations(model, calibration, frozenset(watched)):
        for index, array in values.items():
            watched[index].add(array)
    return {seen.name: seen for seen in watched.values() if seen.low <= seen.high}


def activations(
    model: bytes, calibration: Samples, tensors: frozenset[int]
) -> Iterator[dict[int, npt.NDArray[np.floating]]]:
    """What tensors of the main graph hold, by index, for one sample after another.

    A tensor that the runtime does not keep, since an operation has swallowed it, is missing.

    Raises:
        BadData: the samples do not fit the inputs, or there are none.

    """
    from ai_edge_litert.interpreter import Interpreter

    with quiet():
        interpreter = Interpreter(model_content=model, experimental_preserve_all_tensors=True, num_threads=1)
        interpreter.allocate_tensors()
    inputs = _inputs(interpreter)
    # An intermediate that a fused operation has swallowed is never written: only what has data is read.
    readable = {int(d["index"]) for d in interpreter.get_tensor_details()} & tensors
    n = 0
    for n, sample in enumerate(calibration(), 1):
        for name, detail in inputs.items():
            interpreter.set_tensor(detail["index"], _fit(sample, name, detail, n))
        interpreter.invoke()
        values = {}
        for index in sorted(readable):
            try:
                values[index] = interpreter.get_tensor(index)
            except ValueError:  # "Tensor data is null": the runtime does not keep this one
                readable.discard(index)
        yield values
    if n == 0:
        raise BadData("there is no calibration sample", "at least one is needed; 100 to 500 are usual")


def _inputs(interpreter: Any) -> dict[str, Any]:
    details = {int(d["index"]): d for d in interpreter.get_input_details()}
    for signature in interpreter._get_full_signature_list().values():  # noqa: SLF001 -- the public list lacks the indices
        if set(signature["inputs"].values()) == set(details):
            return {name: details[index] for name, index in signature["inputs"].items()}
    return {d["name"]: d for d in details.values()}


def _fit(sample: dict[str, npt.NDArray[Any]], name: str, detail: Any, n: int) -> npt.NDArray[Any]:
    if name not in sample:
        raise BadData(f"calibration sample {n} lacks input {name!r}", f"it has {', '.join(sample)}")
    array = np.asarray(sample[name], dtype=detail["dtype"])
    if array.shape != tuple(detail["shape"]):
        wanted = [int(size) for size in detail["shape"]]
        raise BadData(f"calibration sample {n}: input {name!r} is {list(array.shape)}, not {wanted}")
    return array
