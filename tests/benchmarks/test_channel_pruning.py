"""The parts of benchmarks/channel_pruning.py that its figures stand on."""

from pathlib import Path

import numpy as np

from benchmarks.channel_pruning import BATCH, Data, normalised, with_others
from benchmarks.figures import Figure, write
from benchmarks.resnet8 import folded, resnet8


def _data(n: int) -> Data:
    rng = np.random.default_rng(0)
    images = rng.random((n, 28, 28, 1), np.float32)
    return Data(images, rng.integers(0, 10, n), images[:1], np.zeros(1, np.int64))


def test_a_folded_network_computes_the_same() -> None:
    model, images = resnet8(), _data(8).train
    rng = np.random.default_rng(1)
    # gamma, beta, mean and variance as training leaves them: none is 0 or 1
    model.set_weights([w + 0.1 * rng.random(w.shape, np.float32) if w.ndim == 1 else w for w in model.get_weights()])
    small = folded(model)
    assert not [layer.name for layer in small.layers if layer.name.endswith("_norm")]
    want = model.predict(images, verbose=0)
    assert np.ptp(want, axis=0).max() > 1e-4, "the images must be told apart"
    np.testing.assert_allclose(small.predict(images, verbose=0), want, atol=1e-5)
    assert len(normalised(small).get_weights()) == len(small.get_weights()) + 4 * 9


def test_an_epoch_has_the_same_images_for_all_seeds_each_with_what_the_teacher_says_of_it() -> None:
    data = _data(3 * BATCH)
    sums = data.seen_in(1).sum(axis=(1, 2, 3))
    taught = [np.zeros((3 * BATCH, 1), np.float32), sums[:, None]]
    seen = {seed: list(data.lessons(taught, seed, 1)) for seed in (0, 1)}
    for batches in seen.values():
        assert len(batches) == 3
        for inputs, _ in batches:
            image, said = inputs["image"], inputs["distill.logits"]
            np.testing.assert_array_equal(image.sum(axis=(1, 2, 3)), said[:, 0])
    first, second = (np.concatenate([inputs["distill.logits"] for inputs, _ in batches]) for batches in seen.values())
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first, axis=0), np.sort(second, axis=0))


def test_what_no_run_measured_is_written_as_such(tmp_path: Path) -> None:
    goals = {name: {"speedup": (">= 1", "x")} for name in ("a", "b", "c")}
    a, b = (Figure(f"{name}.speedup.seed0", ">= 1", 2.0, "x", None, met=True) for name in ("a", "b"))
    first = with_others("program", [b], goals, tmp_path)
    assert [(figure.name, figure.value, figure.met) for figure in first] == [
        ("b.speedup.seed0", 2.0, True), ("a.speedup", None, False), ("c.speedup", None, False),
    ]  # fmt: skip
    write("program", "", first, tmp_path)
    assert [figure.name for figure in with_others("program", [a], goals, tmp_path)] == [b.name, a.name, "c.speedup"]
