"""float16 weights and activations for a float ONNX model; inputs and outputs stay float32.

IEEE 754 binary16: https://onnxruntime.ai/docs/performance/model-optimizations/float16.html.
"""

from compress.quantize import Quantized
from compress.quantize.onnx_model import finish, read_model, require_float
from edge.errors import BadModel
from edge.quiet import quiet
from edge.report import Skipped


def quantize_float16(model: bytes) -> Quantized:
    """Convert to float16. A CPU without float16 arithmetic casts back while running: smaller, not faster there.

    Raises:
        BadModel: damaged, quantized already, or not convertible.

    """
    from onnxruntime.transformers.float16 import (
        DEFAULT_OP_BLOCK_LIST,
        convert_float_to_float16,
    )

    parsed = read_model(model)
    require_float(parsed)
    kinds = {node.op_type for node in parsed.graph.node}
    with quiet():
        try:
            result = convert_float_to_float16(parsed, keep_io_types=True)
        except (ValueError, TypeError, RuntimeError) as error:
            raise BadModel(f"float16 failed: {error}", "use static or dynamic int8") from error
    blocked = sorted(kinds & set(DEFAULT_OP_BLOCK_LIST))
    return Quantized(finish(result), tuple(Skipped(kind, "has no float16 kernel in ONNX Runtime") for kind in blocked))
