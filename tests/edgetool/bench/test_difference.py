import numpy as np

from edge.delegates import DELEGATES
from edge.tensors import Quantization, TensorSpec
from edgetool.bench.difference import WORST, difference

SCORES = TensorSpec("scores", (1, 3), "float32")
WANT = {"scores": np.array([[0.0, 1.0, 10.0], [5.0, 4.0, 3.0]])}


def held(have, spec=SCORES, delegate="webgpu", inner=None):
    return difference(
        WANT, {"scores": np.asarray(have)}, (spec,), DELEGATES[delegate], told="x", inner_steps=inner or {}, name="cpu"
    )


def test_a_float_output_is_held_to_a_share_of_its_range():
    found = held(WANT["scores"] + 0.005)
    assert (found.within, found.allowed) == (True, "0.001 of the range")
    assert np.isclose(found.relative, 0.0005)
    assert found.output_range == 10
    assert found.argmax_agreement == 1
    assert not held(WANT["scores"] + 0.02).within


def test_a_quantized_output_is_held_to_its_steps():
    spec = TensorSpec("scores", (1, 3), "int8", Quantization(0.1, 0))
    assert held(WANT["scores"] + 0.1, spec).within
    found = held(WANT["scores"] + 0.2, spec)
    assert (found.within, round(found.max_lsb, 6), found.allowed) == (False, 2, "1 LSB")
    assert held(WANT["scores"] + 0.2, spec, "qnn").within
    assert held(WANT["scores"] + 0.1, inner={"scores": 0.1}).max_lsb is not None


def test_what_cannot_be_compared_is_as_wrong_as_can_be():
    assert held(np.full((2, 3), np.nan)).max_abs == WORST
    assert not held(WANT["scores"][:1]).within
    other = held(WANT["scores"][:, ::-1])
    assert other.argmax_agreement == 0
