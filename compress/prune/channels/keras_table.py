"""The one table of Keras 3 layers: how channels pass through each kind.

A layer that is not in the table stops the channels that reach it: they are kept, and the layer is named.
"""

from dataclasses import replace
from typing import Any

from compress.prune.channels import keras_rules as rules
from compress.prune.channels import keras_sequence_rules as sequences
from compress.prune.channels.keras_use import Flows, Rule, Use
from compress.prune.channels.structure import positions


def rule_for(layer: Any) -> Rule | None:
    """The rule of a Keras layer or operation; None for a kind that is not in the table, or not Keras's own."""
    kind = type(layer)
    return RULES.get(kind.__name__) if kind.__module__.startswith("keras.") else None


def time_distributed(use: Use) -> Flows:
    """The layer inside, at every step."""
    inner = replace(
        use,
        layer=use.layer.layer,
        shapes=[(shape[0], *shape[2:]) for shape in use.shapes],
        out_shapes=[(shape[0], *shape[2:]) for shape in use.out_shapes],
        path=(*use.path, "layer", "config"),
        times=use.times * positions(use.shapes[0][1:2], use.name),
    )
    kind = type(inner.layer).__name__
    if kind not in INSIDE_TIME:
        return use.stop(f"how channels pass through {kind} inside it is not known")
    return RULES[kind](inner)


RULES: dict[str, Rule] = {
    "Dense": rules.dense,
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), rules.convolution),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), rules.transposed_convolution),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), rules.depthwise),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), rules.separable),
    "Embedding": rules.embedding,
    "BatchNormalization": rules.batch_norm,
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), rules.layer_norm),
    "PReLU": rules.prelu,
    "Activation": rules.activation,
    **dict.fromkeys(("ReLU", "LeakyReLU", "ELU", "Identity", "ActivityRegularization"), rules.same),
    **dict.fromkeys(("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise"), rules.same),
    **dict.fromkeys(("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"), rules.same),
    "Rescaling": rules.scaled,
    **dict.fromkeys((f"{kind}Pooling{n}D" for kind in ("Average", "Max") for n in (1, 2, 3)), rules.spatial),
    **dict.fromkeys((f"Global{kind}Pooling{n}D" for kind in ("Average", "Max") for n in (1, 2, 3)), rules.spatial),
    **dict.fromkeys(
        (f"{kind}{n}D" for kind in ("ZeroPadding", "Cropping", "UpSampling") for n in (1, 2, 3)), rules.spatial
    ),
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), rules.together),
    "Concatenate": rules.concatenate,
    **dict.fromkeys(("Flatten", "Reshape"), rules.reshape),
    "Permute": rules.permute,
    "RepeatVector": rules.repeat_vector,
    **dict.fromkeys(("GRU", "LSTM", "SimpleRNN", "RNN"), sequences.recurrent),
    "Bidirectional": sequences.bidirectional,
    "MultiHeadAttention": sequences.attention,
    "TimeDistributed": time_distributed,
    # Operations that stand in a graph without a layer around them.
    **dict.fromkeys(
        ("Relu", "Relu6", "Sigmoid", "Tanh", "Silu", "Gelu", "Elu", "Selu", "Softplus", "Mish"), rules.same
    ),
    **dict.fromkeys(
        ("HardSigmoid", "HardSilu", "HardTanh", "Softsign", "Exp", "Abs", "Negative", "Square"), rules.same
    ),
}
# What runs as a layer inside TimeDistributed: it sees one step, and its channels are last.
# fmt: off
INSIDE_TIME = frozenset([
    "Dense", "Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D",
    "SeparableConv1D", "SeparableConv2D", "BatchNormalization", "LayerNormalization", "Activation",
    "ReLU", "LeakyReLU", "ELU", "Dropout", "AveragePooling1D",
    "AveragePooling2D", "MaxPooling1D", "MaxPooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D",
])
# fmt: on
