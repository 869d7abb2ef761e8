"""How the figures of a benchmark are worded, the same in the table and on the page. None is "not measured"."""

from collections.abc import Sequence

from edge.bench_report import BenchReport, BenchRow, Difference
from edge.report import RaceConditions
from edgetool.render.words import NOT_MEASURED, duration, speed_words
from edgetool.units import format_bytes

BUSY_CORES = 0.25  # other processes above this visibly widen the intervals on a two-core machine
SECTIONS = (
    ("measured", "Measured", ""),
    ("emulated", "Emulated", "This is the time of a program that stands for the device, never the device's own."),
    ("estimated", "Estimated", "A compiler's estimate: nothing has run."),
)


def sections(report: BenchReport) -> list[tuple[str, str, str, list[BenchRow]]]:
    """Status, heading, warning and rows; what is emulated or estimated stands apart from what is measured."""
    found = [
        (status, title, warning, [row for row in report.rows if row.measurement.status == status])
        for status, title, warning in SECTIONS
    ]
    return [section for section in found if section[3]]


def row_name(row: BenchRow) -> str:
    """`model.tflite on xnnpack, 2 threads`, with the settings it was told."""
    threads = row.measurement.threads
    told = "".join(f", {key}={value}" for key, value in row.settings.items())
    return f"{row.model} on {row.delegate}, {threads} thread{'' if threads == 1 else 's'}{told}"


def percentile_words(row: BenchRow, percent: int) -> str:
    """`1.23 ms [1.20, 1.27]` with its 95 % interval in the same unit."""
    one = row.latency.at(percent)
    factor = 1e3 if one.ms < 0.1 else 1.0
    low, high = (bound * factor for bound in one.ci95)
    return f"{duration(one.ms)} [{low:.3g}, {high:.3g}]"


def placement_words(row: BenchRow) -> str:
    """`24 of 24 on webgpu, 1 partition, 2 copies`, what stands for it, and what fell back."""
    at = row.placement
    parts = [f"{at.ops_offloaded} of {at.ops_total} on {at.actual}"]
    if at.partitions is not None:
        parts.append(f"{at.partitions} partition{'' if at.partitions == 1 else 's'}")
    if at.copies is not None:
        parts.append(f"{at.copies} copies")
    fallback = sorted({op.op for op in at.fallback_ops})
    if fallback:
        parts.append(f"not: {', '.join(fallback)}")
    return ", ".join(parts)


def difference_words(found: Difference | None) -> str:
    """`1 LSB of range 0.98, argmax 100 %`: never without the range."""
    if found is None:
        return "not compared: the CPU does not run it"
    if found.is_reference:
        return f"the reference, range {found.output_range:.3g}"
    if found.max_abs == 0:
        parts = [f"bit for bit, range {found.output_range:.3g}"]
    elif found.max_lsb is not None:
        parts = [f"{found.max_lsb:.2g} LSB, range {found.output_range:.3g}"]
    else:
        parts = [f"{found.relative:.1e} of range {found.output_range:.3g}"]
    if found.argmax_agreement is not None:
        parts.append(f"argmax {found.argmax_agreement:.0%}")
    return ", ".join(parts)


def against_words(row: BenchRow, rows: Sequence[BenchRow]) -> str:
    """`0.71 x [0.70, 0.73] faster than a.tflite`; "baseline" where one of `rows` is compared with this model."""
    if row.baseline is None:
        return "baseline" if any(one.baseline == row.model for one in rows) else "compared with nothing"
    verdict = {"faster": "than", "slower": "than", "not_slower": "than"}.get(row.measurement.verdict or "", "against")
    return f"{speed_words(row.measurement)} {verdict} {row.baseline}"


def verdict_words(row: BenchRow) -> str:
    """`ok`, or what is wrong; a slow first call is named beside it."""
    slow = (
        f"; slow first call: {row.start.first_over_p50:.0f} x p50, warm up before serving"
        if row.start.slow_first
        else ""
    )
    hot = (
        f"; {row.sustained.verdict}"
        if row.sustained is not None and not row.sustained.verdict.startswith("steady")
        else ""
    )
    if row.verdict == "fallback":
        ops = sorted({op.op for op in row.placement.fallback_ops})
        return f"FALLBACK: {', '.join(ops)}{slow}{hot}"
    if row.verdict == "wrong result":
        return f"WRONG RESULT{slow}{hot}"
    return f"ok{slow}{hot}"


def memory_words(row: BenchRow) -> str:
    """`41.2 MB (+3.1 MB)`: the peak of a clean process, and what it is above the runtime's import."""
    peak, over = row.memory.peak_rss_bytes, row.memory.over_import_bytes
    if peak is None:
        return NOT_MEASURED
    return format_bytes(peak) + ("" if over is None else f" (+{format_bytes(over)})")


def throughput_words(row: BenchRow) -> str:
    """`1,234/s in 1 stream, 2,345/s in 2`."""
    said = [f"{one.inferences_per_s:,.0f}/s in {one.streams}" for one in row.throughput]
    return ", ".join(said) or NOT_MEASURED


def energy_words(row: BenchRow) -> str:
    """`1.2 mJ (RAPL: ...)`."""
    if row.energy is None:
        return NOT_MEASURED
    return f"{row.energy.joules_per_inference * 1e3:.3g} mJ ({row.energy.method})"


def machine_words(race: RaceConditions | None) -> str:
    """One sentence on the machine meanwhile."""
    if race is None:
        return "Nothing was timed."
    others = "not readable" if race.others_cores is None else f"{race.others_cores:.1f} cores"
    throttled = {True: "yes", False: "no", None: "the machine does not tell"}[race.throttled]
    busy = (race.others_cores or 0.0) > BUSY_CORES
    warning = " The machine was busy: the intervals are wider than they need be." if busy else ""
    return (
        f"The race took {race.seconds:.0f} s; other processes meanwhile: {others}, load {race.load_before:.1f} to "
        f"{race.load_after:.1f}; throttled: {throttled}.{warning}"
    )


def failed_words(report: BenchReport) -> Sequence[str]:
    """One sentence for each row that gave no figures, and for what was skipped."""
    said = [
        f"{'failed' if one.asked else 'skipped'} {one.model} on {one.delegate}: {one.reason}"
        + ("" if one.hint is None else f" ({one.hint})")
        for one in report.failed
    ]
    return list(dict.fromkeys([*said, *(f"skipped {one.what}: {one.reason}" for one in report.skipped)]))
