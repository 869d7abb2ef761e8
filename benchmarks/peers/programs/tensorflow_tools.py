"""The LiteRT converter and tensorflow-model-optimization: METHOD MODEL.h5 DATA.npz OUT.tflite EPOCHS LEARNING_RATE.

MODEL is of tf_keras, the only Keras that tfmot knows. Runs in the peer's environment. `float16`, `dynamic`, `int8`
are the converter alone; `qat` trains with fake quantization; `prune50` and `prune80` train while weights of
least magnitude become zero, then convert to int8; `finetune` trains and converts to int8 with nothing else: what
the training alone brings.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 128


def main(method: str, model: Path, data: Path, out: Path, epochs: int, rate: float) -> None:
    """Write `out`."""
    import tensorflow_model_optimization as tfmot  # first: it decides which Keras TensorFlow uses
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    loaded = tf_keras.models.load_model(model, compile=False)
    with np.load(data) as archive:
        calibration, images, labels = archive["calibration"], archive["x"], archive["y"]
    steps = max(1, epochs * (len(images) // BATCH))

    def fit(trained: Any, callbacks: list[Any]) -> None:
        trained.compile(
            tf_keras.optimizers.Adam(tf_keras.optimizers.schedules.CosineDecay(rate, steps)),
            tf_keras.losses.SparseCategoricalCrossentropy(),
        )
        trained.fit(images, labels, BATCH, epochs, verbose=2, callbacks=callbacks)

    if method == "qat":
        loaded = tfmot.quantization.keras.quantize_model(loaded)
        fit(loaded, [])
    elif method.startswith("prune"):
        schedule = tfmot.sparsity.keras.PolynomialDecay(
            0.0, int(method.removeprefix("prune")) / 100, 0, max(1, int(0.7 * steps)), frequency=max(1, steps // 50)
        )
        wrapped = tfmot.sparsity.keras.prune_low_magnitude(loaded, schedule)
        fit(wrapped, [tfmot.sparsity.keras.UpdatePruningStep()])
        loaded = tfmot.sparsity.keras.strip_pruning(wrapped)
    elif method == "finetune":
        fit(loaded, [])
    out.write_bytes(_converted(loaded, method, calibration))


def _converted(model: Any, method: str, calibration: Any) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]

    def rows() -> Iterator[list[Any]]:
        return ([row[None]] for row in calibration)

    if method == "float16":
        converter.target_spec.supported_types = [tf.float16]
    elif method not in ("dynamic", "qat"):
        converter.representative_dataset = rows
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    content: bytes = converter.convert()
    return content


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6]))
