"""Arm's Ethos-U, from the report of Vela 5.2.0 (`vela --supported-ops-report`). Vela itself says more, where it is."""

from edgetool.doctor.checks import batch_of_one, fixed_but_batch, full_int8
from edgetool.doctor.table import Table, names

_BOTH = names(
    """ABS ADD ARG_MAX AVERAGE_POOL_2D BATCH_MATMUL CONCATENATION CONV_2D DEPTHWISE_CONV_2D ELU EXP EXPAND_DIMS
    FULLY_CONNECTED GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG PACK
    PAD PADV2 PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR
    RESIZE_NEAREST_NEIGHBOR REVERSE_V2 RSQRT SLICE SOFTMAX SPLIT SPLIT_V SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB
    SUM TANH TILE TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK"""
)
_U85 = names(
    """ASSIGN_VARIABLE CAST DIV EQUAL GATHER GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND LOGICAL_NOT LOGICAL_OR
    NOT_EQUAL READ_VARIABLE REDUCE_ALL REDUCE_ANY SCATTER_ND SELECT SELECT_V2"""
)
_CONDITIONS = {
    "CONV_2D": "8-bit weights; a stride above 3 only without dilation and padding",
    "DEPTHWISE_CONV_2D": "8-bit weights, stride 1 to 3",
    "RESIZE_BILINEAR": "by a power of two, the same in both axes",
    "RESIZE_NEAREST_NEIGHBOR": "by a power of two, the same in both axes",
}
_CHECKS = (fixed_but_batch, full_int8, batch_of_one)

ETHOS_U55 = Table(
    "ethos-u", "tflite", "Vela 5.2.0's report of supported operations, Ethos-U55 and U65",
    {**_BOTH, **_CONDITIONS}, _CHECKS, compiler="vela",
)  # fmt: skip
ETHOS_U85 = Table(
    "ethos-u", "tflite", "Vela 5.2.0's report of supported operations, Ethos-U85",
    {**_BOTH, **_U85, **_CONDITIONS}, _CHECKS[:2], compiler="vela",
)  # fmt: skip
