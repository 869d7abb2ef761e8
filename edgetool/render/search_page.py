"""The part of report.html that tells of a search: its front, what each pass bought, and every trial."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from edge.report import Report, Search, Trial
from edgetool.render.search_charts import size_front, time_front
from edgetool.render.words import NOT_MEASURED, duration, scale_of
from edgetool.units import format_bytes


@dataclass(frozen=True)
class Bought:
    """What one choice of an axis changed against the mildest choice, over the trials that differ in nothing else.

    `drops` are differences of drops (positive is worse), `sizes` and `times` ratios (below 1 is better).
    """

    axis: str
    choice: str
    against: str
    drops: tuple[float, ...]
    sizes: tuple[float, ...]
    times: tuple[float, ...]


def bought(search: Search) -> list[Bought]:
    """What every choice of every axis bought, where trials differ in it alone; a point counts by its longest fit."""
    longest = {one.point: one for one in sorted(search.trials, key=lambda one: one.epochs) if one.drop is not None}
    found = []
    for position, axis in enumerate(search.axes):
        for index, choice in enumerate(axis.choices[1:], 1):
            pairs = [
                (longest[mild], one)
                for point, one in longest.items()
                if point[position] == index and (mild := (*point[:position], 0, *point[position + 1 :])) in longest
            ]
            if pairs:
                found.append(_compared(axis.name, choice, axis.choices[0], pairs))
    return found


def search_section(report: Report) -> str:
    """The section, or nothing where nothing was searched."""
    search = report.search
    if search is None:
        return ""
    unit = next((row.drop.unit for row in report.candidates if row.drop is not None), "points")
    made = sum(one.drop is not None for one in search.trials)
    front = sum(one.on_front for one in search.trials)
    parts = [
        "<h2>What was searched</h2>",
        f'<p class="note">{len(search.trials)} trials in {search.seconds:.0f} s, {made} made, {front} on the front. '
        "Each point is a trial, bars reach from its drop to the one-sided 95 % upper bound, the line joins what "
        "nothing beats in this picture; a triangle is beyond the axis. Numbers name trials of the front. All drops "
        "here are on val, on which the search chose; only what ships is confirmed on test.</p>",
        "<h3>Drop against size</h3>",
        size_front(report, unit),
        "<h3>Drop against latency</h3>",
        time_front(report, unit),
        "<h3>What each pass bought</h3>",
        _bought_table(bought(search), unit),
        "<h3>All trials</h3>",
        _trials(search, unit),
    ]
    return "\n".join(parts)


def trial_failures(search: Search) -> list[tuple[str, str]]:
    """The trials that came to nothing, those of one reason together, with the reason."""
    numbers: dict[str, list[str]] = {}
    for one in search.trials:
        if one.failure is not None:
            numbers.setdefault(one.failure, []).append(str(one.number))
    return [(f"trial{'s' if len(found) > 1 else ''} {', '.join(found)}", why) for why, found in numbers.items()]


def _compared(axis: str, choice: str, against: str, pairs: Sequence[tuple[Trial, Trial]]) -> Bought:
    drops = tuple(b.drop - a.drop for a, b in pairs if a.drop is not None and b.drop is not None)
    sizes = tuple(b.stored_bytes / a.stored_bytes for a, b in pairs if a.stored_bytes and b.stored_bytes)
    times = tuple(b.p50_ms / a.p50_ms for a, b in pairs if a.p50_ms and b.p50_ms)
    return Bought(axis, choice, against, drops, sizes, times)


def _bought_table(rows: Sequence[Bought], unit: str) -> str:
    if not rows:
        return "<p>No two trials differ in one pass only.</p>"
    factor, name = scale_of(unit)
    lines = []
    for row in rows:
        cells = {
            "Pairs": str(len(row.drops)),
            "Drop": _range([value * factor for value in row.drops], f"+.2f{name}"),
            "Size": _range(row.sizes, ".2f x"),
            "Time": _range(row.times, ".2f x"),
        }
        lines.append(_row(row.choice, f"instead of {row.against}", cells))
    note = (
        '<p class="note">Trials that differ in this choice only: the median of the change, and its range over the '
        "pairs. A drop above 0 is lost, a size or time below 1 x is won.</p>"
    )
    return note + _cards(("Choice", "Pairs", "Drop", "Size", "Time"), lines)


def _range(values: Sequence[float], form: str) -> str:
    if not values:
        return NOT_MEASURED
    spec, unit = form[: form.index("f") + 1], form[form.index("f") + 1 :]
    middle = f"{median(values):{spec}}{unit}"
    return middle if len(values) == 1 else f"{middle} [{min(values):{spec}}, {max(values):{spec}}]"


def trial_time(one: Trial, error: float | None) -> str:
    """`0.12 ms`, or `0.12 ms (estimated, median error 12 %)`."""
    if one.p50_ms is None or one.latency in (None, "measured"):
        return duration(one.p50_ms)
    known = "" if error is None else f", median error {error:.0%}"
    return f"{duration(one.p50_ms)} ({one.latency}{known})"


def _trials(search: Search, unit: str) -> str:
    lines = []
    for one in search.trials:
        cells = {
            "Drop, at most": trial_drop(one, unit),
            "In the bundle": NOT_MEASURED if one.stored_bytes is None else format_bytes(one.stored_bytes),
            "p50": trial_time(one, search.latency_error),
            "Training": "in full" if one.epochs >= 1 else f"{one.epochs:.0%} of its epochs",
            "Took": f"{one.seconds:.1f} s",
            "Verdict": one.failure or ("on the front" if one.on_front else "beaten"),
        }
        steps = " \N{RIGHTWARDS ARROW} ".join(one.steps) or "as it came"
        lines.append(_row(f"Trial {one.number}", steps, cells, chosen=one.on_front))
    return _cards(("Trial", "Drop, at most", "In the bundle", "p50", "Training", "Took", "Verdict"), lines)


def trial_drop(one: Trial, unit: str) -> str:
    """`0.12 pp, at most 0.45 pp` on val."""
    factor, name = scale_of(unit)
    if one.drop is None or one.upper95 is None:
        return NOT_MEASURED
    return f"{one.drop * factor:.2f}{name}, at most {one.upper95 * factor:.2f}{name}"


def _row(title: str, below: str, cells: dict[str, str], *, chosen: bool = False) -> str:
    data = "".join(f'<td data-label="{html.escape(name)}">{html.escape(value)}</td>' for name, value in cells.items())
    mark = ' class="chosen"' if chosen else ""
    return f'<tr{mark}><th scope="row">{html.escape(title)}<small>{html.escape(below)}</small></th>{data}</tr>'


def _cards(heads: Sequence[str], lines: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in heads)
    return f'<table class="cards bench"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
