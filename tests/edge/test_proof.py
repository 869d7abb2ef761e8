"""A delegate counts when a network ran on it and said what its weights say."""

import dataclasses
import importlib.util
from collections.abc import Iterator

import numpy as np
import pytest

from edge import delegates, proof
from edge.delegates import DELEGATES, Delegate, difference, find_delegate, require_placement
from edge.engines.fake import FakeModel
from edge.errors import CheckFailed, UnknownName
from edge.proof import prove, prove_all
from edge.report import FallbackOp, Placement
from edge.tensors import TensorSpec

INPUT, OUTPUT = (TensorSpec("image", (1, 16, 16, 3), "float32"),), (TensorSpec("logits", (1, 10), "float32"),)
PLANTED = Delegate("planted", "fake", "fake", "npu", "Faults on demand", "nothing", "nothing to install")
CPU = [
    pytest.param("xnnpack", marks=pytest.mark.skipif(
        not any(importlib.util.find_spec(name) for name in ("ai_edge_litert", "tflite_runtime")),
        reason="LiteRT is not installed")),
    pytest.param("cpu", marks=pytest.mark.skipif(
        importlib.util.find_spec("onnxruntime") is None, reason="ONNX Runtime is not installed")),
]  # fmt: skip


@pytest.fixture
def planted(tmp_path) -> Iterator[object]:
    """Proves the delegate "planted" with a fake model of the given faults."""
    expected = np.load(proof.MODELS / "expected.npz")
    np.savez(tmp_path / "expected.npz", image=expected["image"], logits=_cosines(expected["image"]))

    def run(limit_s: float = 30.0, **faults: object) -> proof.Proof:
        (tmp_path / "conv.fake").write_bytes(FakeModel(INPUT, OUTPUT, **faults).to_bytes())
        return prove(PLANTED, limit_s=limit_s, models=tmp_path)

    return run


def _cosines(images: np.ndarray) -> np.ndarray:
    totals = [float(np.sum(image[None], dtype=np.float64)) for image in images]
    return np.cos(np.asarray(totals)[:, None] + np.arange(10))


@pytest.mark.parametrize("name", CPU)
def test_the_processor_is_proven_natively(name):
    found = prove(DELEGATES[name])
    assert (found.status, found.reason) == ("native", None)
    ran, total = found.proof.split(" operations")[0].split(" of ")
    assert ran == total
    assert int(total) >= 6


def test_a_delegate_that_keeps_its_word_is_native(planted):
    assert planted().status == "native"


@pytest.mark.parametrize(
    ("faults", "named"),
    [
        ({"planted_fallback": ("GELU", "TOPK")}, "GELU: planted: the delegate lacks it"),
        ({"planted_wrong": 0.25}, "computes wrongly: outputs differ by 0.125"),
        ({"planted_crash_at": 0, "crash_signal": "SIGABRT"}, "was killed by SIGABRT while loading conv.fake"),
        ({"planted_crash_at": 3}, "was killed by SIGSEGV while running conv.fake"),
        ({"planted_hang_at": 0}, "no answer within 6 s while loading conv.fake"),
        ({"planted_hang_at": 2}, "no answer within 6 s while running conv.fake"),
    ],
)
def test_a_planted_fault_is_named_and_makes_it_unavailable(planted, faults, named):
    # only a hang waits for its limit; the others may take as long as a busy machine needs
    found = planted(limit_s=6.0 if "planted_hang_at" in faults else 30.0, **faults)
    assert (found.status, found.proof) == ("unavailable", None)
    assert named in found.reason


def test_all_are_proven_in_the_order_of_the_table_while_one_of_them_crashes(planted, tmp_path):
    planted(planted_crash_at=0)
    heard = []
    two = (PLANTED, dataclasses.replace(PLANTED, name="cpu"))
    found = prove_all(two, limit_s=30, models=tmp_path, done=heard.append)
    assert [one.status for one in found] == ["unavailable", "native"]
    assert sorted(one.name for one in heard) == ["cpu", "planted"]


def test_every_row_of_the_table_says_what_to_do_without_it():
    for name, delegate in DELEGATES.items():
        assert name == delegate.name
        assert delegate.does
        assert delegate.needs
        assert delegate.install
        assert 0 < delegate.tolerance <= 0.05
        assert 1 <= delegate.tolerance_lsb <= 48


def test_the_default_delegate_has_its_old_name():
    assert find_delegate("cpu", "tflite").name == "xnnpack"
    assert find_delegate("cpu", "onnx").name == "cpu"
    with pytest.raises(UnknownName, match="xnpack") as caught:
        find_delegate("xnpack", "tflite")
    assert "xnnpack" in caught.value.hint


def test_only_named_operations_may_fall_back():
    placement = Placement("gpu", "gpu", 7, 9, (FallbackOp("TOPK", "no kernel"), FallbackOp("GELU", "no kernel")))
    with pytest.raises(CheckFailed, match="2 of 9 operations did not run on gpu") as caught:
        require_placement(placement)
    assert caught.value.hint == "--allow-fallback GELU,TOPK accepts it"
    with pytest.raises(CheckFailed, match="TOPK: no kernel"):
        require_placement(placement, ("GELU",))
    require_placement(placement, ("GELU", "TOPK"))


def test_a_difference_is_a_share_of_the_range():
    expected = np.array([[0.0, 10.0], [5.0, 5.0]])
    assert difference(expected + 0.5, expected) == pytest.approx(0.05)
    assert difference(expected[:1], expected) == np.inf
    assert np.isnan(difference(np.full((2, 2), np.nan), expected))
    assert difference(np.array([3.0]), np.array([1.0])) == 2.0
    assert delegates.difference(np.empty(0), np.empty(0)) == 0
