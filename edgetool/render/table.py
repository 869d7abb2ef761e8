"""The one table that a run ends in, on stdout."""

from pathlib import Path

from edge.report import Report
from edgetool.choose import deciding
from edgetool.render.words import (
    accuracy_words,
    drop_words,
    duration,
    headline,
    speed_words,
    status_words,
    stored_words,
)
from edgetool.units import format_bytes


def print_report(report: Report, folder: Path) -> None:
    """Every candidate with its verdict, what was skipped, and where the files are."""
    from rich.console import Console
    from rich.table import Table

    # A pipe has no width of its own; there every row stays on one line.
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=240)
    table = Table(title=f"{report.task.name}: {report.task.metric}", title_justify="left", box=None, pad_edge=False)
    for heading in ("candidate", "size", "in bundle"):
        table.add_column(heading, justify="left" if heading == "candidate" else "right", no_wrap=True)
    for heading in (report.task.metric, "drop", "p50, 1 thread", "time over float32", "verdict"):
        table.add_column(heading)
    for row in (report.baseline, *report.candidates):
        speed = deciding(row)
        table.add_row(
            row.id,
            format_bytes(row.size_bytes),
            stored_words(row),
            accuracy_words(row.accuracy),
            drop_words(row.drop),
            duration(None if speed is None else speed.p50_ms),
            speed_words(speed),
            status_words(row, report),
            style="bold" if row.id == report.chosen else None,
        )
    console.print(table)
    for skipped in report.skipped:
        console.print(f"skipped {skipped.what}: {skipped.reason}", markup=False)
    console.print(f"\n{headline(report)}", markup=False)
    console.print(f"report: {folder / 'report.html'}", markup=False)
