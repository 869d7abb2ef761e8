"""Occlusion explains models whose dependence is known; a model that looks at nothing is said to."""

import numpy as np
import pytest

from edge.errors import BadData
from edge.occlusion import BUDGET, averaged, blurred, occlude

PICTURE = np.random.default_rng(3).random((28, 28, 1)).astype(np.float32)


def linear(weights: np.ndarray):
    return lambda batch: np.tensordot(batch, weights, axes=weights.ndim)


def hottest(heat: np.ndarray, count: int) -> set[tuple[int, ...]]:
    order = np.argsort(-np.abs(heat), axis=None)[:count]
    return {tuple(int(i) for i in np.unravel_index(flat, heat.shape)) for flat in order}


def test_two_pixels_of_a_linear_model_are_found() -> None:
    picture = PICTURE.copy()
    picture[5, 20], picture[21, 3] = 1.0, 1.0
    weights = np.zeros((28, 28, 1))
    weights[5, 20], weights[21, 3] = 3.0, 2.0
    found = occlude(picture, np.zeros_like(picture), (0, 1), linear(weights))
    assert hottest(found.heat, 2) == {(5, 20), (21, 3)}
    assert found.score == pytest.approx(5.0, rel=1e-6)
    assert found.regions[0].drop == pytest.approx(3.0, rel=1e-6)
    assert found.deletion.faithful is True
    assert found.deletion.top_effect == pytest.approx(5.0, rel=1e-6)
    assert found.explains
    assert found.runs <= BUDGET


def test_channels_first_gives_the_same_map() -> None:
    weights = np.zeros((28, 28, 1))
    weights[4:8, 4:8] = 1.0
    last = occlude(PICTURE, np.zeros_like(PICTURE), (0, 1), linear(weights))
    first = occlude(PICTURE.transpose(2, 0, 1), np.zeros((1, 28, 28)), (1, 2), linear(weights.transpose(2, 0, 1)))
    np.testing.assert_allclose(last.heat, first.heat)


def test_a_time_slice_is_found_in_sound() -> None:
    sound = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    found = occlude(sound, np.zeros_like(sound), (0,), lambda batch: np.square(batch[:, 1000:1250]).sum(axis=1))
    inside, outside = found.heat[1000:1250].mean(), np.delete(found.heat, slice(900, 1350)).mean()
    assert inside > 20 * abs(outside)
    assert found.deletion.faithful is True


def test_columns_are_exact_and_both_directions_count() -> None:
    weights = np.array([0.0, 4.0, 0.0, -3.0, 0.5])
    row, mean = np.ones(5), np.zeros(5)
    found = occlude(row, mean, (0,), linear(weights), two_sided=True, parts=(5,))
    np.testing.assert_allclose(found.heat, weights)
    assert [region.start[0] for region in found.regions[:3]] == [1, 3, 4]
    assert found.deletion.faithful is True
    assert found.runs == 1 + 5 + 4


def test_a_constant_model_explains_nothing() -> None:
    found = occlude(PICTURE, np.zeros_like(PICTURE), (0, 1), lambda batch: np.full(len(batch), 0.3))
    assert not found.explains
    assert found.deletion.faithful is False
    assert not found.heat.any()


def test_steps_of_a_quantized_score_are_noise() -> None:
    weights = np.zeros((28, 28, 1))
    weights[3, 3] = 1 / 256

    def score(batch: np.ndarray) -> np.ndarray:
        return np.rint(linear(weights)(batch) * 256 + 100) / 256

    picture = PICTURE.copy()
    picture[3, 3] = 1.0
    assert not occlude(picture, np.zeros_like(picture), (0, 1), score, tick=1 / 256).explains
    assert occlude(picture, np.zeros_like(picture), (0, 1), score).explains


def test_a_map_that_says_nothing_is_called_unfaithful() -> None:
    """A score that is noise of the input's bytes: no patch stands for anything."""

    def score(batch: np.ndarray) -> np.ndarray:
        return np.array([np.random.default_rng(np.abs(example).sum().view(np.uint32)).random() for example in batch])

    verdicts = [
        occlude(picture, np.zeros_like(picture), (0, 1), score, budget=60).deletion.faithful
        for picture in np.random.default_rng(1).random((24, 8, 8)).astype(np.float32)
    ]
    assert verdicts.count(True) < 18  # by chance the top falls below the bottom in half of them


@pytest.mark.parametrize(
    ("height", "width", "budget"),
    [(1, 1, 8), (1, 40, 20), (40, 1, 9), (7, 33, 8), (13, 5, 90), (40, 40, 60), (3, 2, 400)],
)
def test_the_budget_holds_and_every_cell_is_covered(height: int, width: int, budget: int) -> None:
    example = np.ones((height, width))
    calls = []

    def score(batch: np.ndarray) -> np.ndarray:
        calls.append(len(batch))
        return batch.sum(axis=(1, 2))

    found = occlude(example, np.zeros_like(example), (0, 1), score, budget=budget)
    assert sum(calls) == found.runs <= budget
    covered = np.zeros((height, width), bool)
    for region in found.regions:
        assert all(0 <= a < b for a, b in zip(region.start, region.stop, strict=True))
        covered[region.start[0] : region.stop[0], region.start[1] : region.stop[1]] = True
    assert covered.all()
    np.testing.assert_allclose(found.heat, 1.0)  # every cell of this score counts alike


def test_progress_and_refusals() -> None:
    told = []
    occlude(
        PICTURE,
        averaged(PICTURE, (0, 1)),
        (0, 1),
        lambda b: b.sum(axis=(1, 2, 3)),
        progress=lambda *at: told.append(at),
    )
    assert told[-1][0] <= told[-1][1] == BUDGET
    with pytest.raises(BadData, match="budget"):
        occlude(PICTURE, PICTURE, (0, 1), lambda b: b.sum(axis=(1, 2, 3)), budget=2)
    with pytest.raises(BadData, match="NaN"):
        occlude(PICTURE, PICTURE, (0, 1), lambda b: np.full(len(b), np.nan))


def test_baselines_keep_shape_and_kind() -> None:
    raw = (PICTURE * 255).astype(np.uint8)
    assert blurred(raw, (0, 1)).dtype == np.uint8
    assert blurred(raw, (0, 1)).std() < raw.std() / 3
    np.testing.assert_allclose(blurred(PICTURE, (0, 1)), blurred(PICTURE.transpose(2, 0, 1), (1, 2)).transpose(1, 2, 0))
    features = np.arange(12.0).reshape(4, 3)
    np.testing.assert_allclose(averaged(features, (0,)), np.tile(features.mean(axis=0), (4, 1)))
