import numpy as np
import pytest

from compress.prune.channels.importance import bn_scale, is_scaled, l1, norm, taylor
from compress.prune.channels.structure import Structure, Term, macs, masked, saving, sliced


@pytest.fixture
def residual():
    """Two dense layers [3, 4] whose outputs are summed, scaled by a vector, and used by a third [4, 2]."""
    structure = Structure()
    first, second = structure.make("first", 4), structure.make("second", 4)
    structure.slot("w1", 1, "makes", first)
    structure.slot("w2", 1, "makes", second)
    structure.join(first, second)
    structure.slot("gamma", 0, "scales", first)
    structure.slot("w3", 0, "uses", first)
    return structure, first


def test_l1_is_the_mean_over_the_layers_that_make_a_channel(residual):
    structure, labels = residual
    weights = {
        "w1": np.array([[1, 2, 3, 2]] * 3, np.float32),
        "w2": np.array([[0, -4, 0, 0]] * 3, np.float32),
        "gamma": np.array([5, 0.5, -0.5, 2], np.float32),
    }
    found = l1(structure, lambda key: weights.get(key, np.zeros((4, 2))))
    assert found[structure.roots(labels)] == pytest.approx([0.25, 2.5, 0.75, 0.5])


def test_bn_scale_is_the_magnitude_of_gamma(residual):
    structure, labels = residual
    weights = {"gamma": np.array([4, -2, 1, 1], np.float32)}
    get = lambda key: weights.get(key, np.zeros((4, 4)))  # noqa: E731 - one line says it
    assert bn_scale(structure, get)[structure.roots(labels)] == pytest.approx([2, 1, 0.5, 0.5])
    assert is_scaled(structure, get)[structure.roots(labels)].all()


def test_taylor_is_the_squared_sum_over_the_weights_that_use_a_channel(residual):
    structure, labels = residual
    products = [{"w3": np.array([[1, 1], [1, -1], [0, 0], [2, 0]], np.float32)}, {"w3": np.zeros((4, 2), np.float32)}]
    assert taylor(structure, products)[structure.roots(labels)] == pytest.approx([2, 0, 0, 2])


def test_taylor_predicts_the_loss_of_a_linear_model():
    """For a linear loss the first order is exact: (Σ g w)² is the squared change when the channel goes."""
    rng = np.random.default_rng(0)
    structure = Structure()
    hidden = structure.make("hidden", 5)
    structure.slot("out", 0, "uses", hidden)
    activations, weight = rng.normal(size=5), rng.normal(size=(5, 3))
    direction = rng.normal(size=3)
    gradient = np.outer(activations, direction)
    changes = [(activations * (np.arange(5) == i)) @ weight @ direction for i in range(5)]
    found = taylor(structure, [{"out": gradient * weight}])[structure.roots(hidden)]
    assert found == pytest.approx(np.square(changes))


def test_norm_is_over_all_other_axes():
    assert norm(np.arange(-6, 6).reshape(2, 3, 2), 1).tolist() == [6 + 5 + 0 + 1, 4 + 3 + 2 + 3, 2 + 1 + 4 + 5]


def test_slices_masks_and_macs(residual):
    structure, labels = residual
    structure.terms.append(Term(3, (labels,)))
    (group,) = structure.groups()
    assert group.name == "first+second"
    assert saving(structure, group) == 3
    alive = structure.everything()
    alive[group.classes[1]] = False
    assert macs(structure, alive) == 9
    kernel = np.arange(8.0).reshape(4, 2)
    assert sliced(structure, "w3", kernel, alive).tolist() == [[0, 1], [4, 5], [6, 7]]
    assert masked(structure, "w3", kernel, alive).tolist() == [[0, 1], [0, 0], [4, 5], [6, 7]]
    assert sliced(structure, "w1", np.ones((3, 4)), alive).shape == (3, 3)


def test_channels_that_are_kept_say_why(residual):
    structure, labels = residual
    assert structure.keep(labels[:1], "they are an output of the model") == 1
    (group,) = structure.groups()
    assert len(group.classes) == 3
    assert "1 of its 4 channels stay: they are an output of the model" in structure.left_alone()[0].reason
    with pytest.raises(ValueError, match="4 channels cannot be joined with 3"):
        structure.join(labels, labels[:3])
