"""Train the reference depthwise-separable CNN for Fashion-MNIST.

    python recipes/train_fashion_mnist.py [--epochs N] [--out FILE]

Depthwise-separable blocks as in Howard et al., "MobileNets", 2017 (arXiv:1704.04861), section 3. Trained with batch
normalization, which is then folded into the convolutions: the delivered model computes the same function, and the
kernels that a pass prunes or quantizes are the kernels that run. Cosine learning rate, random shift, flip and erasing
(Zhong et al., "Random Erasing Data Augmentation", 2020), label smoothing. Test data is looked at once, at the end.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

REPOSITORY = Path(__file__).resolve().parent.parent
OUT = REPOSITORY / "recipes" / "models" / "fashion_mnist.keras"
STEM_CHANNELS = 32
# (output channels, stride). Few and wide: a channel costs about 28 bytes of scales and biases in an int8 file, and
# XNNPACK gains most from int8 where the 1x1 convolutions are large. Measured among sixteen shapes.
BLOCKS = ((96, 1), (160, 2), (192, 1), (256, 1))
BATCH_SIZE = 128
SEED = 0

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.integer[Any]]


def build(normalised: bool) -> Any:
    """The model [N, 28, 28, 1] in 0..1 -> class probabilities [N, 10]; with batch norm, or folded with biases."""
    import keras

    layers = keras.layers

    def finish(x: Any, name: str) -> Any:
        if normalised:
            x = _fused_batch_norm()(name=f"{name}_norm")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    image = keras.Input((28, 28, 1), name="image")
    stem = layers.Conv2D(STEM_CHANNELS, 3, strides=2, padding="same", use_bias=not normalised, name="stem")
    x = finish(stem(image), "stem")
    for i, (channels, stride) in enumerate(BLOCKS, start=1):
        depthwise = layers.DepthwiseConv2D(
            3, strides=stride, padding="same", use_bias=not normalised, name=f"block{i}_depthwise"
        )
        x = finish(depthwise(x), f"block{i}_depthwise")
        pointwise = layers.Conv2D(channels, 1, use_bias=not normalised, name=f"block{i}_pointwise")
        x = finish(pointwise(x), f"block{i}_pointwise")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    probabilities = layers.Dense(10, activation="softmax", name="probabilities")(x)
    return keras.Model(image, probabilities, name="fashion_mnist")


def _fused_batch_norm() -> type[Any]:
    """Batch normalization by TensorFlow's fused kernel: on a CPU Keras's own takes several times as long."""
    import keras
    import tensorflow as tf

    class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # keras is untyped
        def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
            if not training:
                return super().call(inputs, training=False, mask=mask)
            outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                inputs, self.gamma, self.beta, epsilon=self.epsilon, is_training=True
            )
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + tf.stop_gradient(batch) * (1 - self.momentum))
            return outputs

    return FusedBatchNormalization


def fold(trained: Any) -> Any:
    """The same function without batch norm: kernel * g and beta - mean * g, where g = gamma / sqrt(var + epsilon)."""
    folded = build(normalised=False)
    for layer in folded.layers:
        if not layer.weights:
            continue
        weights = trained.get_layer(layer.name).get_weights()
        if layer.name != "probabilities":
            norm = trained.get_layer(f"{layer.name}_norm")
            gamma, beta, mean, variance = norm.get_weights()
            gain = gamma / np.sqrt(variance + norm.epsilon)
            # a depthwise kernel is [3, 3, C, 1], any other [kh, kw, C_in, C_out]
            axes = gain[:, np.newaxis] if weights[0].shape[-1] == 1 else gain
            weights = [weights[0] * axes, beta - mean * gain]
        layer.set_weights(weights)
    return folded


def augment(images: Images, rng: np.random.Generator) -> Images:
    """Mirror half of [N, 28, 28, 1], shift each by up to 2 pixels, erase a rectangle of up to 10 x 10 in half."""
    n = len(images)
    mirrored = rng.random(n) < 0.5
    images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    top, left = rng.integers(0, 5, (2, n, 1))
    along = np.arange(28)
    images = padded[np.arange(n)[:, None, None], (top + along)[:, :, None], (left + along)[:, None, :]]
    height, width = rng.integers(3, 11, (2, n, 1)) * (rng.random((n, 1)) < 0.5)
    y, x = rng.integers(0, 28, (2, n, 1))
    rows = (along >= y) & (along < y + height)
    columns = (along >= x) & (along < x + width)
    images[rows[:, :, None] & columns[:, None, :]] = 0
    return images


def epochs_of(images: Images, labels: Labels, seed: int) -> Iterator[tuple[Images, npt.NDArray[np.float32]]]:
    """Endless augmented batches, reshuffled every epoch; labels one-hot [BATCH_SIZE, 10]."""
    rng = np.random.default_rng(seed)
    one_hot = np.eye(10, dtype=np.float32)
    while True:
        order = rng.permutation(len(images))
        for start in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
            chosen = order[start : start + BATCH_SIZE]
            yield augment(images[chosen], rng), one_hot[labels[chosen]]


def train(images: Images, labels: Labels, validation: tuple[Images, Labels], epochs: int) -> Any:
    """A trained model with batch norm. One line an epoch goes to stderr."""
    import keras

    keras.utils.set_random_seed(SEED)
    model = build(normalised=True)
    steps = len(images) // BATCH_SIZE
    rate = keras.optimizers.schedules.CosineDecay(
        1e-4, (epochs - 1) * steps, warmup_target=4e-3, warmup_steps=steps, alpha=0.0
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-2)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.05)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    started = time.monotonic()

    def line(epoch: int, logs: dict[str, float]) -> None:
        figures = " ".join(f"{name}={value:.4f}" for name, value in logs.items())
        print(f"epoch {epoch + 1}/{epochs} {time.monotonic() - started:.0f} s {figures}", file=sys.stderr, flush=True)

    model.fit(
        epochs_of(images, labels, SEED),
        steps_per_epoch=steps,
        epochs=epochs,
        validation_data=(validation[0], np.eye(10, dtype=np.float32)[validation[1]]),
        validation_batch_size=500,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=line)],
    )
    return model


def accuracy(model: Any, images: Images, labels: Labels) -> float:
    """The fraction of examples whose most probable class is the label."""
    return float(np.mean(model.predict(images, batch_size=500, verbose=0).argmax(axis=1) == labels))


def main() -> None:
    """Train, fold, save, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()

    sys.path.insert(0, str(REPOSITORY))
    from edgetool.data.fashion_mnist import load_arrays
    from edgetool.data.split import stratified_split

    x_train, y_train, x_test, y_test = load_arrays()
    scaled, tests = (x[..., np.newaxis].astype(np.float32) / np.float32(255) for x in (x_train, x_test))
    rest, drawn = stratified_split(y_train, 0.1, SEED)
    validation = (scaled[drawn], y_train[drawn])

    trained = train(scaled[rest], y_train[rest], validation, options.epochs)
    model = fold(trained)
    drift = float(np.max(np.abs(model.predict(tests[:500], verbose=0) - trained.predict(tests[:500], verbose=0))))
    if not math.isfinite(drift) or drift > 1e-4:  # float32 rounding over nine layers stays below 1e-5
        sys.exit(f"folding changed the outputs by {drift:g}, more than 1e-4")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    model.save(options.out)
    print(f"parameters       {model.count_params()}")
    print(f"file             {options.out.stat().st_size} bytes")
    print(f"val accuracy     {accuracy(model, *validation):.4f} of {len(drawn)}")
    print(f"test accuracy    {accuracy(model, tests, y_test):.4f} of {len(y_test)}")


if __name__ == "__main__":
    main()
