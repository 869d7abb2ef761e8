import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.engines import import_runtime, open_engine, predict
from edge.engines.fake import FakeModel
from edge.engines.feeds import check, fixed
from edge.engines.litert import partition
from edge.errors import BadData, BadModel, BadRecipe, RuntimeMissing, UnknownName
from edge.report import FallbackOp, Placement
from edge.tensors import Quantization, TensorSpec

DATA = Path(__file__).parent / "data"
HAS_LITERT = any(importlib.util.find_spec(name) for name in ("ai_edge_litert", "tflite_runtime"))
HAS_ONNX = importlib.util.find_spec("onnxruntime") is not None
litert = pytest.mark.skipif(not HAS_LITERT, reason="LiteRT is not installed")
onnx = pytest.mark.skipif(not HAS_ONNX, reason="ONNX Runtime is not installed")
FLOAT_MODELS = [
    pytest.param("tiny.tflite", (1, 8, 8, 1), marks=litert),
    pytest.param("tiny.onnx", (1, 1, 8, 8), marks=onnx),
]


def made() -> object:
    """The script that made the fixtures: it knows the weights."""
    spec = importlib.util.spec_from_file_location("make", DATA / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reference(image: np.ndarray) -> np.ndarray:
    """The network of the fixtures in numpy: image [8, 8] -> scores [3]."""
    kernels = made().weights()
    padded = np.pad(image, ((0, 1), (0, 1)))
    stem = np.zeros((4, 4, 4))
    for y in range(4):
        for x in range(4):
            patch = padded[2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
            stem[y, x] = np.einsum("ij,ijc->c", patch, kernels["stem"][:, :, 0])
    padded = np.pad(np.maximum(stem, 0), ((1, 1), (1, 1), (0, 0)))
    depthwise = np.zeros((4, 4, 4))
    for y in range(4):
        for x in range(4):
            depthwise[y, x] = np.einsum("ijc,ijc->c", padded[y : y + 3, x : x + 3], kernels["depthwise"][..., 0])
    logits = np.maximum(depthwise, 0).mean((0, 1)) @ kernels["dense"]
    return np.exp(logits) / np.exp(logits).sum()


@pytest.mark.parametrize(("file", "shape"), FLOAT_MODELS)
def test_a_model_computes_what_its_weights_say(file, shape):
    engine = open_engine(DATA / file, file.split(".")[1])
    assert [(s.name, s.shape, s.dtype) for s in engine.inputs] == [("image", shape, "float32")]
    assert [(s.name, s.shape, s.dtype) for s in engine.outputs] == [("scores", (1, 3), "float32")]
    for seed in range(5):
        image = np.random.default_rng(seed).normal(0, 2, (8, 8)).astype(np.float32)
        scores = engine.run({"image": image.reshape(shape)})["scores"]
        # float32 sums of at most 36 terms of size 1
        np.testing.assert_allclose(scores[0], reference(image), atol=1e-5)
    engine.close()


@pytest.mark.parametrize(("file", "shape"), FLOAT_MODELS)
def test_bytes_run_as_the_file_does_and_outputs_are_owned(file, shape):
    model_format = file.split(".")[1]
    from_file = open_engine(DATA / file, model_format)
    from_bytes = open_engine((DATA / file).read_bytes(), model_format, threads=2)
    feeds = fixed(from_file.inputs)
    first = from_file.run(feeds)["scores"]
    kept = first.copy()
    np.testing.assert_allclose(from_bytes.run(feeds)["scores"], kept, atol=1e-6)
    from_file.run({"image": feeds["image"] + 3})
    np.testing.assert_array_equal(first, kept)
    first[:] = 9
    np.testing.assert_array_equal(from_file.run(feeds)["scores"], kept)


@pytest.mark.parametrize(("file", "shape"), FLOAT_MODELS)
def test_an_array_in_any_memory_order_gives_the_same_scores(file, shape):
    engine = open_engine(DATA / file, file.split(".")[1])
    image = fixed(engine.inputs)["image"]
    other = np.asfortranarray(np.repeat(image, 2, axis=-1))[..., ::2].reshape(shape, order="A")
    strided = np.zeros((*shape[:-1], shape[-1] * 2), np.float32)[..., ::2]
    strided[...] = image
    assert not strided.flags.c_contiguous
    assert other.shape == shape
    np.testing.assert_array_equal(engine.run({"image": strided})["scores"], engine.run({"image": image})["scores"])


@pytest.mark.parametrize(("file", "shape"), FLOAT_MODELS)
@pytest.mark.parametrize(
    ("feeds", "told"),
    [
        (lambda s: {}, "input 'image' is missing"),
        (lambda s: {"photo": np.zeros(s, np.float32)}, "no input 'photo'"),
        (lambda s: {"image": np.zeros(s, np.float32), "b": np.zeros(1)}, "no input 'b'"),
        (lambda s: {"image": np.zeros(s)}, "input 'image' takes float32, got float64"),
        (lambda s: {"image": np.zeros(s, ">f4")}, "input 'image' takes float32, got >f4"),
        (lambda s: {"image": np.zeros((2, *s[1:]), np.float32)}, "got [2, "),
        (lambda s: {"image": np.zeros(s[1:], np.float32)}, "input 'image' takes shape [1, "),
        (lambda s: {"image": np.zeros(s, np.float32).tolist()}, "takes a numpy array, got list"),
    ],
)
def test_feeds_that_do_not_fit_are_named_and_the_engine_goes_on(file, shape, feeds, told):
    engine = open_engine(DATA / file, file.split(".")[1])
    with pytest.raises(BadData) as caught:
        engine.run(feeds(shape))
    assert told in caught.value.message
    assert engine.run(fixed(engine.inputs))["scores"].shape == (1, 3)


@litert
def test_int8_in_and_out_is_within_a_few_steps_of_the_float_network():
    engine = open_engine(DATA / "tiny_int8.tflite", "tflite")
    (spec,), (given,) = engine.inputs, engine.outputs
    assert spec.dtype == given.dtype == "int8"
    assert given.quantization == Quantization(1 / 256, -128)
    for seed in range(5):
        image = np.random.default_rng(seed).random((1, 8, 8, 1))
        scores = predict(engine, {"image": image})["scores"]
        assert scores.dtype == np.float32
        # weights and activations of 8 bits; one step of the output is 1/256
        np.testing.assert_allclose(scores[0], reference(image[0, :, :, 0]), atol=4 / 256)
    native = engine.run(fixed(engine.inputs))["scores"]
    assert native.dtype == np.int8


@litert
def test_nan_has_no_integer_and_is_refused():
    engine = open_engine(DATA / "tiny_int8.tflite", "tflite")
    with pytest.raises(BadData, match="'image' contains NaN"):
        predict(engine, {"image": np.full((1, 8, 8, 1), np.nan)})


@litert
def test_a_signature_names_several_inputs_and_outputs():
    engine = open_engine(DATA / "tiny_fallback.tflite", "tflite")
    assert [spec.name for spec in engine.inputs] == ["left", "right"]
    left = np.array([[1, -2, 3, 0.5, 0, -1]], np.float32)
    right = np.array([[0, 1, -1, 0.25, 0.125, 2]], np.float32)
    outputs = engine.run({"right": right, "left": left})  # by name: the order does not matter
    total = np.maximum(left, 0) + 2 * right
    np.testing.assert_allclose(outputs["total"], np.tanh(total), atol=1e-6)
    np.testing.assert_array_equal(outputs["where"], [total.argmax()])
    assert outputs["where"].dtype == np.int32


@litert
def test_placement_names_the_operation_that_xnnpack_does_not_take():
    placement = open_engine(DATA / "tiny_fallback.tflite", "tflite").placement()
    reason = "not taken by XNNPACK; runs on the built-in kernel"
    assert placement == Placement("xnnpack", "xnnpack", 4, 5, (FallbackOp("ARG_MAX", reason),), partitions=1)


@litert
def test_placement_of_a_float_network_is_all_xnnpack():
    engine = open_engine(DATA / "tiny.tflite", "tflite")
    assert engine.placement() == Placement("xnnpack", "xnnpack", 5, 5, partitions=1)


@litert
def test_placement_agrees_with_a_partition_per_operation():
    """Without fusion the runtime makes one DELEGATE node per operation it takes: the count is its own."""
    for file in ("tiny.tflite", "tiny_fallback.tflite"):
        interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(
            str(DATA / file), experimental_disable_delegate_node_fusion=True
        )
        interpreter.allocate_tensors()
        nodes = sum(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())
        assert nodes == open_engine(DATA / file, "tflite").placement().ops_offloaded


def test_a_partition_ends_at_the_inputs_of_its_node():
    def op(index, inputs, outputs):
        return {"index": index, "inputs": inputs, "outputs": outputs}

    chain = [op(0, [0], [1]), op(1, [1, 9], [2]), op(2, [2], [3]), op(3, [3, 1], [4])]
    assert partition(chain, op(7, [2, 9], [3])) == {2}
    assert partition(chain, op(7, [0, 9], [4])) == {0, 1, 2, 3}
    assert partition(chain, op(7, [1, 9], [4])) == {1, 2, 3}


@onnx
def test_placement_of_an_onnx_model_counts_its_nodes():
    assert open_engine(DATA / "tiny.onnx", "onnx").placement() == Placement("cpu", "cpu", 7, 7)


@onnx
def test_onnx_runtime_is_imported_with_telemetry_off():
    code = "import os; from edge.engines.onnx import runtime; runtime(); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    env = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize(("file", "shape"), FLOAT_MODELS)
def test_a_damaged_model_is_one_line(file, shape, tmp_path):
    good = (DATA / file).read_bytes()
    for name, content in {"truncated": good[: len(good) // 2], "empty": b"", "text": b"hello " * 50}.items():
        path = tmp_path / f"{name}.{file.split('.')[1]}"
        path.write_bytes(content)
        with pytest.raises(BadModel) as caught:
            open_engine(path, file.split(".")[1])
        assert "\n" not in caught.value.message


@litert
@onnx
def test_one_format_is_not_the_other():
    with pytest.raises(BadModel, match=r"LiteRT cannot load tiny\.onnx"):
        open_engine(DATA / "tiny.onnx", "tflite")
    with pytest.raises(BadModel, match="ONNX"):
        open_engine(DATA / "tiny.tflite", "onnx")


def test_what_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(BadModel, match="no model file at"):
        open_engine(tmp_path / "none.tflite", "tflite")
    with pytest.raises(BadModel, match="no model file at"):
        open_engine(tmp_path, "tflite")
    with pytest.raises(UnknownName, match="unknown model format: 'tflit'") as caught:
        open_engine(DATA / "tiny.tflite", "tflit")
    assert "tflite" in caught.value.hint
    with pytest.raises(BadRecipe, match="threads is 0"):
        open_engine(FakeModel().to_bytes(), "fake", threads=0)
    with pytest.raises(UnknownName, match="delegate: 'gpu'"):
        open_engine(FakeModel().to_bytes(), "fake", delegate="gpu")


@pytest.mark.parametrize(("model_format", "extra"), [("tflite", "litert"), ("onnx", "onnx")])
def test_a_missing_runtime_names_the_extra(model_format, extra):
    code = (
        "import sys\n"
        "for name in ('ai_edge_litert', 'ai_edge_litert.interpreter', 'tflite_runtime', 'tflite_runtime.interpreter',"
        " 'onnxruntime'):\n"
        "    sys.modules[name] = None\n"
        "from edge.engines import import_runtime\n"
        "from edge.errors import RuntimeMissing\n"
        "try:\n"
        f"    import_runtime({model_format!r})\n"
        "except RuntimeMissing as error:\n"
        "    print(error.hint)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"pip install 'edgetool[{extra}]'"


def test_import_runtime_knows_its_formats():
    import_runtime("fake")
    with pytest.raises(UnknownName):
        import_runtime("keras")
    for present, model_format in ((HAS_LITERT, "tflite"), (HAS_ONNX, "onnx")):
        if present:
            import_runtime(model_format)
        else:
            with pytest.raises(RuntimeMissing):
                import_runtime(model_format)


def test_fixed_inputs_are_the_same_every_time_and_cover_the_integers():
    specs = (
        TensorSpec("real", (1, 1000), "float32"),
        TensorSpec("quantized", (1, 5000), "int8", Quantization(0.1, 3)),
        TensorSpec("tokens", (1, 4), "int64"),
    )
    first, again = fixed(specs), fixed(specs)
    for spec in specs:
        np.testing.assert_array_equal(first[spec.name], again[spec.name])
        check(specs, first)
    assert first["real"].min() >= 0
    assert first["real"].max() < 1
    assert (first["quantized"].min(), first["quantized"].max()) == (-128, 127)
    assert not first["tokens"].any()


def test_a_dynamic_length_has_no_fixed_input():
    with pytest.raises(BadModel, match=r"'audio' has the dynamic shape \[1, \?\]"):
        fixed((TensorSpec("audio", (1, None), "float32"),))


def test_check_lets_dynamic_dimensions_take_any_length():
    spec = TensorSpec("audio", (1, None), "float32")
    check((spec,), {"audio": np.zeros((1, 512), np.float32)})
    with pytest.raises(BadData, match=r"takes shape \[1, \?\], got \[1, 0\]"):
        check((spec,), {"audio": np.zeros((1, 0), np.float32)})
