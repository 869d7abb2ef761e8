import numpy as np
import pytest

from recipes.train_fashion_mnist import BATCH_SIZE, OUT, augment, build, epochs_of, fold


@pytest.fixture(scope="module")
def committed():
    import keras

    return keras.models.load_model(OUT)


def test_the_committed_model_is_what_the_recipe_builds(committed):
    built = build(normalised=False)
    assert [layer.name for layer in committed.layers] == [layer.name for layer in built.layers]
    assert [w.shape for w in committed.weights] == [w.shape for w in built.weights]
    assert committed.count_params() <= 120_000
    assert OUT.stat().st_size < 1_000_000


def test_the_committed_model_gives_probabilities_of_ten_classes(committed):
    assert [tensor.name for tensor in committed.inputs] == ["image"]
    assert committed.output_names == ["probabilities"]
    noise = np.random.default_rng(0).random((4, 28, 28, 1), np.float32)
    probabilities = committed.predict(noise, verbose=0)
    assert probabilities.shape == (4, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_folding_batch_norm_keeps_the_function():
    trained = build(normalised=True)
    rng = np.random.default_rng(0)
    for layer in trained.layers:
        if layer.name.endswith("_norm"):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    images = rng.random((8, 28, 28, 1), np.float32)
    # float32 rounding over nine layers
    np.testing.assert_allclose(
        fold(trained).predict(images, verbose=0), trained.predict(images, verbose=0), rtol=1e-4, atol=1e-6
    )


def test_the_fused_norm_trains_like_keras_own():
    import keras

    batch = np.random.default_rng(0).random((16, 28, 28, 1), np.float32)
    fused = build(normalised=True)
    stem, norm = fused.get_layer("stem"), fused.get_layer("stem_norm")
    own = keras.layers.BatchNormalization()
    own.build(stem(batch).shape)
    np.testing.assert_allclose(norm(stem(batch), training=True), own(stem(batch), training=True), atol=1e-4)
    for one, other in zip(norm.get_weights(), own.get_weights(), strict=True):
        # the fused kernel keeps the unbiased variance: n / (n - 1) apart, n = 16 * 14 * 14
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)


def test_augmentation_moves_mirrors_and_erases_but_adds_nothing():
    images = np.zeros((300, 28, 28, 1), np.float32)
    images[:, 10:20, 4:10] = 0.5
    changed = augment(images.copy(), np.random.default_rng(0))
    assert changed.shape == images.shape
    assert changed.dtype == np.float32
    assert set(np.unique(changed)) == {0, 0.5}
    lit = (changed > 0).sum(axis=(1, 2, 3))
    assert lit.max() == 60
    assert 0 < (lit < 60).mean() < 0.5
    rows, columns = changed.any(axis=(2, 3)), changed.any(axis=(1, 3))
    whole = lit == 60
    assert set(rows[whole].argmax(axis=1)) == {8, 9, 10, 11, 12}
    assert set(columns[whole].argmax(axis=1)) == {2, 3, 4, 5, 6, 16, 17, 18, 19, 20}


def test_the_same_seed_gives_the_same_batches():
    rng = np.random.default_rng(1)
    images, labels = rng.random((2 * BATCH_SIZE, 28, 28, 1), np.float32), rng.integers(0, 10, 2 * BATCH_SIZE)
    first, second = epochs_of(images, labels, 3), epochs_of(images, labels, 3)
    for _ in range(3):
        (x, y), (x_again, y_again) = next(first), next(second)
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(y, y_again)
        assert x.shape == (BATCH_SIZE, 28, 28, 1)
        assert np.all(y.sum(axis=1) == 1)
