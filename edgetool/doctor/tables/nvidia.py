"""TensorRT and CUDA as ONNX Runtime's execution providers."""

from edgetool.doctor.checks import conv_in_two_axes, resize_kinds, signed_steps
from edgetool.doctor.table import Table, names

TENSORRT = Table(
    "tensorrt",
    "onnx",
    "onnx-tensorrt docs/operators.md for TensorRT 8.4; later versions take more",
    {
        **names(
            """Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh BatchNormalization Cast Ceil Celu Clip Concat
            Constant Cos Cosh DepthToSpace Div Dropout Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather
            GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual
            HardSigmoid Identity ImageScaler IsNaN LeakyRelu Less LessOrEqual Log LogSoftmax Loop LRN LpNormalization
            LpPool MatMul Max Mean Min Mul Neg Not Or Pad ParametricSoftplus Pow PRelu ReduceL1 ReduceL2 ReduceLogSum
            ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round
            ScaledTanh Scan Scatter ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Sinh Size Softmax Softplus
            Softsign SpaceToDepth Split Sqrt Sub Sum Tan Tanh ThresholdedRelu Tile Transpose Upsample Where Xor"""
        ),
        "AveragePool": "over two or three axes",
        "ConstantOfShape": "of float32",
        "Conv": "over two or three axes, with stored weights",
        "ConvTranspose": "over two or three axes, with stored weights",
        "CumSum": "along a stored axis",
        "DequantizeLinear": "int8 with a zero point of 0",
        "Einsum": "without ellipsis and diagonals",
        "GRU": "with the same activations in both directions",
        # ONNX defines it as HardSigmoid and Mul, which the runtime makes of it
        "HardSwish": "",
        "If": "with branches of one shape",
        "InstanceNormalization": "with stored scale and bias, of three to five axes",
        "LSTM": "with the same activations in both directions",
        "MaxPool": "over two or three axes, without indices",
        "NonMaxSuppression": "with stored limits (experimental)",
        "QuantizeLinear": "int8 with a zero point of 0",
        "RandomUniform": "the seed is ignored",
        "RandomUniformLike": "the seed is ignored",
        "Range": "with stored limits where they are real",
        "Resize": "nearest or linear",
        "ReverseSequence": "of fixed shape",
        "RNN": "with the same activations in both directions",
        "Slice": "along stored axes",
        "Squeeze": "along stored axes",
        "TopK": "with a stored k",
        "Unsqueeze": "along stored axes",
    },
    (conv_in_two_axes, signed_steps, resize_kinds),
    compiler="TensorRT",
)

CUDA = Table(
    "cuda",
    "onnx",
    "ONNX Runtime docs/OperatorKernels.md, CUDAExecutionProvider",
    names(
        """Abs Add Affine And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Compress Concat
        ConcatFromSequence Constant ConstantOfShape Conv ConvTranspose Cos Crop CumSum DepthToSpace DequantizeLinear Div
        Dropout DynamicSlice Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND
        Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Identity If ImageScaler
        InstanceNormalization LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop MatMul
        MatMulInteger Max MaxPool Min Mod Mul Neg NonZero Not OneHot Or PRelu Pad ParametricSoftplus Pow QuantizeLinear
        RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2
        ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
        Resize ReverseSequence RoiAlign Round ScaledTanh Scan Scatter ScatterElements ScatterND Selu SequenceAt
        SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength Shape Shrink Sigmoid Sin Size Slice
        Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh ThresholdedRelu Tile TopK Transpose
        Unsqueeze Upsample Where Xor"""
    ),
)
