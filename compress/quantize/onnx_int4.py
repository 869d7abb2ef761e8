"""int4 weights in blocks of 32 for the matrix products and embeddings of a float ONNX model.

Operators MatMulNBits and GatherBlockQuantized of ONNX Runtime (domain com.microsoft), one scale and one zero point for
each block (Dettmers and Zettlemoyer, "The case for 4-bit precision", ICML 2023, arXiv:2212.09720, section 2.1).
"""

from typing import Any

import numpy as np

from compress.quantize import Quantized
from compress.quantize.onnx_model import finish, preprocess, read_model, require_float, stayed_float
from edge.errors import BadModel, CheckFailed
from edge.quiet import quiet

BLOCK = 32


def quantize_int4(model: bytes) -> Quantized:
    """int4 weights for matrix products and embeddings with constant weights; what stays float is named.

    Raises:
        BadModel: damaged, quantized already, or refused by ONNX Runtime's quantizer.
        CheckFailed: there is no such operation.

    """
    from onnxruntime.quantization import matmul_nbits_quantizer as nbits
    from onnxruntime.quantization.quant_utils import QuantFormat

    parsed = read_model(model)
    require_float(parsed)
    ready = preprocess(parsed)
    _products_of_dense_layers(ready)
    settings = nbits.DefaultWeightOnlyQuantConfig(
        block_size=BLOCK,
        is_symmetric=False,
        quant_format=QuantFormat.QOperator,
        op_types_to_quantize=("MatMul", "Gather"),
    )
    with quiet():
        try:
            work = nbits.MatMulNBitsQuantizer(ready, algo_config=settings)
            work.process()
        except (ValueError, TypeError, RuntimeError, KeyError, AttributeError) as error:
            raise BadModel(f"int4 of this ONNX model failed: {error}", "use quantize.dynamic") from error
    made = work.model.model
    if not any(node.op_type in ("MatMulNBits", "GatherBlockQuantized") for node in made.graph.node):
        raise CheckFailed(
            "quantize.int4 has nothing to treat: no matrix product and no embedding with constant weights",
            "use quantize.int8, which also covers convolutions",
        )
    content = finish(made)
    return Quantized(content, stayed_float(content, "int4 covers matrix products and embeddings"))


def _products_of_dense_layers(model: Any) -> None:
    """Every Gemm(x, W, b) with constant W as MatMul and Add, in place: the quantizer knows only MatMul."""
    from onnx import helper, numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        options = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        plain = options.get("alpha", 1.0) == options.get("beta", 1.0) == 1.0 and not options.get("transA", 0)
        if node.op_type != "Gemm" or not plain or node.input[1] not in constants:
            model.graph.node.append(node)
            continue
        weights = numpy_helper.to_array(constants[node.input[1]])
        name = f"{node.output[0]}_weights"
        turned = weights.T if options.get("transB", 0) else weights
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(turned), name))
        biased = len(node.input) > 2 and bool(node.input[2])
        product = f"{node.output[0]}_product" if biased else node.output[0]
        model.graph.node.append(helper.make_node("MatMul", [node.input[0], name], [product], f"{node.name}_MatMul"))
        if biased:
            model.graph.node.append(
                helper.make_node("Add", [product, node.input[2]], [node.output[0]], f"{node.name}_Add")
            )
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
