"""What crosses the bridge between Keras 3 and tf_keras: every model of keras.applications and the reference models.

python -m benchmarks.bridge [--slice] [--resume LOG] [DATA]
python -m benchmarks.bridge --table      the table of docs/bridge.md from the results, on stdout

--slice: one application and the recipes' models, seconds, for CI. --resume: the models that crossed in the output of
a run that was cut off are not measured again.

Each model is built with weights=None at the smallest input it takes, in a process of its own, crosses to tf_keras and
back, and is compared before its final softmax on inputs that spread its outputs (convert/bridge/equality.py). An
untrained network says the same to every input, and its statistics, gammas and biases are zeros and ones, so that a
copy that lost them would look equal: both are changed first (`disturb`). The MLPerf Tiny models are Keras 2 files:
they cross to Keras 3 and back.
"""

import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import RESULTS, Figure, write

LIMIT = 1e-5
SIZES = (32, 64, 71, 75, 96, 139, 224, 331)
RECIPES = Path(__file__).resolve().parent.parent / "recipes" / "models"
MLPERF = {
    "kws": "keyword_spotting/kws_ref_model",
    "ad": "anomaly_detection/ad01.h5",
    "vww": "visual_wake_words/vww_96.h5",
    "ic": "image_classification/pretrainedResnet.h5",
    "ww": "streaming_wakeword/str_ww_ref_model.h5",
}


@dataclass(frozen=True)
class Source:
    """A model to cross: the group it counts in, its name, and where it comes from."""

    group: str
    name: str
    path: str = ""


def sources(data: Path) -> Iterator[Source]:
    """Every model of keras.applications, of the recipes and, where they are, of MLPerf Tiny."""
    import keras

    for name, function in sorted(vars(keras.applications).items()):
        if inspect.isfunction(function) and "weights" in inspect.signature(function).parameters:
            yield Source("applications", name)
    for path in sorted(RECIPES.glob("*.keras")):
        yield Source("recipes", path.stem, str(path))
    for name, file in MLPERF.items():
        if (data / "models" / "mlperf_tiny" / file).exists():
            yield Source("mlperf_tiny", name, str(data / "models" / "mlperf_tiny" / file))


def build(source: Source) -> Any:
    """The model: untrained from keras.applications, or read from its file."""
    import keras

    from convert.load import load_keras

    if source.path:
        return load_keras(Path(source.path))
    keras.utils.set_random_seed(0)
    function = getattr(keras.applications, source.name)
    for size in SIZES:
        try:
            model = function(weights=None, input_shape=(size, size, 3))
        except ValueError:
            continue
        disturb(model)
        return model
    raise RuntimeError(f"{source.name} takes none of the sizes {SIZES}")


def disturb(model: Any) -> None:
    """Make an untrained network say something about its inputs: the moving statistics of its batch normalizations
    become those of one batch, and every vector of weights (biases, gammas, betas) moves by up to 0.1.
    """
    import numpy as np

    from convert.bridge.equality import spreading_inputs

    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(spreading_inputs(model, seed=1), training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        if len(weight.shape) == 1:
            weight.assign(weight.numpy() + rng.uniform(-0.1, 0.1, weight.shape).astype(np.float32))


def measure(source: Source) -> dict[str, Any]:
    """Cross one model there and back: errors, spread, and what stood in the way."""
    from convert.bridge.crossing import is_legacy, to_keras, to_tf_keras
    from edge.errors import EdgetoolError

    model = build(source)
    result: dict[str, Any] = {"input": [list(t.shape)[1:] for t in model.inputs], "parameters": model.count_params()}
    start = time.perf_counter()
    there, back = (to_keras, to_tf_keras) if is_legacy(model) else (to_tf_keras, to_keras)
    try:
        crossed = there(model)
        result |= {"error": crossed.equality.relative_error, "spread": crossed.equality.relative_spread}
        result["seconds"] = time.perf_counter() - start
        result["error_back"] = back(crossed.model).equality.relative_error
    except EdgetoolError as error:
        result["reason"] = error.message
    return result


def in_own_process(source: Source) -> dict[str, Any]:
    """`measure` in a fresh interpreter, since the large models would add up in memory."""
    command = [sys.executable, "-m", "benchmarks.bridge", "--one", source.group, source.name, source.path]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        return {"reason": lines[-1]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def finished(log: Path) -> dict[str, dict[str, Any]]:
    """The models that crossed in the output of an earlier run, by group and name."""
    found = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition(" ")
        if "." in name and rest.lstrip().startswith("{") and '"error_back"' in rest:
            found[name] = json.loads(rest)
    return found


def figures_of(source: Source, result: dict[str, Any]) -> Iterator[Figure]:
    """The figures of one model: the error each way (None where it did not cross) and how far its outputs spread."""
    name = f"{source.group}.{source.name}"
    for key in ("error", "error_back"):
        value = result.get(key)
        yield Figure(
            f"{name}.{key}", f"<= {LIMIT:g}", value, "of the spread", None, value is not None and value <= LIMIT
        )
    if "spread" in result:
        yield Figure(f"{name}.spread", "reported", result["spread"], "of the peak", None, met=True)


def table() -> str:
    """The results as the table of docs/bridge.md."""
    figures = json.loads((RESULTS / "bridge.json").read_text(encoding="utf-8"))["figures"]
    values = {figure["name"]: figure["value"] for figure in figures}
    names = dict.fromkeys(name.rsplit(".", 1)[0] for name in values if name.count(".") == 2)
    lines = ["| model | error there | error back | spread |", "|---|---|---|---|"]

    def cell(name: str, form: str) -> str:
        value = values.get(name)
        return "does not cross" if value is None else f"{value:{form}}"

    for name in names:
        there, back, spread = (
            cell(f"{name}.{key}", "g" if key == "spread" else ".1e") for key in ("error", "error_back", "spread")
        )
        lines.append(f"| {name.replace('.', ' ')} | {there} | {back} | {spread} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Measure every model and write benchmarks/results/bridge.json."""
    if arguments[:1] == ["--one"]:
        print(json.dumps(measure(Source(*arguments[1:4]))))
        return
    if arguments[:1] == ["--table"]:
        print(table())
        return
    small = "--slice" in arguments
    given = [argument for argument in arguments if argument != "--slice"]
    known: dict[str, dict[str, Any]] = {}
    if given[:1] == ["--resume"]:
        known, given = finished(Path(given[1])), given[2:]
    data = Path(given[0] if given else os.environ.get("EDGETOOL_DATA") or RECIPES.parents[2] / "shared" / "data")
    chosen = [s for s in sources(data) if not small or s.group == "recipes" or s.name == "MobileNetV3Small"]
    figures: list[Figure] = []
    crossed = dict.fromkeys((source.group for source in chosen), 0)
    for source in chosen:
        name = f"{source.group}.{source.name}"
        result = known.get(name) or in_own_process(source)
        print(f"{name:40} {json.dumps(result)}", flush=True)
        found = list(figures_of(source, result))
        crossed[source.group] += found[0].met
        figures += found
    for group, count in crossed.items():
        total = sum(source.group == group for source in chosen)
        goal = min(34, total) if group == "applications" else total
        figures.append(Figure(f"{group}.crossed", f">= {goal}", count, f"of {total}", None, met=count >= goal))
    if not small:
        print(write("bridge", "python -m benchmarks.bridge", figures))
    elif not all(figure.met for figure in figures):
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
