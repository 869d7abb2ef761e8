"""fleet.html: which device runs what, and what a release did to each class; one page that works offline."""

import html
import math
from collections.abc import Mapping
from pathlib import Path

from edge.durable import write_whole
from edge.report import to_json
from edgetool.fleet.benches import Bench
from edgetool.fleet.compare import Comparison
from edgetool.fleet.report import FleetReport
from edgetool.fleet.status import DeviceStatus
from edgetool.fleet.words import summary

_WIDTH = 720
_CELL = 26
_ROW = 24
# Releases in the order of how many devices run them; a pattern of letters beside the colour, for who sees none
_COLOURS = ("#0a7f4f", "#1f6feb", "#8250df", "#bf8700", "#6b7785")
_LETTERS = "ABCDE"
_WORDS = {"p50_ms": "median time", "p95_ms": "p95 of the time", "peak_rss_bytes": "peak memory"}
_MARK = {"slower": "failed", "faster": "chosen", "not_slower": "", "inconclusive": ""}


def write_fleet(report: FleetReport, folder: Path) -> None:
    """Write fleet.json and fleet.html."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "fleet.json", to_json(report).encode())
    write_whole(folder / "fleet.html", page(report).encode())


def page(report: FleetReport) -> str:
    """The whole page as text."""
    css = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    devices = report.status.devices
    ill = [one for one in devices if one.problem is not None]
    slower = report.regressions
    lead = f"{len(devices) - len(ill)} of {len(devices)} devices are healthy"
    lead += f"; {report.after} is a regression: {slower[0].as_text()}" if slower else ""
    parts = [
        f"<h1>{_e(report.fleet)}</h1>",
        f'<p class="lead {"bad" if ill or slower else "good"}">{_e(lead)}</p>',
        "<h2>Which device runs what</h2>",
        _picture(devices),
        _devices(devices),
        _rollout(report),
        _compared(report),
        f"<footer>{_e(report.when)}; edgetool fleet report</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>edgetool fleet: {_e(report.fleet)}</title><style>{css}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main></body></html>\n"
    )


def _e(text: object) -> str:
    return html.escape(str(text))


def _text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    css = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{css}>{_e(words)}</text>'


def _runs(device: DeviceStatus) -> str:
    return f"{device.bundle} ({device.sha256[:8]})" if device.bundle and device.sha256 else "nothing known"


def _picture(devices: tuple[DeviceStatus, ...]) -> str:
    """A square for each device, a row of them for each class; the colour and letter are its release."""
    counts: dict[str, int] = {}
    for device in devices:
        counts[_runs(device)] = counts.get(_runs(device), 0) + 1
    order = sorted(counts, key=lambda runs: (runs == "nothing known", -counts[runs]))
    kinds = {runs: min(number, len(_COLOURS) - 1) for number, runs in enumerate(order)}
    left, y, body = 150, 8.0, []
    columns = (_WIDTH - left) // _CELL
    for device_class in dict.fromkeys(device.device_class for device in devices):
        mine = [device for device in devices if device.device_class == device_class]
        body.append(_text(left - 10, y + 16, device_class, "end"))
        for number, device in enumerate(mine):
            x, top = left + _CELL * (number % columns), y + _CELL * (number // columns)
            kind = kinds[_runs(device)]
            body.append(_cell(x, top, device, kind))
        y += _CELL * math.ceil(len(mine) / columns) + 6
    for runs in order:
        kind = kinds[runs]
        body.append(f'<rect x="{left}" y="{y:.0f}" width="16" height="16" rx="3" fill="{_COLOURS[kind]}"/>')
        body.append(_text(left + 24, y + 13, f"{_LETTERS[kind]}  {runs}: {counts[runs]} of {len(devices)}"))
        y += 22
    return (
        f'<svg viewBox="0 0 {_WIDTH} {y:.0f}" role="img" aria-label="What each device runs">{"".join(body)}</svg>'
        '<p class="note">One square is one device; a red frame marks one that is not healthy or does not answer.</p>'
    )


def _cell(x: float, y: float, device: DeviceStatus, kind: int) -> str:
    frame = "" if device.problem is None else ' stroke="#d1242f" stroke-width="3"'
    state = "healthy" if device.problem is None else device.problem
    return (
        f"<g><title>{_e(device.name)}: {_e(_runs(device))}, {_e(state)}</title>"
        f'<rect x="{x}" y="{y:.0f}" width="{_CELL - 5}" height="{_CELL - 5}" rx="3" fill="{_COLOURS[kind]}"{frame}/>'
        f'<text x="{x + (_CELL - 5) / 2:.1f}" y="{y + 15:.0f}" text-anchor="middle" style="fill:#fff">'
        f"{_LETTERS[kind]}</text></g>"
    )


def _devices(devices: tuple[DeviceStatus, ...]) -> str:
    body = []
    for one in devices:
        emulated = " (emulated)" if one.emulated else ""
        cells = {
            "Class": one.device_class,
            "Runs": _runs(one),
            "Release": one.release or "",
            "Answers in": "not measured" if one.ms is None else f"{one.ms:.3g} ms{emulated}",
            "Starts": "" if one.starts is None else one.starts,
            "State": one.problem or "healthy",
        }
        mark = "" if one.problem is None else ' class="failed"'
        small = f"<small>{_e(one.description or one.address)}</small>"
        body.append(f'<tr{mark}><th scope="row">{_e(one.name)}{small}</th>{_cells(cells)}</tr>')
    return _table(("Device", "Class", "Runs", "Release", "Answers in", "Starts", "State"), body)


def _cells(cells: Mapping[str, object]) -> str:
    return "".join(f'<td data-label="{_e(name)}">{_e(value)}</td>' for name, value in cells.items())


def _table(names: tuple[str, ...], body: list[str]) -> str:
    head = "".join(f"<th>{_e(name)}</th>" for name in names)
    return f'<table class="cards"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'


def _rollout(report: FleetReport) -> str:
    if report.rollout is None:
        return ""
    lines = "<br>".join(_e(line) for line in summary(report.rollout).splitlines())
    return f"<h2>The last rollout</h2><p>begun {_e(report.rollout.began)}</p><p>{lines}</p>"


def _compared(report: FleetReport) -> str:
    if report.before is None or report.after is None:
        return '<h2>What the release did</h2><p class="note">No two releases were measured on the same devices.</p>'
    rows = [one for one in report.comparisons if one.against is None]
    pairs = [one for one in report.comparisons if one.against is not None]
    note = (
        "The same devices before and after: the point is the mean ratio of a class with its interval, the ticks are "
        f"its devices; right of 1 is worse. The {len(report.comparisons)} intervals hold together (95 %)."
    )
    parts = [f"<h2>{_e(report.after)} against {_e(report.before)}</h2>", f'<p class="note">{note}</p>', _forest(rows)]
    parts.append(_comparisons(rows))
    if pairs:
        parts += ["<h3>Does it differ between classes?</h3>", _forest(pairs), _comparisons(pairs)]
    if report.void:
        items = "".join(f"<li>{_e(device)}: {_e(reason)}</li>" for device, reason in report.void)
        parts.append(f"<h3>Not compared</h3><ul>{items}</ul>")
    return "\n".join([*parts, _measured(report.benches)])


def _label(one: Comparison) -> str:
    over = "" if one.against is None else f" over {one.against}"
    return f"{one.device_class}{over}, {_WORDS.get(one.metric, one.metric)}"


def _forest(rows: list[Comparison]) -> str:
    """One line a comparison on a logarithmic axis, 1 in sight."""
    if not rows:
        return "<p>Nothing can be compared.</p>"
    ends = [end for one in rows for end in (*(one.interval or ()), one.ratio, *(ratio for _, ratio in one.ratios))]
    low, high = max(0.2, min(0.95, *ends)) * 0.98, min(5.0, max(1.05, *ends)) * 1.02
    left = 24 + 6.6 * max(len(_label(one)) for one in rows)
    height = _ROW * len(rows) + 34

    def x(ratio: float) -> float:
        clipped = min(max(ratio, low), high)
        return left + (_WIDTH - left - 20) * math.log(clipped / low) / math.log(high / low)

    body = [f'<rect class="better" x="{left:.1f}" y="4" width="{x(1) - left:.1f}" height="{_ROW * len(rows)}"/>']
    for tick in (0.2, 0.5, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.5, 2, 5):
        if low <= tick <= high:
            kind = "limit" if tick == 1 else "grid"
            body.append(f'<line class="{kind}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="4" y2="{height - 30}"/>')
            body.append(_text(x(tick), height - 12, f"{tick:g}", "middle", "axis"))
    for number, one in enumerate(rows):
        y = 4 + _ROW * (number + 0.5)
        kind = "chosen" if one.verdict == "faster" else ""
        paint = ' style="stroke:var(--bad);fill:var(--bad)"' if one.verdict == "slower" else ""
        label = f'<text x="{left - 10:.1f}" y="{y + 4:.1f}" text-anchor="end" class="{kind}"'
        label += ' style="fill:var(--bad);font-weight:700"' if paint else ""
        body.append(f"{label}>{_e(_label(one))}</text>")
        body += [
            f'<line class="grid" x1="{x(r):.1f}" x2="{x(r):.1f}" y1="{y - 6:.1f}" y2="{y + 6:.1f}"/>'
            for _, r in one.ratios
        ]
        if one.interval is not None:
            first, last = one.interval
            where = f'x1="{x(first):.1f}" x2="{x(last):.1f}" y1="{y:.1f}" y2="{y:.1f}"'
            body.append(f'<line class="bar {kind}" {where}{paint}/>')
        body.append(f'<circle class="{kind}" cx="{x(one.ratio):.1f}" cy="{y:.1f}" r="5"{paint}/>')
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="Ratios with intervals">{"".join(body)}</svg>'
    )


def _comparisons(rows: list[Comparison]) -> str:
    body = []
    for one in rows:
        interval = (
            "one device is not enough" if one.interval is None else f"{one.interval[0]:.3f} to {one.interval[1]:.3f}"
        )
        cells = {
            "Ratio": f"{one.ratio:.3f}",
            "Interval": interval,
            "Devices": one.devices,
            "Verdict": one.verdict.replace("_", " "),
        }
        mark = f' class="{_MARK[one.verdict]}"' if _MARK[one.verdict] else ""
        body.append(f'<tr{mark}><th scope="row">{_e(_label(one))}</th>{_cells(cells)}</tr>')
    return _table(("What", "Ratio", "Interval", "Devices", "Verdict"), body)


def _measured(benches: tuple[Bench, ...]) -> str:
    body = []
    for one in benches:
        cells: dict[str, object] = {"Release": f"{one.bundle} ({one.sha256[:8]})"}
        cells |= {name: f"{value:.5g}" for name, value in one.figures.items()}
        cells |= {"When": one.when, "Void": one.void or ""}
        body.append(f'<tr><th scope="row">{_e(one.device)}</th>{_cells(cells)}</tr>')
    names = ("Device", "Release", "p50_ms", "p95_ms", "peak_rss_bytes", "When", "Void")
    return f"<details><summary>All {len(benches)} benchmarks</summary>{_table(names, body)}</details>"
