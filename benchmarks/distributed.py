"""Fifty steps on two hosts (two processes on the loopback) against the same fifty in one process.

    python -m benchmarks.distributed            a table model and the reference CNN, SGD
    python -m benchmarks.distributed --slice    three steps, for CI; writes nothing

Both hosts run what this program starts with TF_CONFIG set; the fit is that of every training-time pass, from the
trained weights, as passes start, and from random ones. What rounding alone does is the control: one process again, with
the rows of every batch in reverse, which is the same sum in another order.
"""

import argparse
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.figures import Figure, table, write

REPOSITORY = Path(__file__).resolve().parent.parent
MODELS = ("breast_cancer", "fashion_mnist")
BATCH, STEPS, RATE = 32, 50, 0.02
CLOSE = 1e-4
HOSTS = 2


def main() -> int:
    """Fit alone and on hosts, compare; 1 where they end further apart than the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="store_true", help="three steps, for CI; writes nothing")
    parser.add_argument("--fit", type=Path, metavar="OUT", help="be one host, or alone, and write the weights there")
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    if options.fit is not None:
        fit(options.fit, options.steps)
        return 0
    steps = 3 if options.slice else options.steps
    with tempfile.TemporaryDirectory() as folder:
        figures = compared(steps, Path(folder))
    print(table([("distributed", figure) for figure in figures]))
    if not options.slice:
        write("distributed", shlex.join(["python", "-m", "benchmarks.distributed", *sys.argv[1:]]), figures)
    return 1 if any(not figure.met for figure in figures) else 0


def compared(steps: int, folder: Path) -> list[Figure]:
    """How far the weights and the losses of two hosts are from those of one process."""
    alone = started(folder / "alone.npz", steps, None)
    require_ended([alone])
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(HOSTS)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        places = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    paths = [folder / f"host{index}.npz" for index in range(HOSTS)]
    require_ended([started(path, steps, (places, index)) for index, path in enumerate(paths)])
    one, first, second = [read(folder / "alone.npz"), *map(read, paths)]
    figures = []
    for fit_of in sorted({name.rpartition(".")[0] for name in first}):
        weights, losses = f"{fit_of}.weights", f"{fit_of}.losses"
        far = distance(one[weights], first[weights])
        lost = distance(one[losses], first[losses])
        apart = distance(first[weights], second[weights])
        rounding = distance(one[weights], one[f"{fit_of}.control"])
        moved = distance(one[weights], one[f"{fit_of}.before"])
        figures += [
            Figure(f"{fit_of}.weights_apart_after_{steps}_steps", f"<= {CLOSE:g}", far, "", None, far <= CLOSE),
            Figure(f"{fit_of}.losses_apart", f"<= {CLOSE:g}", lost, "", None, lost <= CLOSE),
            Figure(f"{fit_of}.hosts_apart", "<= 0", apart, "", None, apart <= 0),
            Figure(f"{fit_of}.rounding_alone", "reported", rounding, "", None, met=True),
            Figure(f"{fit_of}.weights_moved", "reported", moved, "", None, met=True),
        ]
    return figures


def started(out: Path, steps: int, host: tuple[list[str], int] | None) -> "subprocess.Popen[bytes]":
    """A process that fits: host number `index` of those at these places, or alone."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("TF_CONFIG", None)
    if host is not None:
        places, index = host
        task = {"cluster": {"worker": places}, "task": {"type": "worker", "index": index}}
        environment["TF_CONFIG"] = json.dumps(task)
    command = [sys.executable, "-m", "benchmarks.distributed", "--fit", str(out), "--steps", str(steps)]
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE)


def require_ended(processes: list["subprocess.Popen[bytes]"]) -> None:
    """Wait for all; where one failed, end the others and say why."""
    try:
        for process in processes:
            _, said = process.communicate(timeout=900)
            if process.returncode:
                raise SystemExit(f"a fit ended with {process.returncode}:\n{said.decode()[-3000:]}")
    finally:
        for process in processes:
            process.kill()


def fit(out: Path, steps: int) -> None:
    """The fits themselves, on all hosts where TF_CONFIG lists some; alone each a second time with reversed batches."""
    from compress.distributed import Hosts

    devices = Hosts() if "TF_CONFIG" in os.environ else None
    import keras

    from convert.load import describe
    from edgetool.data.load import load_task

    kept: dict[str, npt.NDArray[Any]] = {}
    for name in MODELS:
        path = REPOSITORY / f"recipes/models/{name}.keras"
        artifact = describe(path)
        train = load_task(name, inputs=artifact.inputs, outputs=artifact.outputs).train
        trained = keras.saving.load_model(path, compile=False)
        keras.utils.set_random_seed(7)
        random = keras.models.clone_model(trained)
        for start, model in (("trained", trained), ("random", random)):
            before = model.get_weights()
            losses = fitted(model, train, steps, devices, reverse=False)
            weights = flat(model)
            kept |= {f"{name}.{start}.weights": weights, f"{name}.{start}.losses": losses}
            if devices is None:
                model.set_weights(before)
                kept[f"{name}.{start}.before"] = flat(model)
                fitted(model, train, steps, None, reverse=True)
                kept[f"{name}.{start}.control"] = flat(model)
    np.savez(out, **kept)


def fitted(model: Any, examples: Any, steps: int, devices: Any, *, reverse: bool) -> npt.NDArray[np.float64]:
    """The losses of the steps; the same batches every time."""
    from compress.training import FineTune, fine_tune

    losses: list[float] = []
    drawn = np.random.default_rng(0).integers(0, examples.n, (steps, BATCH))

    def batches(_: int) -> Iterator[Any]:
        for rows in drawn:
            yield examples.take(rows[::-1] if reverse else rows)

    settings = FineTune(epochs=1, learning_rate=RATE, batch_size=BATCH, optimizer="sgd")
    fine_tune(model, batches, steps, "crossentropy", [], settings, lambda *at: losses.append(at[2]), devices=devices)
    return np.array(losses)


def flat(model: Any) -> npt.NDArray[np.float32]:
    """All weights of a model, one after the other."""
    return np.concatenate([np.asarray(weights, np.float32).ravel() for weights in model.get_weights()])


def read(path: Path) -> dict[str, npt.NDArray[Any]]:
    """What `fit` wrote."""
    with np.load(path) as kept:
        return dict(kept)


def distance(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """The largest difference of two vectors' entries."""
    return float(np.abs(a - b).max())


if __name__ == "__main__":
    sys.exit(main())
