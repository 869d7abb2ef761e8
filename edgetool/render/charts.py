"""The two pictures of the report, as inline SVG that needs no script."""

import html
import math
from collections.abc import Callable

from edge.report import Candidate, Report
from edgetool.choose import deciding
from edgetool.render.words import scale_of

_WIDTH = 720
_ROW = 26


def _text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    css = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{css}>{html.escape(words)}</text>'


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    span = (high - low) or 1.0
    step = 10 ** math.floor(math.log10(span / count))
    step *= next((factor for factor in (1, 2, 5, 10) if span / (step * factor) <= count), 10)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def _svg(height: float, body: list[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{html.escape(title)}">'
        + "".join(body)
        + "</svg>"
    )


def size_speed_chart(report: Report) -> str:
    """Times smaller (up) against time over the float32 time (across), with the intervals of the race."""
    points = []
    for row in report.candidates:
        speed = deciding(row)
        if speed is not None and speed.ratio is not None and speed.ratio_ci95 is not None:
            points.append((row, report.baseline.size_bytes / row.size_bytes, speed.ratio, speed.ratio_ci95))
    if not points:
        return "<p>Nothing was raced.</p>"
    points.sort(key=lambda point: -point[1])
    height, top, left, right = 340, 20, 56, _WIDTH - 20
    floor = height - 44
    # A log axis: twice as fast and twice as slow lie equally far from 1.
    low = min(0.8, *(point[3][0] for point in points)) * 0.93
    high = max(1.25, *(point[3][1] for point in points)) * 1.07
    tall = max(point[1] for point in points) * 1.15

    def x(ratio: float) -> float:
        return left + (right - left) * math.log(ratio / low) / math.log(high / low)

    def y(times: float) -> float:
        return floor - (floor - top) * times / tall

    shown: list[float] = []
    for ratio in (1, 0.8, 1.2, 0.9, 1.5, 0.7, 2, 0.6, 0.5, 3, 0.4, 5, 0.3, 10, 0.2, 20, 0.1, 50):
        if low <= ratio <= high and all(abs(x(ratio) - x(other)) > 50 for other in shown):
            shown.append(ratio)
    body = [
        f'<rect class="better" x="{left}" y="{top}" width="{x(1) - left:.1f}" height="{floor - top}"/>',
        _line("limit", x(1), x(1), top, floor),
        *(_text(x(ratio), floor + 16, f"{ratio:g} x", "middle", "axis") for ratio in shown),
        *(_line("grid", left, right, y(times), y(times)) for times in _ticks(0, tall)),
        *(_text(left - 6, y(times) + 4, f"{times:g} x", "end", "axis") for times in _ticks(0, tall)),
        _text((left + right) / 2, height - 8, "time over float32, one thread (left is faster)", "middle", "axis"),
        _text(4, 12, "times smaller", "start", "axis"),
    ]
    for row, times, ratio, (lower, upper) in points:
        kind = _kind(row, report)
        body.append(_line(f"bar {kind}", x(lower), x(upper), y(times), y(times)))
        body.append(f'<circle class="{kind}" cx="{x(ratio):.1f}" cy="{y(times):.1f}" r="5"/>')
    places = _labels([(x(ratio), y(times)) for _, times, ratio, _ in points])
    for (row, *_), (tx, ty, anchor) in zip(points, places, strict=True):
        body.append(_text(tx, ty, row.id, anchor, _kind(row, report)))
    return _svg(height, body, "Times smaller against time over float32")


def _labels(points: list[tuple[float, float]]) -> list[tuple[float, float, str]]:
    """A place for the name of each point, moved down until it covers no name placed before."""
    placed: list[tuple[float, float, str]] = []
    for x, y in points:
        anchor = "end" if x > _WIDTH * 0.7 else "start"
        tx, ty = x + (-10 if anchor == "end" else 10), y - 8
        while any(abs(ty - other_y) < 13 and abs(tx - other_x) < 160 for other_x, other_y, _ in placed):
            ty += 13
        placed.append((tx, ty, anchor))
    return placed


def _line(kind: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def drop_chart(report: Report) -> str:
    """One line a candidate: the drop with its interval, the upper bound's tick, and the limit."""
    rows = [row for row in report.candidates if row.drop is not None]
    if not rows or report.limits.max_drop is None:
        return "<p>No drop was measured.</p>"
    factor, unit = scale_of(rows[0].drop.unit if rows[0].drop else "")
    limit = report.limits.max_drop * factor
    # One collapsed candidate must not squeeze the others into a dot: the axis ends at three limits.
    wide = 3 * limit
    low = max(-wide, min(-0.2 * limit, *(row.drop.ci95[0] * factor for row in rows if row.drop)))
    high = min(wide, max(1.3 * limit, *(row.drop.ci95[1] * factor for row in rows if row.drop)))
    low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)
    height = _ROW * len(rows) + 44
    left = 24 + 9.2 * max(len(_drop_label(row)) for row in rows)  # as wide as the longest name in 16 px, on a phone

    def x(value: float) -> float:
        clipped = min(max(value, low), high)
        return left + (_WIDTH - left - 70) * (clipped - low) / (high - low)

    body = [f'<rect class="better" x="{left:.1f}" y="6" width="{x(limit) - left:.1f}" height="{_ROW * len(rows)}"/>']
    for tick in _ticks(low, high):
        body.append(_line("grid", x(tick), x(tick), 6, height - 36))
        body.append(_text(x(tick), height - 20, f"{tick:g}", "middle", "axis"))
    body.append(_line("limit", x(limit), x(limit), 6, height - 36))
    body.append(_text(x(limit), height - 4, f"limit {limit:g}{unit}", "middle", "axis"))
    for number, row in enumerate(rows):
        body.extend(_drop_line(row, report, 6 + _ROW * (number + 0.5), x, factor, beyond=high, left=left))
    return _svg(height, body, "Drop of every candidate with its interval and the limit")


def _drop_label(row: Candidate) -> str:
    return f"{row.id} ({row.accuracy.split})" if row.accuracy else row.id


def _drop_line(
    row: Candidate, report: Report, y: float, x: Callable[[float], float], factor: float, *, beyond: float, left: float
) -> list[str]:
    assert row.drop is not None
    kind = _kind(row, report)
    low, high = (bound * factor for bound in row.drop.ci95)
    value, upper = row.drop.value * factor, row.drop.upper95 * factor
    parts = [_text(left - 10, y + 4, _drop_label(row), "end", kind)]
    if value > beyond:
        return [*parts, _text(_WIDTH - 66, y + 4, f"{value:.3g} \N{RIGHTWARDS ARROW}", "start", kind)]
    return [
        *parts,
        _line(f"bar {kind}", x(low), x(high), y, y),
        _line(f"bar {kind}", x(upper), x(upper), y - 6, y + 6),
        f'<circle class="{kind}" cx="{x(value):.1f}" cy="{y:.1f}" r="5"/>',
    ]


def _kind(row: Candidate, report: Report) -> str:
    if row.id == report.chosen:
        return "chosen"
    return "also" if row.verdict is not None and row.verdict.ship else "other"
