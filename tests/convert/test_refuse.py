"""Models that would run code, or read outside their folder, are refused before anything is loaded."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.load import describe, load_keras, read_onnx
from convert.refuse import refuse_h5, refuse_keras_archive, refuse_savedmodel
from edge.errors import BadModel


def _with_config(source: Path, target: Path, change: Any) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.namelist():
            content = old.read(entry)
            if entry == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            new.writestr(entry, content)
    return target


def _layer(**fields: Any) -> Any:
    def change(config: Any) -> None:
        config["config"]["layers"][3].update(fields)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_layer(class_name="Lambda"), "Lambda"),
        (_layer(module="os", class_name="system"), "os.system"),
        (_layer(module="kerasx.layers"), "kerasx"),
        (_layer(registered_name="Mine>Layer"), "Mine>Layer"),
        (_layer(class_name="TFSMLayer"), "TFSMLayer"),
    ],
)
def test_a_configuration_that_asks_for_code_is_refused(
    keras_file: Path, tmp_path: Path, change: Any, message: str
) -> None:
    path = _with_config(keras_file, tmp_path / "evil.keras", change)
    with pytest.raises(BadModel, match=message) as error:
        describe(path)
    assert error.value.hint is not None
    assert "--trust" in error.value.hint


def test_a_real_lambda_needs_trust_in_both_file_formats(tmp_path: Path) -> None:
    import keras
    import tf_keras

    marker = tmp_path / "ran"
    code = f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]"
    x = keras.Input((2,))
    keras.Model(x, keras.layers.Lambda(eval(code), output_shape=(2,))(x)).save(tmp_path / "lambda.keras")
    y = tf_keras.Input((2,))
    tf_keras.Model(y, tf_keras.layers.Lambda(eval(code))(y)).save(tmp_path / "lambda.h5")
    tf_keras.Model(y, tf_keras.layers.Lambda(eval(code))(y)).save(tmp_path / "saved", save_format="tf")
    for name in ("lambda.keras", "lambda.h5", "saved"):
        marker.unlink(missing_ok=True)
        with pytest.raises(BadModel, match="Lambda"):
            load_keras(tmp_path / name)
        assert not marker.exists(), f"loading {name} ran its code"
    model = load_keras(tmp_path / "lambda.keras", trust=True)
    assert np.allclose(model(np.ones((1, 2), np.float32)), 1)
    assert marker.exists()


def test_python_inside_a_savedmodel_graph_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.f = tf.function(
        lambda x: tf.numpy_function(lambda v: v, [x], tf.float32), input_signature=[tf.TensorSpec((1, 2))]
    )
    tf.saved_model.save(module, str(tmp_path), signatures=module.f)
    with pytest.raises(BadModel, match="PyFunc"):
        refuse_savedmodel(tmp_path)


def test_checksums_find_flipped_bits_and_truncation(keras_file: Path, tmp_path: Path) -> None:
    data = bytearray(keras_file.read_bytes())
    data[len(data) // 2] ^= 0x10
    path = tmp_path / "flipped.keras"
    path.write_bytes(bytes(data))
    with pytest.raises(BadModel, match="damaged"):
        refuse_keras_archive(path)
    path.write_bytes(keras_file.read_bytes()[: len(data) // 2])
    with pytest.raises(BadModel, match="damaged"):
        describe(path)


def test_h5_without_architecture_or_cut_short_is_refused(legacy_cnn: Any, tmp_path: Path) -> None:
    weights, whole, cut = tmp_path / "w.weights.h5", tmp_path / "whole.h5", tmp_path / "cut.h5"
    legacy_cnn.save_weights(weights)
    with pytest.raises(BadModel, match="without an architecture"):
        refuse_h5(weights)
    legacy_cnn.save(whole)
    cut.write_bytes(whole.read_bytes()[:-4000])
    with pytest.raises(BadModel, match="damaged"):
        describe(cut)


@pytest.mark.parametrize("place", ["absolute", "parent", "link", "absent", "short"])
def test_onnx_data_outside_the_folder_is_refused(tmp_path: Path, place: str) -> None:
    import onnx
    from onnx import TensorProto, helper

    home = tmp_path / "home"
    home.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(16))
    (home / "link.bin").symlink_to(secret)
    (home / "short.bin").write_bytes(bytes(4))
    location = {
        "absolute": str(secret),
        "parent": "../secret.bin",
        "link": "link.bin",
        "absent": "none.bin",
        "short": "short.bin",
    }[place]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], bytes(16), raw=True)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    path = home / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BadModel, match="tensor 'w' has its data at"):
        read_onnx(path)
    (home / "good.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    tensor.external_data[0].value = "good.bin"
    path.write_bytes(model.SerializeToString())
    values = onnx.numpy_helper.to_array(read_onnx(path).graph.initializer[0])
    assert values.tolist() == [0, 1, 2, 3]
