"""The device core: the standard library, numpy and one runtime (LiteRT or ONNX Runtime)."""

__version__ = "0.1.0"
