"""Whether a delegate of the table really works on this machine: a small network runs on it, in a process of its own.

A name in a provider list, a library that loads and a session that opens are no proof: runtimes list what they lack
and compute on the CPU instead. A delegate counts when the runtime's own record says that the operations ran there
and what came out is what the weights say. A process that ends, hangs or answers wrongly makes the delegate
unavailable, with the reason; this process goes on.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from edge.delegates import DELEGATES, Delegate, difference, require_placement
from edge.errors import CheckFailed, EdgetoolError
from edge.npu import seen
from edge.probe import versions
from edge.report import Placement
from edge.runtime_process import RuntimeProcess

Status = Literal["native", "emulated", "estimated", "unavailable"]

MODELS = Path(__file__).parent / "proof_models"
LIMIT_S = 120.0  # a software GPU compiles its shaders for up to 40 s the first time


@dataclass(frozen=True)
class Proof:
    """What was found out about one delegate. `proof` says what was seen to run, `reason` why nothing was."""

    name: str
    engine: str
    unit: str
    status: Status
    reason: str | None
    proof: str | None


def prove_all(
    delegates: Iterable[Delegate] = tuple(DELEGATES.values()),
    *,
    limit_s: float = LIMIT_S,
    models: Path = MODELS,
    done: Callable[[Proof], None] = lambda proof: None,
) -> tuple[Proof, ...]:
    """Every delegate, two at a time, in the order of the table; `done` hears of each as it is known."""

    def one(delegate: Delegate) -> Proof:
        proof = prove(delegate, limit_s=limit_s, models=models)
        done(proof)
        return proof

    with ThreadPoolExecutor(2) as pool:
        return tuple(pool.map(one, delegates))


def prove(delegate: Delegate, *, limit_s: float = LIMIT_S, models: Path = MODELS) -> Proof:
    """Load the proof model of the delegate's format on it, run it, and compare with what its weights say.

    `models` holds conv.FORMAT, image [1, 16, 16, 3] (ONNX: [1, 3, 16, 16]) to logits, and expected.npz with both.
    """
    if not delegate.runs:
        return _looked_for(delegate)
    try:
        placement, worst = _run(delegate, limit_s, models)
    except EdgetoolError as error:
        reason = error.message if error.hint is None else f"{error.message} ({error.hint})"
        return Proof(delegate.name, delegate.engine, delegate.unit, "unavailable", reason, None)
    proof = (
        f"{placement.ops_offloaded} of {placement.ops_total} operations on {placement.actual}, "
        f"outputs within {worst:.2g} of their range"
    )
    if placement.emulated_by is not None:
        return Proof(delegate.name, delegate.engine, delegate.unit, "emulated", placement.emulated_by, proof)
    return Proof(delegate.name, delegate.engine, delegate.unit, "native", None, proof)


def _looked_for(delegate: Delegate) -> Proof:
    """What is known of a device that this toolkit compiles for or only looks for."""
    told = seen(delegate.name)
    if delegate.name == "ethos-u":
        vela = versions([delegate.needs]).get(delegate.needs)
        if vela is not None:
            proof = f"Vela {vela} compiles for it and estimates its cycles; {told}"
            return Proof(delegate.name, delegate.engine, delegate.unit, "estimated", None, proof)
    reason = f"{told} ({delegate.install})"
    return Proof(delegate.name, delegate.engine, delegate.unit, "unavailable", reason, None)


def _run(delegate: Delegate, limit_s: float, models: Path) -> tuple[Placement, float]:
    """Where the proof model's operations ran, and its largest difference from what its weights say."""
    model = models / f"conv.{delegate.format}"
    with np.load(models / "expected.npz") as expected:
        image, logits = expected["image"], expected["logits"]
    if delegate.format == "onnx":
        image = image.transpose(0, 3, 1, 2)
    with RuntimeProcess() as process:
        placement = process.load(model, delegate.format, delegate=delegate.name, limit_s=limit_s).placement
        require_placement(placement)
        got = process.predict({"image": np.ascontiguousarray(image)}, limit_s=limit_s)["logits"]
    worst = difference(got, logits)
    if not worst <= delegate.tolerance:
        raise CheckFailed(
            f"{delegate.name} computes wrongly: outputs differ by {worst:.3g} of their range, "
            f"{delegate.tolerance:g} is allowed"
        )
    return placement, worst
