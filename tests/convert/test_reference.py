"""Source models run in their own framework, in chunks, by the names of their inputs and outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.reference import predict, run
from edge.errors import BadData, BadModel
from tests import models


def test_predict_equals_the_framework_over_several_chunks(keras_file: Path, keras_cnn: Any, images: Any) -> None:
    outputs = predict(keras_file, "keras", {"image": images[:50]})
    assert outputs["scores"].shape == (50, 3)
    assert np.allclose(outputs["scores"], keras_cnn(images[:50]), atol=1e-5)


def test_a_fixed_batch_is_run_one_by_one(images: Any) -> None:
    import keras

    image = keras.Input(batch_shape=(1, 8, 8, 1), name="image")
    model = keras.Model(image, keras.layers.Flatten(name="flat")(image))
    assert np.array_equal(run(model, {"image": images[:3]})["flat"], images[:3].reshape(3, -1))


def test_data_that_does_not_fit_is_named(keras_cnn: Any, images: Any) -> None:
    with pytest.raises(BadData, match="no data for input 'image'"):
        run(keras_cnn, {"picture": images})
    with pytest.raises(BadData, match=r"input 'image' is \[64, 8, 8\]"):
        run(keras_cnn, {"image": images[..., 0]})
    with pytest.raises(BadModel, match=r"comes? from an engine"):
        predict(models.onnx_mlp(), "onnx", {})
