"""Which candidate ships: the one rule, as pure functions over what was measured."""

from dataclasses import dataclass

from edge.report import Candidate, Limits, Measurement
from edgetool.units import format_bytes

SAME_SPEED = 1.05  # the bound below which design section 6 calls a candidate not slower


@dataclass(frozen=True)
class Choice:
    """`chosen` is an id or None. `rejected` maps the other ids to the sentences that kept each from shipping."""

    chosen: str | None
    rejected: dict[str, tuple[str, ...]]


def failed_limits(candidate: Candidate, limits: Limits) -> tuple[str, ...]:
    """The limits of size, time and memory that a candidate does not meet, a sentence each.

    Measured limits are compared by their upper 95 % bound, on the thread count that is fastest; an emulated time meets
    none.
    """
    failed = []
    if limits.max_size_bytes is not None and candidate.size_bytes > limits.max_size_bytes:
        failed.append(f"size {format_bytes(candidate.size_bytes)} is over {format_bytes(limits.max_size_bytes)}")
    if limits.max_p95_ms is not None:
        bounds = [one.p95_upper_ms for one in candidate.measurements if one.status == "measured"]
        if not bounds:
            failed.append("p95 was not measured")
        elif min(bounds) > limits.max_p95_ms:
            failed.append(f"p95 (upper bound) {min(bounds):.3g} ms is over {limits.max_p95_ms:g} ms")
    if limits.max_rss_bytes is not None:
        peaks = [m.peak_rss_bytes for m in candidate.measurements if m.peak_rss_bytes is not None]
        if not peaks:
            failed.append("peak RSS was not measured")
        elif min(peaks) > limits.max_rss_bytes:
            failed.append(f"peak RSS {format_bytes(min(peaks))} is over {format_bytes(limits.max_rss_bytes)}")
    return tuple(failed)


def reasons_against(candidate: Candidate, limits: Limits) -> tuple[str, ...]:
    """Why a candidate may not ship, by its parity, by `val`, by the race and by the limits; empty where it may."""
    reasons = []
    if candidate.parity is not None and candidate.parity.first_divergence is not None:
        reasons.append(f"parity: output {candidate.parity.first_divergence} differs from {candidate.parity.reference}")
    if candidate.val_drop is not None and candidate.val_drop.verdict == "fail":
        drop = candidate.val_drop
        reasons.append(f"accuracy: the drop on val, {drop.value:.3g} {drop.unit}, is over {limits.max_drop:g}")
    reasons.extend(failed_limits(candidate, limits))
    speed = deciding(candidate)
    if speed is None:
        reasons.append("latency was not measured")
    elif speed.verdict in ("slower", "inconclusive") and speed.ratio is not None:
        reasons.append(f"latency: {speed.verdict} ({speed.ratio:.2f} x the float32 time on {speed.engine})")
    return tuple(reasons)


def deciding(candidate: Candidate) -> Measurement | None:
    """The measurement that decides: one thread, where thread pools and neighbours disturb least."""
    return next((m for m in candidate.measurements if m.threads == 1), None)


def choose(
    candidates: tuple[Candidate, ...], limits: Limits, file_format: str | None = None, preferred: str | None = None
) -> Choice:
    """The candidate that wins, among those of one format where `file_format` is given.

    Candidates that are `faster` than their baseline come before those that are `not_slower`. Among the faster
    ones the fastest wins, and of all that are as fast as it (overlapping 95 % intervals, or within 5 %) the one
    that packs smallest: its bytes in the bundle, or gzipped in reports of before bundles were packed. Among the
    `not_slower` ones the smallest wins. Candidates whose drop is decided on `val` come before those whose drop is
    unresolved there. `preferred`, the knee of a search that had no limits to decide by, comes before all of its tier.
    """
    rejected: dict[str, tuple[str, ...]] = {}
    eligible: list[Candidate] = []
    for candidate in candidates:
        if file_format is not None and candidate.format != file_format:
            continue
        reasons = reasons_against(candidate, limits)
        if reasons:
            rejected[candidate.id] = reasons
        else:
            eligible.append(candidate)
    winner: Candidate | None = None
    for resolved in (True, False):
        tier = [c for c in eligible if (c.val_drop is None or c.val_drop.verdict == "pass") is resolved]
        winner = winner or next((c for c in tier if c.id == preferred), None) or _best(tier)
    for candidate in eligible:
        if winner is not None and candidate.id != winner.id:
            rejected[candidate.id] = (f"{winner.id} is better",)
    return Choice(None if winner is None else winner.id, rejected)


def _best(candidates: list[Candidate]) -> Candidate | None:
    faster = [(c, m) for c in candidates if (m := deciding(c)) is not None and m.verdict == "faster"]
    if faster:
        _, lead = min(faster, key=lambda pair: pair[1].p50_ms)
        equal = [c for c, m in faster if _as_fast(m, lead)]
        return min(equal, key=lambda c: (_packed(c), c.id))
    return min(candidates, key=lambda c: (_packed(c), c.id), default=None)


def _packed(candidate: Candidate) -> int:
    return candidate.gzip_bytes if candidate.stored_bytes is None else candidate.stored_bytes


def _as_fast(measurement: Measurement, lead: Measurement) -> bool:
    if measurement.p50_ms <= lead.p50_ms * SAME_SPEED:
        return True
    if measurement.engine != lead.engine or measurement.ratio_ci95 is None or lead.ratio_ci95 is None:
        return False
    return measurement.ratio_ci95[0] <= lead.ratio_ci95[1]
