"""Static int8 of the MLPerf Tiny models by this toolkit, against the int8 files of the reference.

python -m benchmarks.mlperf_tiny [DATA]      DATA holds models/mlperf_tiny and speech; default: EDGETOOL_DATA,
                                             else ../shared/data

Each model is quantized twice: from its Keras source by the LiteRT converter, and as a float .tflite by the LiteRT
quantizer; both are then compacted. Inputs and outputs are int8, as in the reference files. The size that counts is
that of the file from the Keras source.

Agreement with the float model is measured on real inputs where there are any: for keyword spotting 39 words, one clip
each, clean and under noises that calibration did not use (it used the same clips under other noises); for anomaly
detection every other log-mel window of one recording of 40 windows; for the streaming wake word every other one of 45
samples. For visual wake words and image classification there is none, so calibration was synthetic and the models
are unresolved, not shipped. Agreement says little where the float model gives one class to nearly everything: that
share stands beside it, and on the synthetic inputs it is almost all of them.

The reference's "kws_ref_model_float32.tflite" holds int8 weights (dynamic range) and cannot serve as a float source.
"""

import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.figures import Figure, write
from edge.report import Interval

Floats = npt.NDArray[np.float32]
RATE = 16_000
# tensorflow_datasets speech_commands 0.0.2, the order of the reference model's outputs.
KEYWORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "_silence_", "_unknown_")
LIMIT = 1.05
# Two noises whose header gives zero as the length of their samples: no reader gives what they hold.
HEADER_SAYS_EMPTY = frozenset({"white_4", "white_5"})
SYNTHETIC = "reported: calibration was synthetic; unresolved, not shipped"


@dataclass(frozen=True)
class Inputs:
    """What a model is calibrated on, what it is compared on, and how many independent sources the latter have."""

    calibration: Floats
    evaluation: Floats
    sources: int
    synthetic: bool = False


@dataclass(frozen=True)
class Model:
    """One reference model: its Keras source, its float .tflite where there is a true one, its int8 file."""

    name: str
    source: str
    float_tflite: str | None
    reference: str
    scores: bool = False


MODELS = (
    Model("kws", "keyword_spotting/kws_ref_model", None, "keyword_spotting/kws_ref_model.tflite"),
    Model(
        "ad",
        "anomaly_detection/ad01.h5",
        "anomaly_detection/ad01_fp32.tflite",
        "anomaly_detection/ad01_int8.tflite",
        scores=True,
    ),
    Model(
        "vww",
        "visual_wake_words/vww_96.h5",
        "visual_wake_words/vww_96_float.tflite",
        "visual_wake_words/vww_96_int8.tflite",
    ),
    Model(
        "ic",
        "image_classification/pretrainedResnet.h5",
        "image_classification/pretrainedResnet.tflite",
        "image_classification/pretrainedResnet_quant.tflite",
    ),
    Model("ww", "streaming_wakeword/str_ww_ref_model.h5", None, "streaming_wakeword/str_ww_ref_model.tflite"),
)


def mfcc(samples: Floats) -> Floats:
    """[16000] at 16 kHz -> [1, 49, 10, 1] as the reference computes them.

    Normalised by the largest sample; 30 ms Hann windows every 20 ms; 40 mel bins from 20 to 4000 Hz; log(x + 1e-6);
    the first ten MFCC. Source: mlcommons/tiny, benchmark/training/keyword_spotting/get_dataset.py.
    """
    import tensorflow as tf

    padded = np.zeros(RATE, np.float32)
    padded[: min(RATE, len(samples))] = samples[:RATE]
    padded /= max(float(padded.max()), 1e-9)
    spectrum = tf.abs(tf.signal.stft(padded, 480, 320, window_fn=tf.signal.hann_window))
    mel = tf.signal.linear_to_mel_weight_matrix(40, spectrum.shape[-1], RATE, 20.0, 4000.0)
    coefficients = tf.signal.mfccs_from_log_mel_spectrograms(tf.math.log(spectrum @ mel + 1e-6))[:, :10]
    return np.asarray(coefficients, np.float32).reshape(1, 49, 10, 1)


def clips(folder: Path) -> dict[str, Floats]:
    """Every wav file of a folder at 16 kHz, by its name without suffix, but those of `HEADER_SAYS_EMPTY`."""
    from scipy.io import wavfile  # type: ignore[import-untyped]  # no types; it reads 32-bit float wav, the standard library does not

    from edge.audio import resample

    found = {}
    for path in sorted(folder.glob("*.wav")):
        if path.stem in HEADER_SAYS_EMPTY:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks beside the samples
            rate, samples = wavfile.read(path)
        found[path.stem] = np.asarray(resample(samples.astype(np.float32), rate, RATE), np.float32)
    return found


def mixed(word: Floats, noise: Floats, snr_db: float, rng: np.random.Generator) -> Floats:
    """One second: the word at a random place, a random piece of the noise under it at `snr_db`."""
    word = word[:RATE]
    start = int(rng.integers(0, RATE - len(word) + 1))
    place = int(rng.integers(0, max(1, len(noise) - RATE)))
    result = np.zeros(RATE, np.float32)
    piece = noise[place : place + RATE]
    gain = math.sqrt(float(np.mean(word**2)) / max(float(np.mean(piece**2)), 1e-12) / 10 ** (snr_db / 10))
    result[: len(piece)] = piece * gain
    result[start : start + len(word)] += word
    return result


def keyword_inputs(data: Path) -> tuple[Inputs, Floats, list[str]]:
    """Calibration: words under one half of the noises. Evaluation: clean words, and words under the other half."""
    folder = data / "speech" / "speechcmd_samples"
    words, noises = clips(folder / "examples"), list(clips(folder / "noises").values())
    rng = np.random.default_rng(0)
    known, unseen = noises[::2], noises[1::2]

    def under(pool: list[Floats], each: int) -> list[Floats]:
        return [
            mfcc(mixed(word, pool[int(rng.integers(len(pool)))], float(rng.uniform(0, 20)), rng))
            for word in words.values()
            for _ in range(each)
        ]

    clean = np.concatenate([mfcc(word) for word in words.values()])
    calibration = np.concatenate([*under(known, 8), *(mfcc(noise) for noise in known)])
    evaluation = np.concatenate([clean, *under(unseen, 8)])
    return Inputs(calibration, evaluation, sources=len(words)), clean, list(words)


def inputs_of(model: Model, data: Path, shape: tuple[int, ...]) -> Inputs:
    """The inputs of every model but the keywords'."""
    folder = data / "models" / "mlperf_tiny"
    if model.name == "ad":
        windows = np.fromfile(folder / "normal_id_01_00000000_hist_librosa.bin", np.float32).reshape(-1, 640)
        return Inputs(windows[::2], windows[1::2], sources=len(windows) // 2)
    if model.name == "ww":
        with np.load(folder / "calibration_samples.npz", allow_pickle=False) as archive:
            specs = archive["specs"].astype(np.float32)
        return Inputs(specs[::2], specs[1::2], sources=len(specs) // 2)
    rng = np.random.default_rng(0)
    # Pictures in the range each model was trained on: 0 to 1 for VWW, 0 to 255 for IC; smoothed noise, which has
    # the strong low frequencies of pictures, unlike white noise.
    coarse = rng.uniform(0, 1, (200, 6, 6, shape[-1])).astype(np.float32)
    repeat = math.ceil(shape[0] / 6)
    pictures = coarse.repeat(repeat, 1).repeat(repeat, 2)[:, : shape[0], : shape[1]]
    pictures = np.clip(pictures + rng.normal(0, 0.05, pictures.shape), 0, 1).astype(np.float32)
    pictures *= 255.0 if model.name == "ic" else 1.0
    return Inputs(pictures[:100], pictures[100:], sources=100, synthetic=True)


def outputs(model: bytes, inputs: Floats) -> Floats:
    """Real-valued outputs of a .tflite on [n, ...], one by one."""
    from edge.engines import open_engine, predict

    engine = open_engine(model, "tflite")
    name, given = engine.inputs[0].name, engine.outputs[0].name
    result = np.concatenate([predict(engine, {name: row[None]})[given] for row in inputs])
    engine.close()
    return result


def wilson(share: float, n: int) -> Interval:
    """Two-sided 95 % interval of a share (Wilson, "Probable inference", JASA 1927)."""
    z = 1.959964
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def fisher(correlation: float, n: int) -> Interval:
    """Two-sided 95 % interval of a correlation (Fisher, Metron 1921, the z transformation)."""
    z, half = math.atanh(min(correlation, 1 - 1e-12)), 1.959964 / math.sqrt(max(n - 3, 1))
    return math.tanh(z - half), math.tanh(z + half)


def agreement(model: Model, inputs: Inputs, wanted: Floats, got: Floats, label: str) -> Figure:
    """Same class as the float model, or the correlation of anomaly scores (mean square error of reconstruction)."""
    goal = SYNTHETIC if inputs.synthetic else "reported"
    kind = "synthetic" if inputs.synthetic else "real"
    if model.scores:
        scores = [np.mean((inputs.evaluation - values) ** 2, axis=1) for values in (wanted, got)]
        value = float(np.corrcoef(scores[0], scores[1])[0, 1])
        interval = fisher(value, inputs.sources)
        return Figure(f"{model.name}.{label}.score_correlation_{kind}", goal, value, "", interval, met=True)
    value = float(np.mean(wanted.argmax(1) == got.argmax(1)))
    # The examples of one clip hang together: the interval counts clips, not examples.
    return Figure(
        f"{model.name}.{label}.argmax_agreement_{kind}", goal, value, "", wilson(value, inputs.sources), met=True
    )


def size_ratio(model: Model, data: Path, quantized: bytes, label: str, *, goal: bool) -> Figure:
    """Bytes of this toolkit's int8 file over the bytes of the reference's."""
    ratio = len(quantized) / (data / "models" / "mlperf_tiny" / model.reference).stat().st_size
    wanted = f"<= {LIMIT}" if goal else "reported"
    return Figure(f"{model.name}.{label}.size_ratio", wanted, ratio, "x", None, met=ratio <= LIMIT or not goal)


def measure(model: Model, data: Path) -> Iterator[Figure]:
    """All figures of one model."""
    from compress.quantize.litert_compact import compact
    from compress.quantize.litert_static import quantize_static
    from convert.load import keras_specs, load_keras
    from convert.reference import run
    from convert.to_litert import to_litert

    folder = data / "models" / "mlperf_tiny"
    keras_model = load_keras(folder / model.source)
    (source,), (target,) = keras_specs(keras_model)
    if model.name == "kws":
        inputs, clean, words = keyword_inputs(data)
        found = [KEYWORDS[i] for i in run(keras_model, {source.name: clean})[target.name].argmax(1)]
        right = float(np.mean([f == (w if w in KEYWORDS else "_unknown_") for f, w in zip(found, words, strict=True)]))
        yield Figure("kws.float.words_recognised", ">= 0.9", right, "", wilson(right, len(words)), met=right >= 0.9)
    else:
        inputs = inputs_of(model, data, tuple(size or 1 for size in source.shape[1:]))
    wanted = run(keras_model, {source.name: inputs.evaluation})[target.name]
    if not model.scores:
        share = float(np.bincount(wanted.argmax(1)).max() / len(wanted))
        yield Figure(f"{model.name}.float.most_frequent_class_share", "reported", share, "", None, met=True)

    def samples(name: str) -> Callable[[], Iterator[dict[str, Any]]]:
        return lambda: ({name: row[None]} for row in inputs.calibration)

    # One scale per output of a dense layer makes the autoencoder, which is dense layers only, 7 % larger than the
    # reference file and closer to the float model. The goal here is size, so it gets one scale a layer, as the
    # reference has; this is chosen for this model by name, and the other is reported beside it.
    dense = model.name != "ad"
    quantized = compact(to_litert(keras_model, "int8", samples(source.name), io="int8", dense_per_channel=dense))
    yield size_ratio(model, data, quantized, "keras", goal=True)
    yield agreement(model, inputs, wanted, outputs(quantized, inputs.evaluation), "keras")
    if not dense:
        other = compact(to_litert(keras_model, "int8", samples(source.name), io="int8"))
        yield size_ratio(model, data, other, "keras_dense_per_channel", goal=False)
        yield agreement(model, inputs, wanted, outputs(other, inputs.evaluation), "keras_dense_per_channel")
    reference = (folder / model.reference).read_bytes()
    yield agreement(model, inputs, wanted, outputs(reference, inputs.evaluation), "reference_file")
    flat_source = model.float_tflite
    plain = (folder / flat_source).read_bytes() if flat_source else to_litert(keras_model, "float32", None)
    fed = _input_name(plain)
    flat = compact(quantize_static(plain, samples(fed), io="integer", dense_per_channel=dense).model)
    yield size_ratio(model, data, flat, "tflite", goal=True)
    yield agreement(model, inputs, wanted, outputs(flat, inputs.evaluation), "tflite")


def _input_name(model: bytes) -> str:
    from edge.engines import open_engine

    engine = open_engine(model, "tflite")
    name = engine.inputs[0].name
    engine.close()
    return name


def main(arguments: list[str]) -> None:
    """Measure every model and write benchmarks/results/mlperf_tiny.json."""
    default = os.environ.get("EDGETOOL_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
    data = Path(arguments[0] if arguments else default)
    figures: list[Figure] = []
    for model in MODELS:
        for figure in measure(model, data):
            print(f"{figure.name:48} {figure.value:.4f} {figure.unit:2} {figure.goal}", flush=True)
            figures.append(figure)
    print(write("mlperf_tiny", "python -m benchmarks.mlperf_tiny", figures))


if __name__ == "__main__":
    main(sys.argv[1:])
