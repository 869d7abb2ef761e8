"""The time and bytes of quantize.lsq's GRU and LSTM files against float32: whole sequences, and one step that streams.

    python -m benchmarks.lsq_speed             four models and two one-step forms; ten minutes on two cores
    python -m benchmarks.lsq_speed --slice     one model, the fewest launches, for CI; writes nothing

Weights are random and activations calibrated on noise: neither changes what is computed. The float32 one-step form is
the same model built of Keras's cells, its states in and out. One thread of LiteRT.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import Figure, table, write
from edge.report import Skipped

OUT = Path(__file__).resolve().parent.parent / "out" / "lsq_speed"
# kind of layer, units, layers, steps, values of a frame, and whether the one-step form is timed as well
MODELS = (
    ("GRU", 64, 2, 50, 20, False),
    ("GRU", 96, 1, 60, 40, True),
    ("LSTM", 64, 2, 50, 20, False),
    ("LSTM", 96, 1, 60, 40, True),
)
CLASSES = 10
NOT_SLOWER = ("faster", "not_slower")


def main() -> int:
    """Write the files, race each against float32; 1 where one is slower or not small enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="store_true", help="one model, the fewest launches; writes nothing")
    options = parser.parse_args()
    from edgetool.verify.race import Settings
    from edgetool.verify.speed_gate import FEWEST_BLOCKS

    # other programs of this repository race as well, and all wait for one lock
    models, settings = MODELS, Settings(max_wait_seconds=7200)
    if options.slice:
        models, settings = MODELS[1:2], Settings(launches=FEWEST_BLOCKS, blocks=2)
    OUT.mkdir(parents=True, exist_ok=True)
    figures = [figure for model in models for figure in measure(*model, settings)]
    print(table([("lsq_speed", figure) for figure in figures]))
    if not options.slice:
        write("lsq_speed", shlex.join(["python", "-m", "benchmarks.lsq_speed", *sys.argv[1:]]), figures)
    return 1 if any(not figure.met for figure in figures) else 0


def measure(kind: str, units: int, layers: int, steps: int, width: int, streams: bool, settings: Any) -> list[Figure]:
    """The figures of one model."""
    from compress.quantize.lsq.fake import calibrate
    from compress.quantize.lsq.lowering import lower
    from compress.quantize.lsq.one_step import one_step
    from compress.quantize.lsq.to_litert import step_to_litert, to_litert
    from convert.to_litert import to_litert as convert

    name = f"{kind.lower()}_{units}x{layers}"
    model = recurrent(kind, units, layers, steps, width)
    graph = lower(model)
    noise = np.random.default_rng(0).normal(size=(8, steps, width)).astype(np.float32)
    grids = calibrate(graph, [{graph.inputs[0]: noise}])
    forms = {"sequence": (convert(model, "float32", None), to_litert(graph, grids, ["frames"], ["scores"]))}
    if streams:
        single = step_to_litert(graph, grids, ["frames"], ["scores"], one_step(graph))
        forms["step"] = convert(stepping(model), "float32", None), single
    figures = []
    for form, files in forms.items():
        paths = [OUT / f"{name}.{form}.{precision}.tflite" for precision in ("float32", "int8")]
        for path, content in zip(paths, files, strict=True):
            path.write_bytes(content)
        figures.append(ratio(f"{name}.{form}.time", *paths, settings))
        smaller = len(files[0]) / len(files[1])
        figures.append(Figure(f"{name}.{form}.smaller", ">= 3.2", smaller, "x", None, smaller >= 3.2))
    return figures


def ratio(name: str, float32: Path, int8: Path, settings: Any) -> Figure:
    """The int8 file's time over the float32 file's."""
    from edgetool.verify.race import Entry, race

    entries = [
        Entry("float32", float32, "tflite", "litert"),
        Entry("int8", int8, "tflite", "litert", baseline="float32"),
    ]
    row = race(entries, settings).rows["int8"]
    goal = "not slower: upper 99 % bound < 1.05"
    if isinstance(row, Skipped) or row.ratio is None:
        return Figure(name, goal, None, "x float32", None, met=False)
    return Figure(name, goal, row.ratio, "x float32", row.ratio_ci95, row.verdict in NOT_SLOWER)


def recurrent(kind: str, units: int, layers: int, steps: int, width: int) -> Any:
    """Frames [steps, width] -> scores [CLASSES] by recurrent layers, the last of which gives its last step."""
    import keras

    keras.utils.set_random_seed(0)
    x = frames = keras.Input((steps, width), name="frames")
    for i in range(layers):
        x = getattr(keras.layers, kind)(units, return_sequences=i + 1 < layers)(x)
    return keras.Model(frames, keras.layers.Dense(CLASSES, activation="softmax", name="scores")(x))


def stepping(model: Any) -> Any:
    """One step of such a model in float32: frame and states -> scores and the next states."""
    import keras

    frame = keras.Input((1, model.inputs[0].shape[-1]), name="frames")
    x, inputs, outputs = keras.layers.Flatten()(frame), [frame], []
    for layer in model.layers[1:-1]:
        states = [keras.Input((size,), name=f"{layer.name}_{i}") for i, size in enumerate(sizes(layer.cell))]
        x, following = layer.cell(x, states)
        inputs += states
        outputs += following
    return keras.Model(inputs, [model.layers[-1](x), *outputs])


def sizes(cell: Any) -> list[int]:
    """The sizes of a cell's states."""
    return [cell.state_size] if isinstance(cell.state_size, int) else list(cell.state_size)


if __name__ == "__main__":
    sys.exit(main())
