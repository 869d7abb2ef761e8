"""Coral's Edge TPU, from its page "TensorFlow models on the Edge TPU"."""

from edgetool.doctor.checks import fixed_shape, full_int8, small_softmax, three_inner_axes
from edgetool.doctor.table import Table, names

CORAL = Table(
    "coral",
    "tflite",
    "coral.ai/docs/edgetpu/models-intro, table of supported operations",
    {
        **names("ADD EXPAND_DIMS L2_NORMALIZATION LOGISTIC MAXIMUM MINIMUM MUL QUANTIZE RELU RELU6 RELU_N1_TO_1"),
        **names("RSQRT SLICE SPACE_TO_DEPTH SQUARED_DIFFERENCE SUB TANH TRANSPOSE"),
        "AVERAGE_POOL_2D": "no fused activation",
        "CONCATENATION": "no fused activation; a constant input must be all zeros, with one other",
        "CONV_2D": "the same dilation in x and y",
        "DEPTHWISE_CONV_2D": "the same dilation in x and y",
        "FULLY_CONNECTED": "weights in the default form, an output of one dimension",
        "MAX_POOL_2D": "no fused activation",
        "MEAN": "not along the batch; along the channels only where they are a multiple of 4",
        "PACK": "not along the batch",
        "PAD": "not along the batch",
        "PRELU": "alpha of one dimension (in Keras shared_axes=[1, 2])",
        "REDUCE_MAX": "not along the batch",
        "REDUCE_MIN": "not along the batch",
        "RESHAPE": "not of very large tensors",
        "RESIZE_BILINEAR": "not of every size, to keep precision",
        "RESIZE_NEAREST_NEIGHBOR": "not of every size, to keep precision",
        "SOFTMAX": "over one axis of at most 16,000 elements",
        "SPLIT": "not along the batch",
        "SQUEEZE": "only of leading dimensions",
        "STRIDED_SLICE": "strides of 1, no ellipsis, no new axis",
        "SUM": "not along the batch",
        "TRANSPOSE_CONV": "",
        "UNIDIRECTIONAL_SEQUENCE_LSTM": "",
    },
    (fixed_shape, full_int8, three_inner_axes, small_softmax),
    once=True,
    compiler="edgetpu_compiler",
)
