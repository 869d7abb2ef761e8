"""How figures are worded, the same in the table and on the page. None is "not measured"."""

from edge.report import Accuracy, Candidate, Drop, Measurement, Parity, Report
from edgetool.choose import deciding
from edgetool.units import format_bytes

NOT_MEASURED = "not measured"


def scale_of(unit: str) -> tuple[float, str]:
    """What to multiply a drop in `unit` by for people, and what to write behind it."""
    return {"points": (1.0, " pp"), "relative": (100.0, " %")}.get(unit, (1.0, f" {unit}"))


def accuracy_words(accuracy: Accuracy | None) -> str:
    """`92.31 % [91.8, 92.8] test` for fractions, plain numbers for errors."""
    if accuracy is None:
        return NOT_MEASURED
    percent = accuracy.metric in ("accuracy", "precision", "recall", "f1", "auc", "eer") or accuracy.metric.startswith(
        "top"
    )
    factor, unit = (100.0, " %") if percent else (1.0, "")
    low, high = (bound * factor for bound in accuracy.ci95)
    return f"{accuracy.value * factor:.4g}{unit} [{low:.4g}, {high:.4g}] {accuracy.split}"


def drop_words(drop: Drop | None) -> str:
    """`0.12 pp, at most 0.45 pp`: the observed drop and its one-sided 95 % upper bound."""
    if drop is None:
        return "baseline"
    factor, unit = scale_of(drop.unit)
    return f"{drop.value * factor:.2f}{unit}, at most {drop.upper95 * factor:.2f}{unit}"


def corrected_words(drop: Drop) -> str:
    """`, at most 0.52 pp where 2 are confirmed at once`: the bound that the gate compares; empty where there is one."""
    if drop.upper_of_all is None:
        return ""
    factor, unit = scale_of(drop.unit)
    return f", at most {drop.upper_of_all * factor:.2f}{unit} where {drop.confirmed} are confirmed at once"


def speed_words(measurement: Measurement | None) -> str:
    """`0.71 x [0.70, 0.73] faster`: time over the float32 time on the same engine and threads."""
    if measurement is None:
        return NOT_MEASURED
    if measurement.ratio is None or measurement.ratio_ci95 is None:
        return "baseline"
    low, high = measurement.ratio_ci95
    return f"{measurement.ratio:.2f} x [{low:.2f}, {high:.2f}] {(measurement.verdict or '').replace('_', ' ')}"


def duration(milliseconds: float | None) -> str:
    """`1.23 ms`, or `12.3 \N{MICRO SIGN}s` below a tenth of a millisecond: three digits that count."""
    if milliseconds is None:
        return NOT_MEASURED
    return f"{milliseconds * 1e3:.3g} \N{MICRO SIGN}s" if milliseconds < 0.1 else f"{milliseconds:.3g} ms"


def parity_words(parity: Parity | None) -> str:
    """`38 dB, argmax 100 %` against the reference model, or where the outputs differ."""
    if parity is None:
        return NOT_MEASURED
    if parity.first_divergence is not None:
        return f"DIFFERS from {parity.reference} at {parity.first_divergence}"
    parts = ["bit for bit"] if parity.sqnr_db is None else [f"{parity.sqnr_db:.0f} dB"]
    if parity.argmax_agreement is not None:
        parts.append(f"argmax {parity.argmax_agreement:.0%}")
    return ", ".join(parts)


def status_words(candidate: Candidate, report: Report) -> str:
    """`SHIPS`, or the first reason against it."""
    if candidate.id == report.chosen:
        return "SHIPS"
    if candidate.verdict is None:
        return "baseline"
    if candidate.verdict.ship:
        return f"ships as .{candidate.format}"
    return candidate.verdict.failed_limits[0] if candidate.verdict.failed_limits else "not chosen"


def stored_words(candidate: Candidate) -> str:
    """What its file takes inside a bundle."""
    return NOT_MEASURED if candidate.stored_bytes is None else format_bytes(candidate.stored_bytes)


def headline(report: Report) -> str:
    """One sentence: what ships and what it bought, or that nothing does."""
    if report.chosen is None:
        return "nothing ships"
    best = next(c for c in (report.baseline, *report.candidates) if c.id == report.chosen)
    base = report.baseline
    if best.id == base.id:
        return f"{best.id} ships: nothing that was tried is proven better within the limits"
    size = f"{base.size_bytes / best.size_bytes:.2f} x smaller ({format_bytes(best.size_bytes)})"
    packed = f"{base.size_bytes / best.gzip_bytes:.2f} x gzipped"
    if best.stored_bytes is not None:  # reports of before bundles were packed have none
        packed = f"{base.size_bytes / best.stored_bytes:.2f} x in the bundle"
    speed = deciding(best)
    fast = "" if speed is None or speed.ratio is None else f", {speed.ratio:.2f} x the float32 time on one thread"
    return f"{best.id} ships: {size}, {packed}{fast}, drop {drop_words(best.drop)}"
