"""Each precision of each Keras converts, keeps its names and computes the same function in LiteRT."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from convert.flatbuffer import parse_flatbuffer, signature_specs
from convert.parity import TOLERANCES, compare
from convert.reference import run
from convert.to_litert import to_litert
from edge.engines import open_engine, predict
from edge.errors import BadData, BadModel, BadRecipe


def _outputs(model: bytes, feeds: dict[str, Any]) -> dict[str, Any]:
    engine = open_engine(model, "tflite")
    n = len(next(iter(feeds.values())))
    parts = [predict(engine, {k: v[i : i + 1] for k, v in feeds.items()}) for i in range(n)]
    engine.close()
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _samples(images: Any) -> Any:
    return lambda: ({"image": image[None]} for image in images)


@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic", "int8", "int16x8"])
def test_keras_3_in_every_precision(keras_cnn: Any, images: Any, precision: Any) -> None:
    model = to_litert(keras_cnn, precision, _samples(images))
    inputs, outputs = signature_specs(parse_flatbuffer(model))
    assert (inputs[0].name, inputs[0].shape, inputs[0].dtype) == ("image", (1, 8, 8, 1), "float32")
    assert outputs[0].name == "scores"
    reference = run(keras_cnn, {"image": images})
    found = compare(
        reference, _outputs(model, {"image": images}), quantization_scale=None, tolerance=TOLERANCES[precision]
    )
    assert found.first_divergence is None, found


def test_tf_keras_with_integer_ends(legacy_cnn: Any, images: Any) -> None:
    model = to_litert(legacy_cnn, "int8", _samples(images), io="int8")
    inputs, outputs = signature_specs(parse_flatbuffer(model))
    assert (inputs[0].dtype, outputs[0].dtype) == ("int8", "int8")
    assert outputs[0].quantization is not None
    found = compare(
        run(legacy_cnn, {"image": images}),
        _outputs(model, {"image": images}),
        quantization_scale=outputs[0].quantization.scale,
        tolerance=TOLERANCES["int8"],
    )
    assert found.first_divergence is None
    assert found.max_lsb is not None
    assert found.max_lsb < 20


def test_several_inputs_and_outputs_keep_their_names_and_order() -> None:
    import keras

    left, right = keras.Input((4,), name="zulu"), keras.Input((6,), name="alpha")
    first = keras.layers.Dense(2, name="second_out")(left)
    second = keras.layers.Dense(3, name="first_out")(right)
    model = keras.Model([left, right], [first, second])
    rng = np.random.default_rng(0)
    feeds = {"zulu": rng.normal(size=(5, 4)).astype("f"), "alpha": rng.normal(size=(5, 6)).astype("f")}
    found = _outputs(to_litert(model, "float32", None), feeds)
    for name, value in run(model, feeds).items():
        assert np.allclose(found[name], value, atol=1e-6)


def test_the_calibration_is_read_once_and_lazily(keras_cnn: Any, images: Any) -> None:
    seen: list[int] = []

    def samples() -> Iterator[dict[str, Any]]:
        for i, image in enumerate(images[:10]):
            seen.append(i)
            yield {"image": image[None]}

    to_litert(keras_cnn, "int8", samples)
    assert seen == list(range(10))


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"picture": np.zeros((1, 8, 8, 1), "f")}, "lacks input 'image'"),
        ({"image": np.zeros((8, 8, 1), "f")}, r"is \[8, 8, 1\], not \[1, 8, 8, 1\]"),
        ({"image": np.full((1, 8, 8, 1), np.nan, "f")}, "NaN"),
        (None, "no calibration sample"),
    ],
)
def test_samples_that_do_not_fit_are_named(keras_cnn: Any, sample: Any, message: str) -> None:
    with pytest.raises(BadData, match=message):
        to_litert(keras_cnn, "int8", lambda: iter([sample] if sample else []))


def test_options_that_do_not_exist(keras_cnn: Any) -> None:
    with pytest.raises(BadRecipe, match="int3"):
        to_litert(keras_cnn, "int3", None)  # type: ignore[arg-type]  # the error is the test
    with pytest.raises(BadRecipe, match="uint8"):
        to_litert(keras_cnn, "float32", None, io="uint8")
    with pytest.raises(BadData, match="needs calibration"):
        to_litert(keras_cnn, "int8", None)


def test_operations_without_a_device_kernel_are_named() -> None:
    import keras

    signal = keras.Input((16,), name="signal")
    spectrum = keras.layers.Lambda(keras.ops.erfinv, output_shape=(16,))(signal)
    with pytest.raises(BadModel, match=r"(?i)erfinv"):
        to_litert(keras.Model(signal, spectrum), "float32", None)


def test_a_rolled_gru_converts_with_batch_1() -> None:
    import keras

    sequence = keras.Input((5, 4), name="sequence")
    model = keras.Model(sequence, keras.layers.GRU(3, name="state")(sequence))
    feeds = {"sequence": np.random.default_rng(0).normal(size=(4, 5, 4)).astype("f")}
    found = _outputs(to_litert(model, "float32", None), feeds)
    assert np.allclose(found["state"], run(model, feeds)["state"], atol=1e-5)
