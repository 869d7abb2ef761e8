"""Parameters and multiply-accumulates, by hand and the same in every format."""

from pathlib import Path
from typing import Any

import pytest

from convert.cost import count, count_keras
from convert.to_onnx import to_onnx
from tests import models

# Conv 3x3x1x8 on 6x6, depthwise 3x3x8 on 4x4, dense 128x3.
MACS = 36 * 9 * 8 + 16 * 9 * 8 + 128 * 3
PARAMS = 72 + 4 * 8 + (72 + 8) + (384 + 3)


def test_the_same_macs_in_keras_and_onnx(keras_cnn: Any, keras_file: Path, tmp_path: Path) -> None:
    assert count_keras(keras_cnn) == (PARAMS, MACS)
    assert count(keras_file, "keras") == (PARAMS, MACS)
    path = tmp_path / "cnn.onnx"
    path.write_bytes(to_onnx(keras_cnn))
    params, macs = count(path, "onnx")
    assert macs == MACS
    assert params <= PARAMS  # batch normalization is folded


def test_quantization_changes_no_count() -> None:
    params, macs = count(models.litert_float(), "tflite")
    assert count(models.litert_int8(), "tflite") == (params + 4, macs)  # one layer gets a bias of zeros
    assert count(models.onnx_mlp(), "onnx") == (16 * 32 + 32 + 32 * 4 + 4, 16 * 32 + 32 * 4)


def test_recurrent_layers_are_not_counted_rather_than_guessed() -> None:
    import keras

    sequence = keras.Input((5, 4))
    params, macs = count_keras(keras.Model(sequence, keras.layers.GRU(3)(sequence)))
    assert params == 3 * (4 * 3 + 3 * 3 + 2 * 3)
    assert macs is None


@pytest.mark.shared_data
def test_published_counts_of_mlperf_tiny(shared_data: Path) -> None:
    """MACs as in Banbury et al., "MLPerf Tiny Benchmark", NeurIPS 2021: KWS 2.7 M, IC 12.5 M, AD 0.27 M."""
    folder = shared_data / "models" / "mlperf_tiny"
    assert count(folder / "keyword_spotting/kws_ref_model.tflite", "tflite")[1] == 2_656_768
    assert count(folder / "image_classification/pretrainedResnet.h5", "h5") == (78_666, 12_501_632)
    assert count(folder / "anomaly_detection/ad01.h5", "h5")[1] == 264_192
