"""The pictures of a benchmark's page, as inline SVG that needs no script."""

import html
import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from edge.bench_report import BenchRow, Profile, Sustained, Throughput
from edgetool.render.words import duration

WIDTH = 720
ROW = 54
SHOWN_OPS = 20


def _text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    css = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{css}>{html.escape(words)}</text>'


def _line(kind: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _svg(height: float, body: Sequence[str], title: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{html.escape(title)}">{"".join(body)}</svg>'


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every decade in between, thinned out to at most 8."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]
    if len(ticks) > 8:
        ticks = [10.0**d for d in decades if low <= 10.0**d <= high]
    return ticks


def latency_chart(rows: Sequence[BenchRow], name: Callable[[BenchRow], str]) -> str:
    """One strip a row on a common logarithmic axis: darker where more calls lie, p50 with its interval, p95 and p99."""
    low = min(row.latency.min_ms for row in rows) / 1.05
    high = max(max(row.latency.at(99).ms * 1.6, row.latency.at(99).ci95[1]) for row in rows)
    left, right = 12.0, WIDTH - 12.0

    def x(ms: float) -> float:
        clipped = min(max(ms, low), high)
        return left + (right - left) * math.log(clipped / low) / math.log(high / low)

    floor = 6 + ROW * len(rows)
    body = []
    for tick in _log_ticks(low, high):
        body += [
            _line("grid", x(tick), x(tick), 6, floor),
            _text(x(tick), floor + 18, duration(tick), "middle", "axis"),
        ]
    for number, row in enumerate(rows):
        body += _strip(row, name(row), 6 + ROW * number, x, high)
    return _svg(floor + 26, body, "Distribution of latency of every row")


def _strip(row: BenchRow, name: str, top: float, x: Callable[[float], float], high: float) -> list[str]:
    sketch = row.latency.sketch_ms
    y, tall = top + 26, 16
    parts = [_text(12, top + 18, name)]
    for low, up in pairwise(sketch):  # each holds 1 % of the calls
        wide = max(x(up) - x(low), 0.4)
        shade = min(1.0, 6 / (wide * 4))  # 1 % of the calls in 1.5 px or less is as dark as it gets
        parts.append(
            f'<rect class="strip" x="{x(low):.1f}" y="{y}" width="{wide:.1f}" height="{tall}" opacity="{shade:.2f}"/>'
        )
    middle = row.latency.at(50)
    parts.append(_line("bar chosen", x(middle.ci95[0]), x(middle.ci95[1]), y + tall / 2, y + tall / 2))
    parts.append(f'<circle class="chosen" cx="{x(middle.ms):.1f}" cy="{y + tall / 2:.1f}" r="4.5"/>')
    parts += [_line("bar", x(row.latency.at(q).ms), x(row.latency.at(q).ms), y - 2, y + tall + 2) for q in (95, 99)]
    if row.latency.max_ms > high:
        parts.append(
            _text(WIDTH - 12, top + 18, f"max {duration(row.latency.max_ms)} \N{RIGHTWARDS ARROW}", "end", "axis")
        )
    return parts


def throughput_chart(rows: Sequence[BenchRow], name: Callable[[BenchRow], str]) -> str:
    """Inferences a second by the number of streams, one bar each, with the 95 % interval."""
    bars: list[tuple[str, Throughput]] = [
        (f"{name(row)}: {one.streams} stream{'' if one.streams == 1 else 's'}", one)
        for row in rows
        for one in row.throughput
    ]
    if not bars:
        return "<p>Not measured.</p>"
    most = max(one.ci95[1] for _, one in bars) * 1.15
    body = []
    for number, (label, one) in enumerate(bars):
        y, wide = 6 + 44 * number, (WIDTH - 140) * one.inferences_per_s / most
        low, high = (12 + (WIDTH - 140) * bound / most for bound in one.ci95)
        body.append(_text(12, y + 14, label))
        body.append(f'<rect class="strip" x="12" y="{y + 20}" width="{wide:.1f}" height="12"/>')
        body.append(_line("bar chosen", low, high, y + 26, y + 26))
        body.append(_text(max(high, 12 + wide) + 8, y + 31, f"{one.inferences_per_s:,.0f}/s"))
    return _svg(12 + 44 * len(bars), body, "Throughput by streams")


def profile_chart(profile: Profile) -> str:
    """The slowest operations, longest first, with their share."""
    ops = sorted(profile.ops, key=lambda op: -op.us)
    shown, rest = ops[:SHOWN_OPS], ops[SHOWN_OPS:]
    bars = [(f"{op.op} {op.name}", op.us, op.share) for op in shown]
    if rest:
        bars.append((f"{len(rest)} more", sum(op.us for op in rest), sum(op.share for op in rest)))
    most = max((us for _, us, _ in bars), default=1.0) or 1.0
    body = []
    for number, (label, us, share) in enumerate(bars):
        y = 6 + 42 * number
        wide = (WIDTH - 170) * us / most
        body.append(_text(12, y + 14, label if len(label) < 70 else f"{label[:68]}\N{HORIZONTAL ELLIPSIS}"))
        body.append(f'<rect class="strip" x="12" y="{y + 20}" width="{wide:.1f}" height="10"/>')
        body.append(_text(20 + wide, y + 30, f"{duration(us / 1e3)}, {share:.0%}"))
    return _svg(12 + 42 * len(bars), body, "Time by operation")


def sustained_chart(run: Sustained) -> str:
    """p50 of every second over the run, and the temperature where the machine tells it."""
    height, left, top, floor = 200.0, 64.0, 12.0, 160.0
    end = max(run.seconds, 1e-9)
    most = max(one.p50_ms for one in run.trace) * 1.15

    def x(at: float) -> float:
        return left + (WIDTH - left - 50) * at / end

    def y(ms: float) -> float:
        return floor - (floor - top) * ms / most

    body = [_line("grid", left, WIDTH - 50, y(part * most), y(part * most)) for part in (0, 0.5, 1)]
    body += [_text(left - 6, y(part * most) + 4, duration(part * most), "end", "axis") for part in (0.5, 1)]
    points = " ".join(f"{x(one.at_s):.1f},{y(one.p50_ms):.1f}" for one in run.trace)
    body.append(f'<polyline class="trace" points="{points}"/>')
    warm = [(one.at_s, one.temperature_c) for one in run.trace if one.temperature_c is not None]
    if warm:
        hottest = max(temperature for _, temperature in warm) * 1.15
        path = " ".join(f"{x(at):.1f},{floor - (floor - top) * t / hottest:.1f}" for at, t in warm)
        body.append(f'<polyline class="warm" points="{path}"/>')
        body.append(
            _text(WIDTH - 46, floor - (floor - top) / 1.15, f"{hottest / 1.15:.0f} \N{DEGREE SIGN}C", kind="axis")
        )
    body += [_text(x(end * part), floor + 18, f"{end * part:.0f} s", "middle", "axis") for part in (0, 0.5, 1)]
    return _svg(height, body, "p50 of every second of the sustained run")
