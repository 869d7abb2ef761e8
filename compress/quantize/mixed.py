"""Mixed precision: which layers are int8, which int16x8 (16-bit activations), which stay float.

Yao et al., "HAWQ-V3: Dyadic Neural Network Quantization", ICML 2021 (arXiv:2011.10680): an integer
programme chooses the precision of every layer under limits on size, bit operations and latency. Here a layer's
perturbation is the measured noise of the outputs with that layer alone quantized (compress.quantize.sensitivity),
not an estimate from the Hessian. Bit operations: multiply-accumulates x bits of a weight x bits of an activation.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compress.quantize import Quantized
from compress.quantize.mixable import Layer, Mixable, Precision
from compress.quantize.sensitivity import Sensitivity
from edge.errors import CheckFailed

NAME = "quantize.mixed"
# The sums that are allocated by are estimates: a file that misses a limit tightens them, this often.
ROUNDS = 8


@dataclass(frozen=True)
class Option:
    """One precision of one layer and what it costs. `time_ms` is 0 where time is not limited."""

    precision: Precision
    noise: float
    size_bytes: float
    bit_operations: float
    time_ms: float = 0.0


@dataclass(frozen=True)
class Limits:
    """What a sum over layers, or a whole model, may be at most. A limit that is infinite limits nothing."""

    noise: float
    size_bytes: float = math.inf
    time_ms: float = math.inf


@dataclass(frozen=True)
class Measured:
    """What is known of a whole model: the noise of its outputs, its bytes, and its time where that is limited."""

    noise: float
    size_bytes: int
    time_ms: float = 0.0

    def fits(self, limits: Limits) -> bool:
        """Whether size and time are within the limits."""
        return self.size_bytes <= limits.size_bytes and self.time_ms <= limits.time_ms


@dataclass(frozen=True)
class Mixed:
    """The model, the precision of every layer by name, and what was measured of it."""

    model: Quantized
    chosen: dict[str, Precision]
    measured: Measured


def options_of(
    sensitivity: Sensitivity,
    precisions: Sequence[Precision],
    time_ms: Callable[[Layer, Precision], float] = lambda *_: 0.0,
) -> dict[str, tuple[Option, ...]]:
    """What every layer of `sensitivity` can be within `precisions`, by name; float32 has no noise.

    A layer that can be none of them stays float32.
    """
    found: dict[str, tuple[Option, ...]] = {}
    for entry in sensitivity.layers:
        noises: dict[Precision, float] = {effect.precision: effect.noise for effect in entry.effects} | {"float32": 0.0}
        possible = [precision for precision in noises if precision in precisions] or ["float32"]
        found[entry.layer.name] = tuple(
            Option(
                precision,
                noises[precision],
                entry.layer.size_bytes(precision),
                entry.layer.bit_operations(precision),
                time_ms(entry.layer, precision),
            )
            for precision in possible
        )
    return found


def allocate(options: Mapping[str, Sequence[Option]], limits: Limits) -> dict[str, Precision] | None:
    """The precision of every layer: the fewest bit operations whose noises, bytes and times add up to no more than the
    limits. Where the noise cannot be met the least noise within the others; None where those cannot be met.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    entries = [(name, option) for name, given in options.items() for option in given]
    names = list(options)
    one_each = np.array([[float(name == other) for other, _ in entries] for name in names])
    columns = {
        limit: np.array([getattr(option, limit) for _, option in entries], np.float64)
        for limit in ("noise", "size_bytes", "time_ms")
    }
    operations = np.array([option.bit_operations for _, option in entries], np.float64)
    rounds = ((operations, ("noise", "size_bytes", "time_ms")), (columns["noise"], ("size_bytes", "time_ms")))
    for objective, held in rounds:
        rules = [LinearConstraint(one_each, 1, 1)]
        for limit in held:
            most = getattr(limits, limit)
            if math.isfinite(most):
                # relative, so that the solver's tolerance means the same for noise as for bytes
                scale = max(abs(most), np.finfo(np.float64).tiny)
                rules.append(LinearConstraint(columns[limit][None] / scale, -np.inf, most / scale))
        largest = objective.max()
        solved = milp(
            objective / largest if largest > 0 else objective,
            integrality=np.ones(len(entries)),
            bounds=Bounds(0, 1),
            constraints=rules,
            options={"mip_rel_gap": 0.0},
        )
        if solved.x is not None:
            taken = solved.x > 0.5
            return {name: option.precision for (name, option), chosen in zip(entries, taken, strict=True) if chosen}
    return None


def mix(
    source: Mixable,
    options: Mapping[str, Sequence[Option]],
    limits: Limits,
    judge: Callable[[Quantized], Measured],
) -> Mixed:
    """The model with the fewest bit operations within all limits, or the one with the least noise within the others.

    What is allocated is built and judged; a limit that it misses is tightened by as much and the layers are allocated
    again, at most `ROUNDS` times.

    Raises:
        BadModel: the quantizer refuses.
        CheckFailed: no model is within the limits of size and time; the message names the smallest or fastest.

    """

    def build(chosen: dict[str, Precision]) -> Mixed:
        made = source.build(chosen)
        return Mixed(made, chosen, judge(made))

    narrowest = {
        name: min(given, key=lambda o: (o.size_bytes, o.bit_operations)).precision for name, given in options.items()
    }
    best = first = build(narrowest)
    if first.measured.size_bytes > limits.size_bytes:
        raise CheckFailed(
            f"{NAME}: the smallest model, with every layer at its narrowest, has {first.measured.size_bytes:,} bytes; "
            f"max_size is {limits.size_bytes:,.0f}",
            "allow more, or make the model smaller first (prune.channel, lowrank.svd, distill.logits)",
        )
    tried = {tuple(sorted(narrowest.items())): first}
    sums = _sums(options, narrowest)
    aim = Limits(
        limits.noise,
        limits.size_bytes - first.measured.size_bytes + sums.size_bytes,
        limits.time_ms - first.measured.time_ms + sums.time_ms,
    )
    for _ in range(ROUNDS):
        chosen = allocate(options, aim)
        if chosen is None or tuple(sorted(chosen.items())) in tried:
            break
        made = tried[tuple(sorted(chosen.items()))] = build(chosen)
        best = min(best, made, key=lambda entry: _rank(entry, options, limits))
        aim = _tightened(aim, made.measured, limits, first.measured, sums, _sums(options, chosen))
    if not best.measured.fits(limits):
        fastest = min(entry.measured.time_ms for entry in tried.values())
        raise CheckFailed(
            f"{NAME}: the fastest model takes {fastest:.3g} ms, max_time is {limits.time_ms:.3g} ms",
            "allow more, or make the model smaller first (prune.channel, lowrank.svd, distill.logits)",
        )
    if set(best.chosen.values()) == {"float32"}:
        raise CheckFailed(
            f"{NAME}: no layer can be narrower than float32 at an SQNR of {-10 * math.log10(limits.noise):.4g} dB",
            "lower sqnr_db, or set a max_size",
        )
    return best


def _rank(entry: Mixed, options: Mapping[str, Sequence[Option]], limits: Limits) -> tuple[bool, bool, float]:
    """The better the smaller: within size and time, quiet enough, then bit operations, or noise where it is not."""
    quiet = entry.measured.noise <= limits.noise
    worth = _operations(options, entry.chosen) if quiet else entry.measured.noise
    return (not entry.measured.fits(limits), not quiet, worth)


def _tightened(
    aim: Limits, seen: Measured, limits: Limits, first: Measured, narrowest: Limits, allocated: Limits
) -> Limits:
    """The sums to allocate by next, after a model was seen to miss a limit.

    What it has over the narrowest is allowed by as much less as it turned out more than there was room for.
    """

    def room(limit: float, least: float, most: float, low: float, high: float) -> float:
        return low + (high - low) * (limit - least) / (most - least)

    if seen.size_bytes > limits.size_bytes:
        most = room(limits.size_bytes, first.size_bytes, seen.size_bytes, narrowest.size_bytes, allocated.size_bytes)
        aim = replace(aim, size_bytes=most)
    if seen.time_ms > limits.time_ms > first.time_ms:
        most = room(limits.time_ms, first.time_ms, seen.time_ms, narrowest.time_ms, allocated.time_ms)
        aim = replace(aim, time_ms=most)
    if seen.noise > limits.noise:
        aim = replace(aim, noise=aim.noise * limits.noise / seen.noise)
    return aim


def _sums(options: Mapping[str, Sequence[Option]], chosen: Mapping[str, Precision]) -> Limits:
    taken = [option for name, given in options.items() for option in given if option.precision == chosen[name]]
    return Limits(
        sum(option.noise for option in taken),
        sum(option.size_bytes for option in taken),
        sum(option.time_ms for option in taken),
    )


def _operations(options: Mapping[str, Sequence[Option]], chosen: Mapping[str, Precision]) -> float:
    return sum(o.bit_operations for name, given in options.items() for o in given if o.precision == chosen[name])
