"""Every format is described by its own names; what cannot be resolved is named with its dimension."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.load import describe, keras_specs, load_keras, read_onnx
from convert.reference import run
from edge.errors import BadModel
from tests import models
from tests.convert.conftest import network

MLPERF = {
    "anomaly_detection/ad01.h5": ((1, 640), (1, 640)),
    "image_classification/pretrainedResnet.h5": ((1, 32, 32, 3), (1, 10)),
    "visual_wake_words/vww_96.h5": ((1, 96, 96, 3), (1, 2)),
    "streaming_wakeword/str_ww_ref_model.h5": ((1, 30, 1, 40), (1, 3)),
    "keyword_spotting/kws_ref_model": ((1, 49, 10, 1), (1, 12)),
}


def test_device_formats_are_described_without_tensorflow() -> None:
    import subprocess
    import sys

    program = (
        "import sys; from pathlib import Path; from convert.load import describe\n"
        "for path in sys.argv[1:]: a = describe(Path(path)); print(a.inputs[0].name, a.outputs[0].name, a.sha256[:8])\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
    )
    files = [str(models.litert_float()), str(models.onnx_conv())]
    done = subprocess.run([sys.executable, "-c", program, *files], capture_output=True, text=True, check=True)
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["image", "scores"], ["image", "scores"]]


def test_an_open_batch_becomes_1(keras_file: Path) -> None:
    for path in (keras_file, models.litert_dynamic_batch(), models.onnx_conv()):
        artifact = describe(path)
        assert artifact.inputs[0].shape[0] == 1
        assert artifact.outputs[0].shape == (1, 3)


def test_any_other_open_dimension_is_named_with_a_hint(tmp_path: Path) -> None:
    import keras
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "time", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "time", 4])],
    )
    path = tmp_path / "open.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    with pytest.raises(BadModel, match=r"input 'x' has shape \[1, \?, 4\]: dimension 1 is not fixed") as error:
        describe(path)
    assert error.value.hint
    sequence = keras.Input((None, 4), name="sequence")
    keras.Model(sequence, keras.layers.GRU(2)(sequence)).save(tmp_path / "open.keras")
    with pytest.raises(BadModel, match=r"input 'sequence' .* dimension 1 is not fixed"):
        describe(tmp_path / "open.keras")


def test_damaged_onnx_is_refused(tmp_path: Path) -> None:
    data = models.onnx_conv().read_bytes()
    path = tmp_path / "damaged.onnx"
    for content in (data[: len(data) // 2], data[:20], b"\x08\x08" + bytes(50), b"no model at all"):
        path.write_bytes(content)
        with pytest.raises(BadModel):
            read_onnx(path)


def test_nan_weights_are_refused(keras_cnn: Any, tmp_path: Path) -> None:
    import keras

    broken = keras.models.clone_model(keras_cnn)
    weights = broken.get_weights()
    weights[0][0] = np.nan
    broken.set_weights(weights)
    broken.save(tmp_path / "nan.keras")
    with pytest.raises(BadModel, match="NaN"):
        load_keras(tmp_path / "nan.keras")


def test_names_of_several_inputs_and_outputs_and_of_dictionaries() -> None:
    import keras

    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    shared = keras.layers.Dense(2, name="shared")
    both = keras.Model([right, left], [shared(right), shared(left)])
    inputs, outputs = keras_specs(both)
    assert [spec.name for spec in inputs] == ["right", "left"]
    assert [spec.name for spec in outputs] == ["shared", "shared_1"]
    named = keras.Model({"b": left, "a": right}, {"z": shared(left), "y": keras.layers.Dense(3)(right)})
    inputs, outputs = keras_specs(named)
    assert {spec.name: spec.shape for spec in outputs} == {"y": (None, 3), "z": (None, 2)}
    feeds = {"left": np.ones((2, 4), np.float32), "right": np.zeros((2, 4), np.float32)}
    assert np.allclose(run(named, feeds)["z"], shared(feeds["left"]))


def test_savedmodels_with_and_without_keras_layers_load(
    keras_cnn: Any, legacy_cnn: Any, images: Any, tmp_path: Path
) -> None:
    keras_cnn.export(tmp_path / "plain", verbose=False)
    legacy_cnn.save(tmp_path / "layers", save_format="tf")
    for folder, source in (("plain", keras_cnn), ("layers", legacy_cnn)):
        model = load_keras(tmp_path / folder)
        (output,) = run(model, {keras_specs(model)[0][0].name: images}).values()
        assert np.allclose(output, source(images), atol=1e-5)


def test_h5_of_both_keras_versions_loads(keras_cnn: Any, tmp_path: Path, images: Any) -> None:
    import tf_keras

    keras_cnn.save(tmp_path / "three.h5")
    network(tf_keras).save(tmp_path / "two.h5")
    for name in ("three.h5", "two.h5"):
        assert run(load_keras(tmp_path / name), {"image": images})["scores"].shape == (64, 3)


@pytest.mark.shared_data
def test_all_mlperf_tiny_sources_load(shared_data: Path) -> None:
    for name, (fed, given) in MLPERF.items():
        artifact = describe(shared_data / "models" / "mlperf_tiny" / name)
        assert (artifact.inputs[0].shape, artifact.outputs[0].shape) == (fed, given), name
