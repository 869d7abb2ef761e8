"""One traced function with batch 1 and the model's own names."""

from typing import Any

import numpy as np
import pytest

from convert.serving import serving
from edge.errors import BadModel


def test_the_function_answers_as_the_model_does(keras_cnn: Any, legacy_cnn: Any, images: Any) -> None:
    for model in (keras_cnn, legacy_cnn):
        module, inputs, outputs = serving(model)
        assert (inputs[0].name, inputs[0].shape) == ("image", (1, 8, 8, 1))
        assert (outputs[0].name, outputs[0].shape) == ("scores", (1, 3))
        assert np.allclose(module.serve(images[:1])["scores"], model(images[:1]), atol=1e-5)
        assert len(module.variables) >= len(model.weights)


def test_open_dimensions_and_strings_are_refused() -> None:
    import keras

    sequence = keras.Input((None, 2), name="sequence")
    with pytest.raises(BadModel, match="dimension 1 is not fixed"):
        serving(keras.Model(sequence, keras.layers.GlobalAveragePooling1D()(sequence)))
    text = keras.Input((1,), dtype="string", name="text")
    with pytest.raises(BadModel, match="takes strings"):
        serving(keras.Model(text, keras.layers.Identity()(text)))
