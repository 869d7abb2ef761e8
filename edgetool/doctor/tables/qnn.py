"""Qualcomm's Hexagon NPU by ONNX Runtime's QNN plugin; where the plugin is installed, its simulator says more."""

from edgetool.doctor.checks import fixed_shape
from edgetool.doctor.table import Table, names

QNN = Table(
    "qnn",
    "onnx",
    "onnxruntime-qnn docs/execution-providers/QNN-ExecutionProvider.md, supported ONNX operators",
    {
        **names(
            """Abs Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast Clip Concat Constant Conv
            ConvTranspose Cos CumSum DepthToSpace DequantizeLinear Div Einsum Elu Equal Exp Expand Flatten Floor
            GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GridSample
            GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization Inverse IsNaN LRN LSTM
            LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Max MaxPool Mean Min Mod Mul Neg NonZero Not Or
            PRelu Pad Pow QuantizeLinear RMSNormalization RandomNormalLike RandomUniformLike Reciprocal ReduceL2
            ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape RoiAlign RotaryEmbedding Round STFT
            ScatterElements ScatterND Selu Sigmoid Sign Sin Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub
            Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Unsqueeze Upsample Where Xor"""
        ),
        "DynamicQuantizeLinear": "only before ConvInteger or MatMulInteger",
        # the plugin fuses the decomposed exact GELU; another Erf is not in the list
        "Erf": "only as a part of GELU",
        "GRU": "of fixed length, with the default activations",
        "Gather": "with indices of 0 and above",
        "If": "with one output; both branches run",
        "LpNormalization": "p = 2",
        "LpPool": "p = 1 or 2",
        "MatMul": "8-bit, or 8 by 16 bits",
        "MatMulInteger": "only behind DynamicQuantizeLinear",
        "NonMaxSuppression": "with stored limits",
        "OneHot": "with stored depth and values",
        "QLinearMatMul": "with one scale a tensor",
        "Range": "with stored limits",
        "ReduceLogSumExp": "not quantized",
        "Resize": "not every coordinate mode",
        "Shape": "",
    },
    (fixed_shape,),
    compiler="the QNN plugin",
)
