"""The time of a LiteRT model on a target that is not at hand, from operations that were timed there.

Two steps, both fitted on what `op_times.py` measured on the target. Of an operation: non-negative least squares for
each kind and type on its MACs, elements and bytes (relative errors count), times what gradient boosting on the
logarithms of its shape finds left over. Of a model: a call, and a factor for each kind by which an operation among
others takes less than alone, where it is not fused and its tensors are copied in and out; again by non-negative least
squares. An estimate says its error: each network is left out of the fit in turn, with all its forms, and is estimated.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.artifact import Artifact
from edge.durable import write_whole
from edge.errors import BadModel, BadRecipe
from edge.probe import environment
from edge.report import from_plain, to_json
from edge.target import this_machine
from edgetool.search.op_times import TimedModel, Work, works

SCHEMA = "edgetool.latency/1"
PULL = 0.3  # of a model that is made of one kind
FEWEST = 5  # networks: fewer say nothing of another one
FAMILIES = {
    "CONV_2D": "conv",
    "TRANSPOSE_CONV": "conv",
    "DEPTHWISE_CONV_2D": "depthwise",
    "FULLY_CONNECTED": "dense",
    "BATCH_MATMUL": "dense",
    "MAX_POOL_2D": "pool",
    "AVERAGE_POOL_2D": "pool",
    "MEAN": "pool",
}
KINDS = ("conv", "depthwise", "dense", "pool", "other")
FREE = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SHAPE"})  # no work in a graph: only their tensors' names change

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LatencyModel:
    """What was timed on a target, one thread of LiteRT, and how far estimates for other networks are off.

    `error` is the median over networks of |estimated / measured - 1|, each left out of the fit; `arch` and `cpu` are
    the target's.
    """

    schema: str
    arch: str
    cpu: str
    litert: str
    error: float
    networks: int
    models: tuple[TimedModel, ...]

    def estimator(self) -> "Estimator":
        """The fit on everything that was timed."""
        return Estimator(self.models)


class Estimator:
    """Microseconds of a model's operations, fitted on timed models."""

    def __init__(self, models: Sequence[TimedModel]) -> None:
        from sklearn.ensemble import GradientBoostingRegressor

        timed = [(op.work, op.us) for one in models for op in one.operations if op.us and op.work.kind not in FREE]
        self._call_us = min(us for _, us in timed)
        self._rates: dict[tuple[str, bool], Floats] = {}
        for key in {_key(work) for work, _ in timed}:
            rows = [(work, us) for work, us in timed if _key(work) == key]
            self._rates[key] = _rates([work for work, _ in rows], np.array([us for _, us in rows]))
        everything = [work for work, _ in timed]
        self._all = _rates(everything, np.array([us for _, us in timed]))
        left = np.log([us for _, us in timed]) - np.log(self._base(everything))
        self._rest: Any = GradientBoostingRegressor(
            loss="huber", n_estimators=120, learning_rate=0.08, max_depth=3, min_samples_leaf=5, random_state=0
        )
        self._rest.fit(_shapes(everything), left)
        parts = np.array([self._parts([op.work for op in one.operations]) for one in models])
        self._factors = _factors(parts, np.array([one.us for one in models]))

    def us(self, does: Sequence[Work]) -> float:
        """The microseconds of a model with these operations."""
        return float(self._parts(does) @ self._factors)

    def alone_us(self, does: Sequence[Work]) -> Floats:
        """The microseconds of each operation by itself: [n]."""
        return np.asarray(self._base(does) * np.exp(self._rest.predict(_shapes(does))))

    def _base(self, does: Sequence[Work]) -> Floats:
        return np.array([_amounts(work) @ self._rates.get(_key(work), self._all) for work in does])

    def _parts(self, does: Sequence[Work]) -> Floats:
        """1 for the call, and by kind what the operations take beside a call of their own: [1 + 2 * kinds], first those
        of float32.
        """
        parts = np.zeros(1 + 2 * len(KINDS))
        parts[0] = 1.0
        does = [work for work in does if work.kind not in FREE]
        for work, us in zip(does, self.alone_us(does) if does else (), strict=True):
            family, is_float = _key(work)
            parts[1 + KINDS.index(family) + (0 if is_float else len(KINDS))] += max(0.0, us - self._call_us)
        return parts


def fit(models: Sequence[TimedModel]) -> LatencyModel:
    """The latency model of this machine.

    Raises BadRecipe: models of fewer than five networks.
    """
    families = {one.family for one in models}
    enough(families)
    off = errors(models)
    here = environment()
    return LatencyModel(
        SCHEMA,
        this_machine().arch,
        here.cpu,
        here.versions.get("ai-edge-litert", ""),
        float(np.median(list(off.values()))),
        len(families),
        tuple(models),
    )


def enough(families: Collection[str]) -> None:
    """Raise BadRecipe where so few networks say nothing of another one."""
    if len(families) < FEWEST:
        raise BadRecipe(
            f"{len(families)} networks are too few to know another one by", f"time at least {FEWEST}, better 20"
        )


def summary(model: LatencyModel) -> str:
    """What a latency model is for and how far it is off, in a few lines."""
    operations = sum(op.us is not None for one in model.models for op in one.operations)
    return "\n".join([
        f"target      {model.cpu} ({model.arch}), LiteRT {model.litert}, one thread",
        f"fitted on   {model.networks} networks, {len(model.models)} files, {operations} operations",
        f"error       {model.error:.1%}, the median over networks that were left out of the fit",
    ])  # fmt: skip


def errors(models: Sequence[TimedModel]) -> dict[str, float]:
    """The error of each network when it is left out: the mean of |estimated / measured - 1| over its forms."""
    found = {}
    for family in sorted({one.family for one in models}):
        fitted = Estimator([one for one in models if one.family != family])
        off = [
            abs(fitted.us([op.work for op in one.operations]) / one.us - 1) for one in models if one.family == family
        ]
        found[family] = float(np.mean(off))
    return found


def write(model: LatencyModel, path: Path) -> None:
    """Keep a latency model as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, to_json(model).encode())


def read(path: Path) -> LatencyModel:
    """A latency model that `write` kept.

    Raises BadRecipe: there is none, or it is damaged or of another schema.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain.get("schema") != SCHEMA:
            raise BadRecipe(f"{path} is not {SCHEMA} but {plain.get('schema')}", "edgetool latency fit writes one")
        model: LatencyModel = from_plain(LatencyModel, plain)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRecipe(f"cannot read the latency model {path}: {error}", "edgetool latency fit writes one") from error
    return model


def estimated_ms(artifact: Artifact, fitted: Estimator) -> float | None:
    """The estimated p50 of a trial's file, one thread, in ms; None for a file that is not LiteRT's, or has loops."""
    if artifact.format != "tflite":
        return None
    try:
        return fitted.us(works(artifact.path)) / 1e3
    except BadModel:
        return None


def _key(work: Work) -> tuple[str, bool]:
    return FAMILIES.get(work.kind, "other"), work.dtype == "float32"


def _amounts(work: Work) -> Floats:
    """What time is linear in: a constant, MACs, elements and bytes of weights."""
    return np.array([1.0, work.macs, work.elements_in, work.elements_out, work.weight_bytes])


def _rates(does: Sequence[Work], us: Floats) -> Floats:
    return _relative(np.array([_amounts(work) for work in does]), us)


def _factors(parts: Floats, us: Floats) -> Floats:
    """What the parts [n, 1 + 2 * kinds] of models count in their times [n]: near to one factor for float32 and one for
    the rest, from which a kind is moved by the models that are made of it.
    """
    from scipy.optimize import nnls

    half = len(KINDS)
    summed = np.stack([parts[:, 0], parts[:, 1 : 1 + half].sum(axis=1), parts[:, 1 + half :].sum(axis=1)], axis=1)
    call, *common = _relative(summed, us)
    near = np.repeat(common, half)
    pull = np.sqrt(PULL) * np.eye(2 * half)
    factors, _ = nnls(
        np.concatenate([(parts / us[:, None])[:, 1:], pull]), np.concatenate([1 - call / us, pull @ near])
    )
    return np.concatenate([[call], factors])


def _relative(rows: Floats, values: Floats) -> Floats:
    """Non-negative factors of the columns of `rows` whose sums are nearest to `values`, by relative error."""
    from scipy.optimize import nnls

    scaled = rows / values[:, None]
    size = np.maximum(np.abs(scaled).max(axis=0), 1e-30)
    factors, _ = nnls(scaled / size, np.ones(len(values)))
    return np.asarray(factors / size)


def _shapes(does: Sequence[Work]) -> Floats:
    """What the rest of an operation's time may depend on: [n, features]."""
    rows = []
    for work in does:
        sizes = (work.macs, work.elements_in, work.elements_out, work.weight_bytes, work.channels_in, work.channels_out)
        reuse = work.macs / max(1, work.elements_out)
        kind = [FAMILIES.get(work.kind, "other") == name for name in KINDS]
        rows.append([*np.log1p(sizes), np.log1p(reuse), work.kernel, work.stride, work.dtype == "float32", *kind])
    return np.array(rows, float)
