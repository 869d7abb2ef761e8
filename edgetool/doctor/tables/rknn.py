"""Rockchip's NPU, from the operators that RKNN-Toolkit2 takes of an ONNX file."""

from convert.census import Operation
from edgetool.doctor.checks import batch_of_one, fixed_shape, resize_kinds
from edgetool.doctor.table import Problem, Table, names

_BATCH_1 = frozenset(["GRU", "LogSoftmax", "RoiAlign", "Slice", "Softmax", "Tile"])


def _batch_of_one(operation: Operation) -> Problem | None:
    return batch_of_one(operation) if operation.kind in _BATCH_1 else None


RKNN = Table(
    "rknn",
    "onnx",
    "rknn-toolkit2 doc/RKNNToolKit2_OP_Support-v2.1.0.md, ONNX; some of these run on its CPU cores",
    {
        **names(
            """Add And ArgMax ArgMin AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv
            ConvTranspose Cos DepthToSpace DequantizeLinear Div Dropout Elu Equal Erf Exp Expand Flatten Floor Gather
            GatherElements Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Identity
            InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log LpNormalization LRN LSTM MatMul Max
            MaxPool MaxRoiPool MaxUnpool MeanVarianceNormalization Min Mish Mod Mul Pad Pow PRelu QuantizeLinear
            ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape ReverseSequence ScatterND Shape Sigmoid Sin Size
            Softplus SpaceToDepth Split Sqrt Squeeze Sub Tanh Transpose Unsqueeze Where"""
        ),
        "EyeLike": "of a stored input",
        "GRU": "a batch of 1",
        "If": "of a stored condition",
        "LogSoftmax": "a batch of 1",
        "Resize": "nearest or linear over two axes",
        "RoiAlign": "by averages, a batch of 1",
        "Slice": "a batch of 1",
        "Softmax": "a batch of 1",
        "Tile": "a batch of 1, without broadcasting",
    },
    (fixed_shape, _batch_of_one, resize_kinds),
    compiler="rknn-toolkit2",
)
