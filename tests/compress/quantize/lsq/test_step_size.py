import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from compress.quantize.lsq.step_size import Grid, dequantize, fake_quantize, first_grid, gradients, quantize

values = npst.arrays(np.float32, npst.array_shapes(max_dims=2, max_side=8), elements=st.floats(-9, 9, width=32))
grids = st.builds(Grid, st.floats(1e-3, 1), st.integers(-128, 127))


@given(values, grids)
def test_quantizing_twice_changes_nothing(given_values, grid):
    once = fake_quantize(given_values, grid)
    assert np.array_equal(quantize(once, grid), quantize(given_values, grid))


@given(values, grids)
def test_inside_of_the_grid_the_error_is_at_most_half_a_step(given_values, grid):
    ends = dequantize(np.array([grid.low, grid.high]), grid)
    held = np.clip(given_values, *ends)
    assert np.abs(fake_quantize(given_values, grid) - held).max() <= grid.scale * 0.5001


@given(values)
def test_the_first_grid_is_no_worse_than_the_whole_range(given_values):
    for symmetric in (True, False):
        grid = first_grid(given_values, symmetric=symmetric)
        spread = max(float(np.ptp(np.append(given_values, 0))), 2 * float(np.abs(given_values).max()) * symmetric)
        assert np.mean(np.square(fake_quantize(given_values, grid) - given_values)) <= (spread / 254) ** 2 + 1e-12
        assert grid.zero_point == 0 or not symmetric


def test_gradients_are_those_of_the_paper():
    grid = Grid(0.5)
    by_value, by_step = gradients(np.array([0.6, 100.0, -100.0]), grid, np.array([1.0, 1.0, 1.0]))
    assert by_value.tolist() == [1.0, 0.0, 0.0]
    assert by_step == pytest.approx((1 - 1.2) + 127 - 128)


@settings(max_examples=20)  # TensorFlow runs each in many small steps
@given(values, grids)
def test_tensorflow_computes_the_same(given_values, grid):
    tf = pytest.importorskip("tensorflow")
    from compress.quantize.lsq.fake import straight_through

    given_values = given_values[np.abs(given_values / grid.scale % 1 - 0.5) > 1e-3]
    v, s = tf.constant(given_values), tf.constant(grid.scale, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch((v, s))
        made = straight_through(v, s, grid)
    by_value, by_step = tape.gradient(made, (v, s))
    expected = gradients(given_values, grid, np.ones_like(given_values))
    np.testing.assert_allclose(made, fake_quantize(given_values, grid), atol=1e-4)
    np.testing.assert_allclose(by_value, expected[0])
    np.testing.assert_allclose(by_step, expected[1], atol=0.05, rtol=1e-4)  # float32 sums against float64


@pytest.mark.parametrize("broken", [{"scale": 0.0}, {"scale": np.inf}, {"scale": 1.0, "zero_point": 200}])
def test_grids_check_themselves(broken):
    with pytest.raises(ValueError, match=r"step|zero point"):
        Grid(**broken)
