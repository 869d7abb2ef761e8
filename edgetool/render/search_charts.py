"""The Pareto front of a search, as inline SVG that needs no script: what was lost against bytes and against time."""

import html
import math
from collections.abc import Callable, Sequence

from edge.report import Report, Trial
from edgetool.render.words import duration, scale_of
from edgetool.units import format_bytes

WIDTH, HEIGHT = 480, 330
TOP, LEFT, RIGHT, FLOOR = 36, 62, WIDTH - 24, HEIGHT - 48
# A collapsed trial must not squeeze the others into a line: the axis ends at this many limits.
MOST_LIMITS = 3.0
CHARACTER, LINE = 9.0, 15.0  # of a number at 16 px, as on a phone

Cost = Callable[[Trial], float | None]


def size_front(report: Report, unit: str) -> str:
    """The drop (up) against the bytes in a bundle (across, logarithmic)."""
    return _front(report, unit, lambda one: one.stored_bytes, lambda x: format_bytes(round(x)), "in the bundle")


def time_front(report: Report, unit: str) -> str:
    """The drop (up) against p50 on one thread (across, logarithmic); a sentence where nothing was timed."""
    error = None if report.search is None else report.search.latency_error
    axis = "p50, one thread" if error is None else f"estimated p50, one thread, median error {error:.0%}"
    return _front(report, unit, lambda one: one.p50_ms, duration, axis)


def _front(report: Report, unit: str, cost: Cost, words: Callable[[float], str], axis: str) -> str:
    assert report.search is not None
    points = [(one, found) for one in report.search.trials if one.drop is not None and (found := cost(one)) is not None]
    if not points:
        return f"<p>Not measured: {html.escape(axis)}.</p>"
    factor, name = scale_of(unit)
    limit = (report.limits.max_drop or 0.0) * factor
    highest = max((one.upper95 if one.upper95 is not None else one.drop or 0.0) * factor for one, _ in points)
    high = max(1.25 * limit, min(highest, MOST_LIMITS * limit if limit else highest)) or 1.0
    low = max(min(-0.1 * high, *((one.drop or 0.0) * factor for one, _ in points)), -high)
    cheap, dear = min(found for _, found in points) / 1.15, max(found for _, found in points) * 1.15

    def x(found: float) -> float:
        return LEFT + (RIGHT - LEFT) * math.log(found / cheap) / math.log(dear / cheap)

    def y(drop: float) -> float:
        return FLOOR - (FLOOR - TOP) * (min(max(drop, low), high) - low) / (high - low)

    body = []
    if limit:
        body.append(_line("limit", LEFT, RIGHT, y(limit), y(limit)))
        body.append(_text(RIGHT, y(limit) - 5, f"limit {limit:g}{name}", "end", "axis"))
    for drop in _steps(low, high):
        body += [_line("grid", LEFT, RIGHT, y(drop), y(drop)), _text(LEFT - 6, y(drop) + 4, f"{drop:g}", "end", "axis")]
    for found in (cheap * (dear / cheap) ** (k / 3) for k in range(4)):
        anchor = {cheap: "start"}.get(found, "end" if found > dear / 1.01 else "middle")
        body.append(_text(x(found), FLOOR + 18, words(found), anchor, "axis"))
    body.append(_text((LEFT + RIGHT) / 2, HEIGHT - 8, f"{axis} (left is better)", "middle", "axis"))
    body.append(_text(4, 13, f"drop on val,{name or ' absolute'}", "start", "axis"))
    steps = _staircase([(x(found), y((one.drop or 0.0) * factor)) for one, found in points])
    body.append(f'<polyline class="edge" points="{" ".join(f"{px:.1f},{py:.1f}" for px, py in steps)}"/>')
    for one, found in sorted(points, key=lambda point: point[0].on_front):
        drop = (one.drop or 0.0) * factor
        upper = (one.drop if one.upper95 is None else one.upper95) or 0.0
        kind = "also" if one.on_front else "other"
        body.append(_line(f"bar thin {kind}", x(found), x(found), y(drop), y(upper * factor)))
        body.append(_mark(x(found), y(drop), kind, beyond=drop > high))
    named = [(x(found), y((one.drop or 0.0) * factor), str(one.number)) for one, found in points if one.on_front]
    body += [_text(px, py, words, "start", "also") for px, py, words in _numbers(named)]
    title = html.escape(f"Drop against {axis} of {len(points)} trials")
    return f'<svg class="front" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{"".join(body)}</svg>'


def _numbers(points: Sequence[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """The number of each point beside it; where two would overlap they stand together."""
    placed: list[tuple[float, float, str]] = []
    for px, py, number in sorted(points):
        x, y = px + 7, py - 6
        beside = next((k for k, (bx, by, words) in enumerate(placed) if _overlap(x - bx, y - by, words)), None)
        if beside is None:
            placed.append((x, y, number))
        else:
            bx, by, words = placed[beside]
            placed[beside] = (bx, by, f"{words}, {number}")
    return [(min(x, WIDTH - CHARACTER * len(words)), y, words) for x, y, words in placed]


def _overlap(right: float, below: float, words: str) -> bool:
    return abs(below) < LINE and -CHARACTER * 2 < right < CHARACTER * len(words) + 4


def _staircase(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The corners of what no point of these beats in the picture: smallest x first, every step lower (larger y)."""
    corners: list[tuple[float, float]] = []
    for px, py in sorted(points, key=lambda point: (point[0], -point[1])):
        if not corners:
            corners.append((px, py))
        elif py > corners[-1][1]:
            corners += [(px, corners[-1][1]), (px, py)]
    return corners


def _steps(low: float, high: float) -> list[float]:
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next((factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 5), 10)
    return [round(k * step, 12) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _mark(x: float, y: float, kind: str, *, beyond: bool) -> str:
    if beyond:
        return f'<path class="{kind}" d="M{x - 5:.1f} {y + 5:.1f}h10l-5 -9z"/>'
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'


def _text(x: float, y: float, words: str, anchor: str, kind: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{html.escape(words)}</text>'


def _line(kind: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'
