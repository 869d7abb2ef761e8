import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.distill.narrow import channels, narrow
from edge.errors import BadModel


@given(st.floats(0.01, 1), st.integers(1, 2048))
def test_no_layer_is_left_without_channels_or_gains_some(width, n):
    assert 1 <= channels(width, n) <= n


def test_every_layer_but_the_last_is_narrower_and_the_graph_stays():
    import keras

    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(8, 3, padding="same", name="stem")(image)
    y = keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = keras.layers.Conv2D(8, 1, name="pointwise")(keras.layers.BatchNormalization()(y))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([x, y]))
    x = keras.layers.Dense(3, name="head")(keras.layers.Dense(16, activation="relu", name="hidden")(x))
    model = keras.Model(image, keras.layers.Softmax()(x))
    made = narrow(model, 0.5, seed=1)
    shapes = {layer.name: tuple(layer.kernel.shape) for layer in made.layers if hasattr(layer, "kernel")}
    assert shapes == {
        "stem": (3, 3, 3, 4), "depthwise": (3, 3, 4, 1), "pointwise": (1, 1, 4, 4), "hidden": (4, 8), "head": (8, 3),
    }  # fmt: skip
    assert made.predict(np.zeros((2, 8, 8, 3), np.float32), verbose=0).shape == (2, 3)
    np.testing.assert_array_equal(made.get_weights()[0], narrow(model, 0.5, seed=1).get_weights()[0])


def test_what_cannot_be_narrower_is_refused_by_name():
    import keras

    rows = keras.Input((4,))
    residual = keras.Model(rows, keras.layers.Dense(2)(keras.layers.Add()([rows, keras.layers.Dense(4)(rows)])))
    with pytest.raises(BadModel, match=r"cannot be made 0\.5 as wide"):
        narrow(residual, 0.5)
    nested = keras.Sequential([keras.Input((4,)), keras.Sequential([keras.layers.Dense(4)], name="within")])
    with pytest.raises(BadModel, match="'within' is a model within"):
        narrow(nested, 0.5)
