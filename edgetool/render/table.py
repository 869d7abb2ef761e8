"""The one table that a run ends in, on stdout."""

from pathlib import Path
from typing import TYPE_CHECKING

from edge.report import Report
from edgetool.choose import deciding
from edgetool.render.search_page import trial_drop, trial_time
from edgetool.render.words import (
    NOT_MEASURED,
    accuracy_words,
    drop_words,
    duration,
    headline,
    speed_words,
    status_words,
    stored_words,
)
from edgetool.units import format_bytes

if TYPE_CHECKING:
    from rich.table import Table


MOST_OF_FRONT = 8


def _front(report: Report) -> "Table":
    """The trials that nothing beats, smallest first."""
    from rich.table import Table

    assert report.search is not None
    unit = next((row.drop.unit for row in report.candidates if row.drop is not None), "points")
    front = sorted((one for one in report.search.trials if one.on_front), key=lambda one: one.stored_bytes or 0)
    more = "" if len(front) <= MOST_OF_FRONT else f", the {MOST_OF_FRONT} smallest"
    title = f"\nfront of {len(report.search.trials)} trials on val: {len(front)}{more}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("trial", "in bundle", "p50, 1 thread", "drop", "passes"):
        table.add_column(heading)
    for one in front[:MOST_OF_FRONT]:
        size = NOT_MEASURED if one.stored_bytes is None else format_bytes(one.stored_bytes)
        steps = " -> ".join(one.steps) or "as it came"
        table.add_row(str(one.number), size, trial_time(one, report.search.latency_error), trial_drop(one, unit), steps)
    return table


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
    if report.search is not None:
        console.print(_front(report))
    for skipped in report.skipped:
        console.print(f"skipped {skipped.what}: {skipped.reason}", markup=False)
    console.print(f"\n{headline(report)}", markup=False)
    console.print(f"report: {folder / 'report.html'}", markup=False)
