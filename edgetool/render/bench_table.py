"""The table that `edgetool bench` ends in, on stdout."""

from pathlib import Path

from edge.bench_report import BenchReport, BenchRow
from edgetool.render.bench_words import (
    against_words,
    difference_words,
    failed_words,
    machine_words,
    memory_words,
    percentile_words,
    placement_words,
    row_name,
    sections,
    throughput_words,
    verdict_words,
)
from edgetool.render.words import duration


def print_bench(report: BenchReport, folder: Path | None) -> None:
    """Every row with its verdict, apart by status; what was skipped or failed; where the files are."""
    from rich.console import Console
    from rich.table import Table

    # A pipe has no width of its own; there every row stays on one line.
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=320)
    for _, title, warning, rows in sections(report):
        table = Table(title=f"{title}. {warning}".rstrip(), title_justify="left", box=None, pad_edge=False)
        compared = any(row.baseline is not None for row in rows)
        headings = ["", "p50 [95 %]", "p99", "first", "per second", "peak RSS", "on the delegate", "outputs"]
        for heading in (*headings, *(["time"] if compared else []), "verdict"):
            table.add_column(heading)
        for row in rows:
            cells = [
                row_name(row),
                percentile_words(row, 50),
                duration(row.latency.at(99).ms),
                duration(row.start.cold_first_ms),
                throughput_words(row),
                memory_words(row),
                placement_words(row),
                difference_words(row.difference),
                *([against_words(row, rows)] if compared else []),
                verdict_words(row),
            ]
            table.add_row(*cells, style=None if row.verdict == "ok" else "bold red")
        console.print(table)
        for row in rows:
            for line in _more(row):
                console.print(f"  {row_name(row)}: {line}", markup=False)
    for line in failed_words(report):
        console.print(line, markup=False)
    console.print(machine_words(report.race), markup=False)
    if folder is not None:
        console.print(f"report: {folder / 'bench.html'}", markup=False)


def _more(row: BenchRow) -> list[str]:
    """What only some rows have."""
    lines = []
    if row.end_to_end is not None:
        one = row.end_to_end.at(50)
        lines.append(f"end to end from {row.end_to_end_from}: p50 {duration(one.ms)}")
    if row.single_stream is not None:
        one_stream = row.single_stream
        rules = "MLPerf single stream" if one_stream.valid else "single stream, too short for MLPerf"
        lines.append(
            f"{rules}: p90 {duration(one_stream.p90_ms)}, {one_stream.queries:,} queries in {one_stream.seconds:.0f} s"
        )
    if row.sustained is not None:
        lines.append(f"{row.sustained.seconds:.0f} s sustained: {row.sustained.verdict}")
    if row.energy is not None:
        lines.append(f"{row.energy.joules_per_inference * 1e3:.3g} mJ per inference, {row.energy.method}")
    if row.profile is not None:
        slowest = sorted(row.profile.ops, key=lambda op: -op.us)[:3]
        lines.append("slowest: " + ", ".join(f"{op.op} {op.name} {op.us:.0f} us ({op.share:.0%})" for op in slowest))
    if row.placement.emulated_by is not None:
        lines.append(f"emulated by {row.placement.emulated_by}")
    return lines
