import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from compress.prune.magnitude import magnitude_pruner, mask, masks
from compress.prune.pruner import Schedule, polynomial, prunable
from compress.training import FineTune, fine_tune
from edge.errors import CheckFailed, UnknownName

kernels = npst.arrays(
    np.float32,
    npst.array_shapes(max_dims=4, max_side=6),
    elements=st.floats(-10, 10, width=32),
)
sparsities = st.floats(0, 0.999)


@given(kernels, sparsities)
def test_mask_drops_exactly_the_smallest(weights, sparsity):
    kept = mask(weights, sparsity)
    assert kept.shape == weights.shape
    assert np.count_nonzero(~kept) == round(sparsity * weights.size)
    if kept.any() and not kept.all():
        assert np.abs(weights[~kept]).max() <= np.abs(weights[kept]).min()


@given(kernels, st.lists(sparsities, min_size=2, max_size=4))
def test_masks_only_grow_while_pruned_weights_are_zero(weights, steps):
    pruned = np.zeros(weights.shape, np.bool_)
    weights = np.where(weights == 0, np.float32(1), weights)
    for sparsity in sorted(steps):
        kept = mask(weights, sparsity)
        assert not np.any(kept & pruned)
        pruned = ~kept
        weights = weights * kept


@given(st.lists(kernels, min_size=1, max_size=4), sparsities)
def test_global_masks_reach_the_sparsity_over_all_kernels(weights, sparsity):
    kept = masks(weights, sparsity, "global")
    assert [m.shape for m in kept] == [w.shape for w in weights]
    total = sum(w.size for w in weights)
    assert sum(np.count_nonzero(~m) for m in kept) == round(sparsity * total)
    for one, other in itertools.product(range(len(weights)), repeat=2):
        if (~kept[one]).any() and kept[other].any():
            assert np.abs(weights[one][~kept[one]]).max() <= np.abs(weights[other][kept[other]]).min()


def test_scope_decides_where_the_zeros_are():
    small, large = np.full((4, 4), 0.1, np.float32), np.full((4, 4), 9.0, np.float32)
    assert [np.count_nonzero(~m) for m in masks([small, large], 0.5, "global")] == [16, 0]
    assert [np.count_nonzero(~m) for m in masks([small, large], 0.5, "per_layer")] == [8, 8]


@given(st.floats(0, 100), st.floats(0.5, 100), sparsities)
def test_polynomial_rises_from_zero_to_the_sparsity(begin, length, sparsity):
    end = begin + length
    values = [polynomial(step, begin, end, sparsity) for step in np.linspace(begin, end, 20)]
    assert values[0] == 0
    assert values[-1] == pytest.approx(sparsity)
    assert all(b >= a - 1e-12 for a, b in itertools.pairwise(values))
    assert polynomial(begin - 1, begin, end, sparsity) == 0
    assert polynomial(end + 1, begin, end, sparsity) == sparsity


def test_schedule_follows_the_cubic_of_the_paper():
    # half way, an eighth of the sparsity is left to prune: 0.8 * (1 - 0.5**3)
    assert polynomial(50, 0, 100, 0.8) == pytest.approx(0.7)


@pytest.mark.parametrize(
    "setting",
    [{"sparsity": 1.0}, {"sparsity": -0.1}, {"begin": 0.5, "end": 0.5}, {"end": 1.5}, {"frequency_steps": 0}],
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match="must be"):
        Schedule(**setting)


@pytest.fixture(scope="module")
def fitted():
    """A separable network pruned for 30 steps: (model, its summary, its weights before)."""
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(8, 3, name="stem")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.DepthwiseConv2D(3, activation="relu", name="depthwise")(x)
    x = keras.layers.SeparableConv2D(16, 3, activation="relu", name="separable")(x)
    x = keras.layers.Flatten()(x)
    inner = keras.Sequential([keras.Input((64,)), keras.layers.Dense(12, name="hidden")], name="inner")
    model = keras.Model(image, keras.layers.Dense(3, name="logits")(inner(x)))
    rng = np.random.default_rng(0)
    images = rng.random((60, 8, 8, 3), np.float32)
    labels = rng.integers(0, 3, 60)
    pruner = magnitude_pruner(Schedule(sparsity=0.6, frequency_steps=4), "per_layer")
    batches = lambda epoch: (({"image": images[i : i + 20]}, labels[i : i + 20]) for i in (0, 20, 40))  # noqa: E731 - as short as it gets
    settings = FineTune(epochs=10, learning_rate=1e-2)
    summary = fine_tune(model, batches, 3, "crossentropy", [pruner], settings, lambda *_: None)
    return model, summary.transforms[0]


def test_pruned_weights_are_exactly_zero_in_every_kind_of_kernel(fitted):
    model, summary = fitted
    sparsity = {path.split("/", 1)[-1] if path.startswith("inner") else path: s for path, s in summary.figures.items()}
    assert set(sparsity) == {"stem/kernel", "separable/pointwise_kernel", "hidden/kernel", "logits/kernel"}
    by_path = {weight.path: weight.numpy() for weight in model.weights}
    for path, claimed in summary.figures.items():
        assert np.mean(by_path[path] == 0) == pytest.approx(claimed)
        assert claimed == pytest.approx(0.6, abs=0.5 / by_path[path].size + 1e-9)
        assert not np.signbit(by_path[path][by_path[path] == 0]).any()


def test_what_is_left_alone_is_said_and_is_dense(fitted):
    model, summary = fitted
    said = " | ".join(f"{entry.what}: {entry.reason}" for entry in summary.skipped)
    assert "depthwise/kernel" in said
    assert "separable/depthwise_kernel" in said
    assert "biases and normalization" in said
    assert np.all(model.get_layer("depthwise").get_weights()[0] != 0)


def test_only_the_layers_asked_for_are_pruned(fitted):
    model, _ = fitted
    chosen, skipped = prunable(model, "prune.magnitude", ("stem",))
    assert [kernel.path for kernel in chosen] == ["stem/kernel"]
    assert any("logits/kernel" in entry.what and "recipe" in entry.reason for entry in skipped)
    with pytest.raises(UnknownName, match="stam") as raised:
        prunable(model, "prune.magnitude", ("stam",))
    assert "stem" in raised.value.hint


def test_a_model_without_kernels_is_refused_with_the_reason():
    import keras

    model = keras.Sequential([keras.Input((5, 5, 2)), keras.layers.DepthwiseConv2D(3, name="only")])
    with pytest.raises(CheckFailed, match=r"nothing to prune.*a few values a channel"):
        magnitude_pruner(Schedule()).begin(model)


def test_a_kernel_that_is_emptied_is_an_error():
    import keras

    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(50, name="big"), keras.layers.Dense(1, name="weak")]
    )
    weak = model.get_layer("weak")
    weak.set_weights([weak.get_weights()[0] * 1e-6, weak.get_weights()[1]])
    pruner = magnitude_pruner(Schedule(sparsity=0.5))
    pruner.begin(model)
    pruner.step(1, 1)
    with pytest.raises(CheckFailed, match=r"left nothing of .*weak/kernel"):
        pruner.finish()


def test_a_weight_that_comes_back_is_found():
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, name="dense")])
    pruner = magnitude_pruner(Schedule(sparsity=0.5))
    pruner.begin(model)
    pruner.step(1, 1)
    kernel = model.get_layer("dense").kernel
    kernel.assign(np.ones(kernel.shape, np.float32))
    with pytest.raises(CheckFailed, match=r"10 pruned weights of .*dense/kernel are not 0"):
        pruner.finish()


def test_a_constant_schedule_prunes_all_at_its_begin():
    schedule = Schedule(sparsity=0.8, begin=0.2, end=0.6, kind="constant", frequency_steps=5)
    assert [schedule.at(step, 100) for step in (10, 20, 21, 60, 70)] == [None, 0.8, None, 0.8, None]


def test_depthwise_kernels_are_pruned_where_asked(fitted):
    model, _ = fitted
    chosen, _ = prunable(model, "prune.magnitude", depthwise=True)
    assert {"depthwise/kernel", "separable/depthwise_kernel"} <= {kernel.path for kernel in chosen}
