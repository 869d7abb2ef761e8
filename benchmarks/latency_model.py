"""How well a latency model of this machine's CPU knows a network it was not fitted on.

    python -m benchmarks.latency_model              24 networks; about half an hour, the first time
    python -m benchmarks.latency_model --slice      one small one, for CI; writes nothing
    python -m benchmarks.latency_model --development    generated networks, on which the way of fitting was chosen

Networks: those of recipes/, MLPerf Tiny's, MobileFaceNet, Moonshine's spelling and voice activity models (shared data),
small forms of keras.applications, and some that are built here, in float32 and, for most, in int8 (on random
calibration data; its time does not depend on values). LiteRT, one thread. The model is fitted on all networks
but one, the time of both forms of that one is estimated, and so on for each; the figure is the median over networks of
the error |estimated / measured - 1|, averaged over a network's forms. Measured times are least of rounds and are kept
below out/latency_model: remove that folder to measure again.
"""

import argparse
import functools
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import Figure, table, write
from edge.report import from_plain, to_json
from edgetool.search.latency_model import errors
from edgetool.search.op_times import TimedModel, time_models

REPOSITORY = Path(__file__).resolve().parent.parent
OUT = REPOSITORY / "out" / "latency_model"
ROUNDS = 3
GOAL, FEWEST = 0.15, 20
PROOF = REPOSITORY / "edge" / "proof_models" / "conv.tflite"
DRAWN = 6  # generated networks for development
FLOAT_ONLY = ("mobilenet", "mobilenet_v2", "mobilenet_v3", "efficientnet", "unet", "squeeze", "temporal", "wide")
RECIPES = ("breast_cancer", "diabetes", "fashion_mnist")
SHARED_FILES = {
    "ad01": ("mlperf_tiny/anomaly_detection/ad01_fp32", "mlperf_tiny/anomaly_detection/ad01_int8"),
    "resnet8": (
        "mlperf_tiny/image_classification/pretrainedResnet",
        "mlperf_tiny/image_classification/pretrainedResnet_quant",
    ),
    "resnet8_large": (
        "mlperf_tiny/image_classification/pretrainedResnet_large_float",
        "mlperf_tiny/image_classification/pretrainedResnet_large_int8",
    ),
    "kws": ("mlperf_tiny/keyword_spotting/kws_ref_model_float32", "mlperf_tiny/keyword_spotting/kws_ref_model"),
    "wakeword": (None, "mlperf_tiny/streaming_wakeword/str_ww_ref_model"),
    "person": ("mlperf_tiny/visual_wake_words/vww_96_float", "mlperf_tiny/visual_wake_words/vww_96_int8"),
    "mobilefacenet": ("mobilefacenet/MobileFaceNet", None),
    "spelling": ("moonshine_micro/spelling_cnn_mel_fp32", "moonshine_micro/spelling_cnn_mel_int8"),
    "voice_activity": (
        "moonshine_micro/tinyvad_cnn_speech_mel_fp32",
        "moonshine_micro/tinyvad_cnn_speech_mel_head16",
    ),
}


def _conv(x: Any, units: int, kernel: int = 3, strides: int = 1) -> Any:
    from keras import layers

    return layers.Conv2D(units, kernel, strides, padding="same", activation="relu")(x)


def _ended(entry: Any, x: Any, classes: int = 10) -> Any:
    import keras
    from keras import layers

    return keras.Model(entry, layers.Dense(classes, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


def vgg() -> Any:
    """Three stages of two convolutions."""
    import keras

    entry = x = keras.Input((32, 32, 3))
    for units in (16, 32, 64):
        x = keras.layers.MaxPooling2D()(_conv(_conv(x, units), units))
    return _ended(entry, x)


def residual() -> Any:
    """Three residual blocks, each after a stride of two."""
    import keras
    from keras import layers

    entry = x = keras.Input((48, 48, 3))
    for units in (16, 24, 40):
        x = _conv(x, units, strides=2)
        x = layers.ReLU()(layers.Add()([x, layers.Conv2D(units, 3, padding="same")(_conv(x, units))]))
    return _ended(entry, x)


def branches() -> Any:
    """Two blocks of four branches that are joined."""
    import keras
    from keras import layers

    entry = x = keras.Input((40, 40, 3))
    x = _conv(x, 24, strides=2)
    for units in (16, 24):
        pooled = layers.MaxPooling2D(3, 1, padding="same")(x)
        parts = [_conv(x, units, 1), _conv(_conv(x, units, 1), units), _conv(_conv(x, units // 2, 1), units, 5)]
        x = layers.MaxPooling2D()(layers.Concatenate()([*parts, _conv(pooled, units, 1)]))
    return _ended(entry, x)


def separable() -> Any:
    """Depthwise and pointwise layers over a spectrogram."""
    import keras
    from keras import layers

    entry = x = keras.Input((49, 40, 1))
    x = _conv(x, 48, 5, 2)
    for _ in range(4):
        x = _conv(layers.DepthwiseConv2D(3, padding="same", activation="relu")(x), 48, 1)
    return _ended(entry, x, 12)


def temporal() -> Any:
    """Dilated convolutions over time."""
    import keras
    from keras import layers

    entry = x = keras.Input((100, 40))
    for dilation in (1, 2, 4, 8):
        x = layers.Conv1D(48, 3, padding="same", dilation_rate=dilation, activation="relu")(x)
    return keras.Model(entry, layers.Dense(12)(layers.GlobalAveragePooling1D()(x)))


def wide() -> Any:
    """Dense layers only."""
    import keras
    from keras import layers

    entry = x = keras.Input((784,))
    for units in (512, 256, 128):
        x = layers.Dense(units, activation="relu")(x)
    return keras.Model(entry, layers.Dense(10)(x))


def unet() -> Any:
    """Down and up again, joined at each side."""
    import keras
    from keras import layers

    entry = keras.Input((48, 48, 3))
    first = _conv(entry, 12)
    second = _conv(layers.MaxPooling2D()(first), 24)
    x = _conv(layers.MaxPooling2D()(second), 48)
    x = _conv(layers.Concatenate()([layers.UpSampling2D(interpolation="bilinear")(x), second]), 24)
    x = _conv(layers.Concatenate()([layers.UpSampling2D(interpolation="bilinear")(x), first]), 12)
    return keras.Model(entry, layers.Conv2D(2, 1, activation="sigmoid")(x))


def squeeze() -> Any:
    """Narrow and wide layers in turn."""
    import keras
    from keras import layers

    entry = x = keras.Input((64, 64, 3))
    x = layers.MaxPooling2D()(_conv(x, 32, strides=2))
    for units in (8, 12, 16):
        x = _conv(x, units, 1)
        x = layers.Concatenate()([_conv(x, 4 * units, 1), _conv(x, 4 * units)])
    return _ended(entry, x)


def _application(name: str, side: int, **settings: Any) -> Callable[[], Any]:
    def build() -> Any:
        from keras import applications

        return getattr(applications, name)(input_shape=(side, side, 3), weights=None, classes=10, **settings)

    return build


# networks with fresh weights
BUILT: dict[str, Callable[[], Any]] = {
    "vgg": vgg,
    "residual": residual,
    "branches": branches,
    "separable": separable,
    "temporal": temporal,
    "wide": wide,
    "unet": unet,
    "squeeze": squeeze,
    "mobilenet": _application("MobileNet", 96, alpha=0.25),
    "mobilenet_v2": _application("MobileNetV2", 96, alpha=0.35),
    "mobilenet_v3": _application("MobileNetV3Small", 96, alpha=0.75, minimalistic=True),
    "efficientnet": _application("EfficientNetB0", 64),
}


NAMES = (*RECIPES, *BUILT)


def random_network(seed: int) -> Any:
    """For development: a network whose blocks, widths and sides are drawn."""
    import keras
    from keras import layers

    rng = np.random.default_rng(seed)
    side = int(rng.integers(20, 80))
    entry = x = keras.Input((side, side, int(rng.choice([1, 3]))))
    x = layers.Conv2D(int(rng.integers(8, 33)), int(rng.choice([3, 5])), 2, padding="same", activation="relu")(x)
    for _ in range(int(rng.integers(2, 7))):
        units, kind = int(8 * rng.integers(1, 13)), rng.choice(["conv", "separable", "residual", "pool", "inverted"])
        if kind == "pool":
            x = layers.MaxPooling2D(padding="same")(x)
        elif kind == "conv":
            x = layers.Conv2D(units, int(rng.choice([1, 3])), padding="same", activation="relu")(x)
        elif kind == "separable":
            x = layers.DepthwiseConv2D(3, int(rng.choice([1, 2])), padding="same", activation="relu")(x)
            x = layers.Conv2D(units, 1, activation="relu")(x)
        elif kind == "residual":
            x = layers.Add()([x, layers.Conv2D(x.shape[-1], 3, padding="same", activation="relu")(x)])
        else:
            y = layers.Conv2D(4 * x.shape[-1], 1, activation="relu")(x)
            y = layers.DepthwiseConv2D(3, padding="same", activation="relu")(y)
            x = layers.Add()([x, layers.Conv2D(x.shape[-1], 1)(y)])
    x = layers.GlobalAveragePooling2D()(x)
    if rng.random() < 0.5:
        x = layers.Dense(int(rng.integers(32, 300)), activation="relu")(x)
    return keras.Model(entry, layers.Dense(10)(x))


def files(names: dict[str, Callable[[], Any]], folder: Path) -> list[tuple[str, str, Path]]:
    """(name, family, .tflite) of each network's float32 and int8 form, converted once."""
    from convert.to_litert import to_litert

    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for family, build in names.items():
        forms = ("float32",) if family in FLOAT_ONLY else ("float32", "int8")
        missing = [form for form in forms if not (folder / f"{family}.{form}.tflite").is_file()]
        network = build() if missing else None
        for form in missing:
            print(f"converting {family} to {form}", flush=True)

            def noise(network: Any = network) -> Any:
                rng = np.random.default_rng(0)
                name, shape = network.inputs[0].name, (1, *network.inputs[0].shape[1:])
                return ({name: rng.normal(size=shape).astype(np.float32)} for _ in range(4))

            content = to_litert(network, form, noise if form == "int8" else None)  # type: ignore[arg-type]  # literals
            (folder / f"{family}.{form}.tflite").write_bytes(content)
        found += [(f"{family}.{form}", family, folder / f"{family}.{form}.tflite") for form in forms]
    return found


def shared() -> list[tuple[str, str, Path]]:
    """(name, family, .tflite) of the models in the shared data; none where it is not here."""
    root = Path(os.environ.get("EDGETOOL_DATA") or REPOSITORY.parent / "shared" / "data") / "models"
    return [
        (f"{family}.{form}", family, root / f"{path}.tflite")
        for family, paths in SHARED_FILES.items()
        for form, path in zip(("float32", "int8"), paths, strict=True)
        if path is not None and (root / f"{path}.tflite").is_file()
    ]


def timed(models: list[tuple[str, str, Path]], folder: Path) -> list[TimedModel]:
    """Each model timed once, kept by name."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [one for one in models if not (folder / f"{one[0]}.json").is_file()]
    for start in range(0, len(missing), 5):
        for one in time_models(missing[start : start + 5], ROUNDS, lambda _, what: None, folder / "lock"):
            (folder / f"{one.name}.json").write_text(to_json(one), encoding="utf-8")
            alone = sum(op.us or 0 for op in one.operations)
            print(f"{one.name}: {one.us:.1f} us whole, {alone:.1f} us in parts", flush=True)
    return [read_kept(folder, name) for name, *_ in models]


def read_kept(folder: Path, name: str) -> TimedModel:
    """A model that was timed before."""
    one: TimedModel = from_plain(TimedModel, json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
    return one


def recipes() -> dict[str, Callable[[], Any]]:
    """The reference models."""
    from convert.load import load_keras

    return {name: lambda name=name: load_keras(REPOSITORY / "recipes" / "models" / f"{name}.keras") for name in RECIPES}


def figures_of(models: list[TimedModel]) -> list[Figure]:
    """The median error over networks that were left out, with its bootstrap interval, and that of each network."""
    off = errors(models)
    values = np.array(list(off.values()))
    picks = np.random.default_rng(0).integers(0, len(values), (5000, len(values)))
    low, high = np.percentile(np.median(values[picks], axis=1), (2.5, 97.5))
    middle = float(np.median(values))
    met = middle <= GOAL and len(values) >= FEWEST
    found = [
        Figure("error", f"<= {GOAL}", middle, "of the time", (float(low), float(high)), met),
        Figure("networks", f">= {FEWEST}", len(values), "", None, len(values) >= FEWEST),
        Figure("files", "reported", len(models), "", None, met=True),
        Figure("operations", "reported", sum(len(one.operations) for one in models), "", None, met=True),
    ]
    named = sorted(off.items(), key=lambda entry: entry[1])
    return found + [Figure(f"error.{name}", "reported", one, "of the time", None, met=True) for name, one in named]


def main() -> int:
    """Time, fit, leave out; 1 where the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="store_true", help="one small network, for CI; writes nothing")
    parser.add_argument("--as-far-as", action="store_true", help="of what is timed already; with few networks not met")
    parser.add_argument("--development", action="store_true", help="generated networks; writes nothing")
    options = parser.parse_args()
    drawn = {f"random{k}": functools.partial(random_network, k) for k in range(DRAWN)}
    if options.slice:
        return _slice()
    if options.development:
        models = timed(files(drawn, OUT / "models"), OUT / "timed")
    elif options.as_far_as:
        names = [name for name, *_ in shared()] + [f"{name}.{form}" for name in NAMES for form in ("float32", "int8")]
        models = [read_kept(OUT / "timed", name) for name in names if (OUT / "timed" / f"{name}.json").is_file()]
    else:
        models = timed(shared(), OUT / "timed") + timed(files({**recipes(), **BUILT}, OUT / "models"), OUT / "timed")
    figures = figures_of(models)
    print(table([("latency_model", figure) for figure in figures]))
    if not options.development:
        write("latency_model", shlex.join(["python", "-m", "benchmarks.latency_model", *sys.argv[1:]]), figures)
    return 1 if any(not figure.met for figure in figures) else 0


def _slice() -> int:
    """One small network timed: every part takes a time that is below the whole's by no more than its calls."""
    with tempfile.TemporaryDirectory() as name:
        (one,) = time_models([("proof", "proof", PROOF)], 1, lambda *_: None, Path(name) / "lock")
        print(f"{one.us:.1f} us whole, {[op.us for op in one.operations]} us in parts")
        return 0 if one.us > 0 and all(op.us is None or op.us > 0 for op in one.operations) else 1


if __name__ == "__main__":
    sys.exit(main())
