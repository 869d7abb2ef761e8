"""The ResNet-8 that is trained on Fashion-MNIST for figures, and the same without batch normalization."""

from typing import Any

import numpy as np


def resnet8() -> Any:
    """ResNet-8 of MLPerf Tiny (Banbury et al., 2021, arXiv:2106.07597), for [N, 28, 28, 1]."""
    import keras

    layers = keras.layers

    def convolved(x: Any, filters: int, stride: int, name: str, size: int = 3) -> Any:
        x = layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False, name=name)(x)
        return layers.BatchNormalization(name=f"{name}_norm")(x)

    image = keras.Input((28, 28, 1), name="image")
    x = layers.ReLU()(convolved(image, 16, 1, "stem"))
    for i, (filters, stride) in enumerate(((16, 1), (32, 2), (64, 2)), start=1):
        y = layers.ReLU()(convolved(x, filters, stride, f"stack{i}_first"))
        y = convolved(y, filters, 1, f"stack{i}_second")
        x = x if stride == 1 else convolved(x, filters, stride, f"stack{i}_shortcut", size=1)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="probabilities")(x), name="resnet8")


def folded(model: Any) -> Any:
    """The same function without batch normalization: kernel * g and beta - mean * g, g = gamma / sqrt(var + epsilon).

    Every convolution of `model` is without bias, and its normalization is named after it.
    """
    import keras

    layers = keras.layers

    def clone(layer: Any) -> Any:
        biased = {"use_bias": True} if isinstance(layer, layers.Conv2D) else {}
        return type(layer).from_config(layer.get_config() | biased)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return args[0] if isinstance(layer, layers.BatchNormalization) else layer(*args, **kwargs)

    made = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in made.layers:
        weights = model.get_layer(layer.name).get_weights()
        if isinstance(layer, layers.Conv2D):
            norm = model.get_layer(f"{layer.name}_norm")
            gamma, beta, mean, variance = norm.get_weights()
            gain = gamma / np.sqrt(variance + norm.epsilon)
            weights = [weights[0] * gain, beta - mean * gain]
        layer.set_weights(weights)
    return made
