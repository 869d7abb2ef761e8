"""Static int8 and int16x8 for a float ONNX model, in QDQ form, with weights per channel or per tensor.

Scheme: Jacob et al., CVPR 2018 (arXiv:1712.05877); form: ONNX QuantizeLinear and DequantizeLinear around operations.
Activations are uint8 and weights int8 ("u8s8"), the pair that ONNX Runtime has fast kernels for on x86. On x86 without
VNNI (before 2019) sums of two products are kept in 16 bits and can saturate, unless weights use seven bits only.
The graph is rewritten by ONNX Runtime. Its own calibrators keep all activations of all samples, so the ranges are
computed here, one sample at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from compress.quantize import Quantized, Samples
from compress.quantize.activation_ranges import ActivationRange, Method
from compress.quantize.onnx_model import finish, preprocess, read_model, require_float, stayed_float
from edge.errors import BadData, BadModel
from edge.quiet import quiet

# The standard QuantizeLinear has an axis (per-channel scales) from operator set 13 on, 16-bit integers from 21 on.
_OPSET = {"int8": 13, "int16x8": 21}


def quantize_static(
    model: bytes, calibration: Samples, method: Method = "minmax", precision: Literal["int8", "int16x8"] = "int8"
) -> Quantized:
    """Quantize weights and activations; inputs and outputs of the model stay float32.

    `calibration` gives {input name: [1, ...]} and is read once. Which `method` is best is for a measurement on
    validation data to say: try all three.

    Raises:
        BadModel: damaged, quantized already, or refused by ONNX Runtime's quantizer.
        BadData: the samples do not fit the inputs, there are none, or they make an activation NaN.

    """
    return observe(model, calibration, with_histogram=method != "minmax").quantized(method, precision)


def quantize_static_each(
    model: bytes,
    calibration: Samples,
    methods: Sequence[Method] = ("minmax", "entropy", "percentile"),
    *,
    per_channel: bool = True,
) -> dict[Method, Quantized]:
    """`quantize_static` to int8 by several methods from one pass over the calibration samples.

    `per_channel` false gives each kernel one scale: a smaller file, at some accuracy.

    Raises:
        BadModel: damaged, quantized already, or refused by ONNX Runtime's quantizer.
        BadData: the samples do not fit the inputs, there are none, or they make an activation NaN.

    """
    seen = observe(model, calibration, with_histogram=any(method != "minmax" for method in methods))
    return {method: seen.quantized(method, per_channel=per_channel) for method in methods}


@dataclass(frozen=True)
class Observed:
    """A float model, ready to be rewritten, and what its activations took on: many int8 models come of one pass."""

    model: Any
    ranges: dict[str, ActivationRange]

    def quantized(
        self,
        method: Method,
        precision: Literal["int8", "int16x8"] = "int8",
        *,
        per_channel: bool = True,
        reduce_range: bool = False,
    ) -> Quantized:
        """The model with integer weights and activations. `reduce_range` leaves weights seven bits of eight.

        Raises:
            BadModel: refused by ONNX Runtime's quantizer.
            BadData: the calibration samples made an activation NaN.

        """
        with quiet():
            try:
                limits = {name: seen.range(method) for name, seen in self.ranges.items()}
                result = rewrite(self.model, limits, precision, per_channel=per_channel, reduce_range=reduce_range)
            except (ValueError, TypeError, RuntimeError, KeyError, AttributeError) as error:
                raise BadModel(
                    f"{precision} of this ONNX model failed: {error}", "use dynamic int8 or float16"
                ) from error
        data = finish(result)
        return Quantized(
            data, stayed_float(data, f"ONNX Runtime has no {precision} rule for it, or its inputs are not constant")
        )


def observe(model: bytes, calibration: Samples, *, with_histogram: bool) -> Observed:
    """Run a float model once over the calibration samples; every method but minmax wants `with_histogram`.

    Raises:
        BadModel: damaged or quantized already.
        BadData: the samples do not fit the inputs, or there are none.

    """
    parsed = read_model(model)
    require_float(parsed)
    ready = preprocess(parsed)
    return Observed(ready, collect_ranges(ready, calibration, with_histogram=with_histogram))


def collect_ranges(model: Any, calibration: Samples, *, with_histogram: bool) -> dict[str, ActivationRange]:
    """What every float activation takes on over the samples, by tensor name. `model` is a ModelProto, unchanged.

    Raises:
        BadData: the samples do not fit the inputs, there are none, or they make an activation NaN.

    """
    import onnx
    import onnxruntime

    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    outputs = {value.name for value in model.graph.output}
    known = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    floats = {v.name for v in known if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT} - constants
    made = {name for node in model.graph.node for name in node.output}
    wide.graph.output.extend(
        value for value in model.graph.value_info if value.name in floats & made and value.name not in outputs
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Fusion would swallow the tensors that are to be seen.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(wide.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = {entry.name: entry for entry in session.get_inputs()}
    names = [entry.name for entry in session.get_outputs() if entry.name in floats]
    seen = {name: ActivationRange(name, with_histogram) for name in (*names, *(n for n in inputs if n in floats))}
    n = 0
    for n, sample in enumerate(calibration(), 1):
        feeds = {name: _fit(sample, entry, n) for name, entry in inputs.items()}
        for name, values in zip(names, session.run(names, feeds), strict=True):
            seen[name].add(values)
        for name in feeds.keys() & seen.keys():
            seen[name].add(feeds[name])
    if n == 0:
        raise BadData("there is no calibration sample", "at least one is needed; 100 to 500 are usual")
    return seen


def _fit(sample: dict[str, npt.NDArray[Any]], entry: Any, n: int) -> npt.NDArray[Any]:
    if entry.name not in sample:
        raise BadData(f"calibration sample {n} lacks input {entry.name!r}", f"it has {', '.join(sample)}")
    array = np.asarray(sample[entry.name])
    array = array.astype(np.float32) if entry.type == "tensor(float)" else array
    fits = len(array.shape) == len(entry.shape) and all(
        not isinstance(want, int) or want == have for want, have in zip(entry.shape, array.shape, strict=False)
    )
    if not fits:
        raise BadData(f"calibration sample {n}: input {entry.name!r} is {list(array.shape)}, not {list(entry.shape)}")
    return array


def rewrite(
    model: Any,
    ranges: dict[str, tuple[float, float]],
    precision: str,
    *,
    per_channel: bool,
    reduce_range: bool = False,
    nodes: Sequence[str] = (),
) -> Any:
    """A ModelProto in QDQ form, all of it or the nodes so named; `ranges` by tensor name. `model` is unchanged."""
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    source = model
    model = onnx.ModelProto()  # the quantizer changes what it is given
    model.CopyFrom(source)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < _OPSET[precision]:
        model = onnx.shape_inference.infer_shapes(onnx.version_converter.convert_version(model, _OPSET[precision]))
    limits = {n: (np.array(low, np.float32), np.array(high, np.float32)) for n, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        model,
        per_channel=per_channel,
        reduce_range=reduce_range,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8 if precision == "int8" else QuantType.QUInt16,
        tensors_range=TensorsData(CalibrationMethod.MinMax, limits),
        nodes_to_quantize=list(nodes),
        nodes_to_exclude=[],
        op_types_to_quantize=list({*QDQRegistry, *QLinearOpsRegistry}),
        extra_options={},
    )
    quantizer.quantize_model()
    return quantizer.model.model
