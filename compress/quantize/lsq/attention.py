"""Multi-head attention as integer operations (Vaswani et al., "Attention is all you need", NIPS 2017, equation 1)."""

from typing import Any

from compress.quantize.lsq.graph import WIDE, Builder
from compress.quantize.lsq.recurrent import Untreatable


def multi_head_attention(b: Builder, layer: Any, given: list[str], keywords: dict[str, Any]) -> str:
    """softmax(Q K^T / sqrt(d)) V of every head; [B, T, in] -> [B, T, out].

    The projections are dense layers; 1/sqrt(d) is multiplied into the query's. Keras's arguments are (query, value,
    key), and the key is the value where it is left out.
    """
    import keras

    if keywords.get("use_causal_mask") or keywords.get("attention_mask") is not None:
        raise Untreatable("it is given a mask")
    if len(given) not in (2, 3) or layer._attention_axes not in (None, (1,), [1]):  # noqa: SLF001 - no public name
        raise Untreatable("it does not attend over axis 1 of (query, value) or (query, value, key)")
    query, value = given[:2]
    key = given[2] if len(given) == 3 else value
    if len(b.graph.shape(query)) != 3:
        raise Untreatable(f"its query has {len(b.graph.shape(query))} axes, not 3")
    heads, scale = int(layer.num_heads), float(layer.key_dim) ** -0.5

    def projected(name: str, x: str, part: Any, width: int, factor: float = 1.0) -> str:
        rows = b.graph.shape(x)[-1]

        def kernel() -> Any:
            return keras.ops.reshape(part.kernel, (rows, heads * width)) * factor

        def bias() -> Any:
            return keras.ops.reshape(part.bias, (heads * width,)) * factor

        weight = b.weight(f"{name}_kernel", "kernel", (rows, heads * width), kernel)
        shift = b.weight(f"{name}_bias", "bias", (heads * width,), bias) if part.bias is not None else None
        made = b.reshape(b.dense(x, weight, shift, what=name), (b.graph.shape(x)[1], heads, width))
        return b.wide(b.transpose(made, (0, 2, 1, 3)))

    q = projected("query", query, layer._query_dense, int(layer.key_dim), scale)  # noqa: SLF001 - no public name
    k = projected("key", key, layer._key_dense, int(layer.key_dim))  # noqa: SLF001 - as above
    v = projected("value", value, layer._value_dense, int(layer.value_dim))  # noqa: SLF001 - as above
    weights = b.unary("softmax", b.matmul(q, k, transpose_y=True, what="scores", grid=WIDE), grid=WIDE)
    mixed = b.unary("requantize", b.matmul(weights, v, what="mixed_wide", grid=WIDE), what="mixed")
    mixed = b.transpose(mixed, (0, 2, 1, 3))
    rows = heads * int(layer.value_dim)
    flat = b.reshape(mixed, (b.graph.shape(query)[1], rows))
    last = layer._output_dense  # noqa: SLF001 - as above
    width = int(last.kernel.shape[-1])

    def kernel() -> Any:
        return keras.ops.reshape(last.kernel, (rows, width))

    weight = b.weight("output_kernel", "kernel", (rows, width), kernel)
    shift = b.weight("output_bias", "bias", (width,), lambda: last.bias) if last.bias is not None else None
    return b.dense(flat, weight, shift, what="output")
