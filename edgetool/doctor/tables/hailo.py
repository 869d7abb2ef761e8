"""Hailo-8 and 8L. Hailo's own list is behind a registration; this is what others compiled and published."""

from edgetool.doctor.checks import conv_in_two_axes, fixed_shape, resize_kinds
from edgetool.doctor.table import Table, names

HAILO = Table(
    "hailo",
    "onnx",
    "github.com/SeSac01 hailotest: what Dataflow Compiler 3.32 compiled; the vendor's list is not public",
    {
        **names(
            """Add AveragePool BatchNormalization Clip Concat Constant Conv ConvTranspose Div Dropout Elu Erf Flatten
            Gelu Gemm GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity InstanceNormalization
            LayerNormalization LeakyRelu MaxPool Mul PRelu Pad Relu Resize Sigmoid Squeeze Sub Tanh Transpose"""
        ),
        # what quantized files are made of; the compiler quantizes by itself and wants the float file
        "DequantizeLinear": "give it the float file: the compiler quantizes by itself",
        "QuantizeLinear": "give it the float file: the compiler quantizes by itself",
        "MatMul": "with stored weights",
        "Reshape": "not between a mean and a dense layer",
    },
    (fixed_shape, conv_in_two_axes, resize_kinds),
    compiler="Hailo's Dataflow Compiler",
)
