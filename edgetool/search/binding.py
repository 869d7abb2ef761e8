"""Which limit keeps every trial of a search out, and the trial that comes nearest."""

from edge.report import Limits, Search, Trial
from edgetool.units import format_bytes


def binding(search: Search, limits: Limits) -> str | None:
    """The limit that binds and the nearest trial, in a sentence; None where a trial is within all limits, or none was
    made.

    Nearest is the trial whose worst limit is missed by least, relative to the limit; the limit that binds is that one.
    Times of trials are p50, so a limit of p95 is at best nearly met by them.
    """
    made = [one for one in search.trials if one.drop is not None]
    if not made:
        return None
    near = min(made, key=lambda one: (max(_ratios(one, limits).values(), default=0.0), one.number))
    ratios = _ratios(near, limits)
    name = max(ratios, key=lambda key: ratios[key], default=None)
    if name is None or ratios[name] <= 1:
        return None
    return (
        f"no trial of {len(search.trials)} is within all limits; {name} binds: the nearest, trial {near.number} "
        f"({' -> '.join(near.steps) or 'the model as it is'}), has {_words(near, limits)[name]}"
    )


def _ratios(one: Trial, limits: Limits) -> dict[str, float]:
    """What was measured over its limit, by limit."""
    ratios = {}
    if limits.max_drop and one.drop is not None:
        ratios["max_drop"] = one.drop / limits.max_drop
    if limits.max_size_bytes and one.size_bytes is not None:
        ratios["max_size"] = one.size_bytes / limits.max_size_bytes
    if limits.max_p95_ms and one.p50_ms is not None:
        ratios["max_p95"] = one.p50_ms / limits.max_p95_ms
    return ratios


def _words(one: Trial, limits: Limits) -> dict[str, str]:
    which = "an estimated" if one.latency == "estimated" else "a"
    return {
        "max_drop": f"a drop of {one.drop or 0.0:.3g} on val, limit {limits.max_drop or 0.0:g}",
        "max_size": f"{format_bytes(one.size_bytes or 0)}, limit {format_bytes(limits.max_size_bytes or 0)}",
        "max_p95": f"{which} p50 of {one.p50_ms or 0.0:.3g} ms, limit {limits.max_p95_ms or 0.0:g} ms",
    }
