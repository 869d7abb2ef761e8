import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.prune.block import block_pruner, masks
from compress.prune.pruner import Schedule
from edge.errors import CheckFailed


@given(st.integers(2, 4), st.integers(1, 5), st.integers(1, 4), st.floats(0, 0.95), st.integers(0, 9))
def test_whole_blocks_go_the_smallest_first(block, inputs, blocks, sparsity, seed):
    rng = np.random.default_rng(seed)
    kernels = [rng.normal(size=(inputs, blocks * block)), rng.normal(size=(2, inputs, block))]
    kept = masks(kernels, sparsity, block, "global")
    assert [one.shape for one in kept] == [kernel.shape for kernel in kernels]
    whole = np.concatenate([one.reshape(-1, block) for one in kept])
    assert (whole.all(axis=1) | ~whole.any(axis=1)).all()
    assert (~whole).all(axis=1).sum() == round(sparsity * len(whole))
    largest = np.concatenate([np.abs(kernel).reshape(-1, block).max(axis=1) for kernel in kernels])
    gone = ~whole.any(axis=1)
    if gone.any() and not gone.all():
        assert largest[gone].max() <= largest[~gone].min()


def test_a_kernel_whose_outputs_do_not_fit_is_named():
    import keras

    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, name="body"), keras.layers.Dense(3, name="head")]
    )
    pruner = block_pruner(Schedule(0.5, frequency_steps=1), 4, "per_layer")
    pruner.begin(model)
    pruner.step(1, 1)
    summary = pruner.finish()
    assert [(path.split("/", 1)[-1], sparsity) for path, sparsity in summary.figures.items()] == [("body/kernel", 0.5)]
    assert any(entry.reason == "its 3 outputs are no multiple of 4" for entry in summary.skipped)
    with pytest.raises(CheckFailed, match="nothing to prune"):
        block_pruner(Schedule(0.5), 3).begin(keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)]))
