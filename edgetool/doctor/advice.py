"""What to put in place of an operation that an accelerator does not take, and what a compiled file is made for."""

from convert.census import Operation

# By the operation's name in either format. Each says what the field does instead.
CHANGES: dict[str, str] = {
    "ARG_MAX": "return the scores and take the argmax in the app",
    "ArgMax": "return the scores and take the argmax in the app",
    "BATCH_MATMUL": "a convolution of 1 x 1 or a dense layer, where one side is stored",
    "CAST": "keep one type: take the input as the model's own type",
    "DEQUANTIZE": "return int8: the app multiplies by the scale (edgetool convert --precision int8 does)",
    "Det": "compute it in the app",
    "DynamicQuantizeLinear": "static int8 with calibration: edgetool convert --precision int8 --data DATA",
    "ConvInteger": "static int8 with calibration: edgetool convert --precision int8 --data DATA",
    "MatMulInteger": "static int8 with calibration: edgetool convert --precision int8 --data DATA",
    "ELU": "ReLU or ReLU6, and train again",
    "EMBEDDING_LOOKUP": "look up in the app and feed the vectors",
    "Erf": "exact GELU -> its tanh approximation (approximate=True)",
    "GATHER": "look up in the app and feed the vectors",
    "Gather": "look up in the app and feed the vectors, where it is an embedding",
    "GELU": "ReLU6, or the tanh approximation where only the exact form is refused",
    "Gelu": "the tanh approximation, or ReLU",
    "GRU": "a one-step cell whose state the app carries, or a convolution over time",
    "HARD_SWISH": "ReLU6, and train again",
    "HardSwish": "ReLU6 (Clip 0..6), and train again",
    "IF": "export one branch",
    "If": "export one branch",
    "LayerNormalization": "batch normalization, which is folded away",
    "LEAKY_RELU": "ReLU or PReLU",
    "LSTM": "a one-step cell whose state the app carries, or a convolution over time",
    "Loop": "unroll it (unroll=True in Keras)",
    "MEAN": "average pooling",
    "Mish": "ReLU6, and train again",
    "NonMaxSuppression": "leave the boxes to the app",
    "NonZero": "leave it to the app",
    "OneHot": "leave it to the app",
    "POW": "multiply instead",
    "QLinearConv": "the QDQ form: quantize with edgetool convert --precision int8",
    "QLinearMatMul": "the QDQ form: quantize with edgetool convert --precision int8",
    "RESIZE_BILINEAR": "by a whole factor with align_corners=False, or a transposed convolution",
    "RESIZE_NEAREST_NEIGHBOR": "by a whole factor with align_corners=False",
    "RFFT2D": "compute the spectrum in the app and feed the features",
    "Resize": "nearest or linear by a whole factor",
    "RNN": "a one-step cell whose state the app carries",
    "SELECT_V2": "multiply by a mask",
    "SIN": "compute it in the app",
    "STFT": "compute the spectrum in the app and feed the features",
    "Scan": "unroll it",
    "SOFTMAX": "leave it to the app: the order of the classes stays the same",
    "Softmax": "leave it to the app: the order of the classes stays the same",
    "TOPK_V2": "return the scores and sort in the app",
    "TopK": "return the scores and sort in the app",
    "Trilu": "store the mask",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "a one-step cell whose state the app carries, or unroll=True",
    "WHILE": "unroll it (unroll=True in Keras), or a one-step cell whose state the app carries",
}
ELSE = "leave it out, or replace it by operations of the table"
ON_CPU = "nothing, unless a profile says that it takes long"


def change_for(kind: str, *, on_cpu: bool = False) -> str:
    """What to put in place of an operation; `on_cpu` where all that it loses is a faster kernel of the CPU."""
    return CHANGES.get(kind, ON_CPU if on_cpu else ELSE)


# Operations that a compiler left in a file: what the file is made for, where it runs, and the delegate that is.
_COMPILED: dict[str, tuple[str, str]] = {
    "DISPATCH_OP": ("an NPU, compiled by LiteRT", "litert-npu"),
    "EPContext": ("one SoC, compiled by an execution provider of ONNX Runtime", ""),
    "edgetpu-custom-op": ("Coral's Edge TPU, compiled by edgetpu_compiler; it runs with libedgetpu there", "coral"),
    "ethos-u": (
        "an Arm Ethos-U, compiled by Vela; it runs on TensorFlow Lite Micro with Arm's driver there",
        "ethos-u",
    ),
}
_CONTEXT_SOURCES = {"QNN": "qnn", "OpenVINO": "openvino", "OPENVINO": "openvino", "TensorRT": "tensorrt"}


def made_for(operations: tuple[Operation, ...]) -> tuple[str, str] | None:
    """(what a compiled file is made for, the delegate that runs it), None for a file that no compiler made."""
    for operation in operations:
        if operation.kind not in _COMPILED or not operation.custom:
            continue
        words, delegate = _COMPILED[operation.kind]
        source = str(operation.attributes.get("source", ""))
        if operation.kind == "EPContext" and source:
            known = [name for mark, name in _CONTEXT_SOURCES.items() if mark.lower() in source.lower()]
            return f"{words} ({source}); only that provider on that SoC runs it", known[0] if known else ""
        return words, delegate
    return None
