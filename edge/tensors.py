"""Tensor specifications and the affine quantization that models carry at their inputs and outputs."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Quantization:
    """Per-tensor affine quantization: real = scale * (q - zero_point).

    Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", CVPR 2018, equation 1.
    """

    scale: float
    zero_point: int


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    `shape` is the whole shape with the batch axis first; None is a dynamic dimension.
    `dtype` is numpy's name of the element type ("float32", "int8", …).
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    quantization: Quantization | None = None

    @property
    def example_shape(self) -> tuple[int | None, ...]:
        """The shape of one example: everything behind the batch axis."""
        return self.shape[1:]


def quantize(values: Array, spec: TensorSpec) -> Array:
    """Real values to the dtype of `spec`: clip(round(x / scale) + zero_point), half to even.

    Where `spec` has no quantization this is a plain cast. Shapes are kept.
    """
    dtype = np.dtype(spec.dtype)
    if spec.quantization is None or values.dtype == dtype:
        return np.asarray(values, dtype=dtype)
    limits = np.iinfo(dtype)
    scaled = np.rint(np.asarray(values, np.float32) / np.float32(spec.quantization.scale))
    clipped: Array = np.clip(scaled + spec.quantization.zero_point, limits.min, limits.max).astype(dtype)
    return clipped


def dequantize(values: Array, spec: TensorSpec) -> Array:
    """The inverse of `quantize`, as float32: scale * (q - zero_point). Other tensors pass unchanged."""
    if spec.quantization is None:
        return values
    centred = values.astype(np.float32) - np.float32(spec.quantization.zero_point)
    real: Array = centred * np.float32(spec.quantization.scale)
    return real
