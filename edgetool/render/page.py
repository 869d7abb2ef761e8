"""report.html: one self-contained page, without JavaScript, that works offline and on a phone."""

import html
import json
from pathlib import Path

from edge.errors import BadInput
from edge.report import Candidate, Measurement, RaceConditions, Report, from_plain
from edgetool.choose import deciding
from edgetool.render.charts import drop_chart, size_speed_chart
from edgetool.render.search_page import search_section, trial_failures
from edgetool.render.words import (
    accuracy_words,
    corrected_words,
    drop_words,
    duration,
    headline,
    parity_words,
    scale_of,
    speed_words,
    status_words,
    stored_words,
)
from edgetool.units import format_bytes

BUSY_CORES = 0.25  # other processes above this visibly widen the intervals on a two-core machine


def read_report(folder: Path) -> Report:
    """The report of a run.

    Raises BadInput: there is none in `folder`, or it is of another schema.
    """
    path = folder / "report.json"
    try:
        plain = json.loads(path.read_text())
        report: Report = from_plain(Report, plain)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"no readable report.json in {folder}: {error}", "give the folder of a finished run") from error
    return report


def write_page(report: Report, folder: Path) -> Path:
    """Write the page beside the report.json; returns its path."""
    path = folder / "report.html"
    path.write_text(page(report), encoding="utf-8")
    return path


def page(report: Report) -> str:
    """The whole page as text."""
    css = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    everyone = (report.baseline, *report.candidates)
    parts = [
        f"<h1>{_e(report.task.name)}</h1>",
        f'<p class="lead {"good" if report.chosen else "bad"}">{_e(headline(report))}</p>',
        _facts(report),
        "<h2>Smaller and faster?</h2>",
        '<p class="note">Each point is a file: how many times smaller than float32, and its time over the float32 time '
        "on the same engine, one thread. Bars are 95 % intervals; left of the line is faster. "
        "The verdict is that of the wider 99 % interval.</p>",
        size_speed_chart(report),
        "<h2>What was lost?</h2>",
        '<p class="note">The drop against the float32 baseline on the same examples, with its 95 % interval. '
        "The line is the limit; the gate asks that the one-sided 95 % upper bound (the tick) stays left of it."
        f"{_corrected(report)}</p>",
        drop_chart(report),
        "<h2>All candidates</h2>",
        _table(report, everyone),
        search_section(report),
        "<h2>Measurements</h2>",
        _measurements(everyone),
        _skipped(report, everyone),
        _again(report),
        _environment(report),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>edgetool: {_e(report.task.name)}</title><style>{css}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def _e(text: object) -> str:
    return html.escape(str(text))


def _facts(report: Report) -> str:
    limits = report.limits
    factor, unit = scale_of(next((row.drop.unit for row in report.candidates if row.drop is not None), ""))
    said = [f"drop &le; {limits.max_drop * factor:g}{unit}"] if limits.max_drop is not None else []
    if limits.max_size_bytes is not None:
        said.append(f"size &le; {format_bytes(limits.max_size_bytes)}")
    if limits.max_p95_ms is not None:
        said.append(f"p95 &le; {limits.max_p95_ms:g} ms")
    if limits.max_rss_bytes is not None:
        said.append(f"RSS &le; {format_bytes(limits.max_rss_bytes)}")
    task = report.task
    facts = {
        "Metric": f"{_e(task.metric)}, {task.direction} is better",
        "Examples": f"{task.n_train:,} train, {task.n_val:,} val, {task.n_test:,} test",
        "Limits": ", ".join(said) or "none",
        "Target": _e(report.target),
        "Seed": str(report.seed),
    }
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items()) + "</dl>"


def _table(report: Report, everyone: tuple[Candidate, ...]) -> str:
    rows = []
    for row in everyone:
        speed = deciding(row)
        mark = ' class="chosen"' if row.id == report.chosen else ""
        cells = {
            "Size": format_bytes(row.size_bytes),
            "In the bundle": stored_words(row),
            report.task.metric: accuracy_words(row.accuracy),
            "Drop": drop_words(row.drop),
            "p50": duration(None if speed is None else speed.p50_ms),
            "Time over float32": speed_words(speed),
            "Parity": parity_words(row.parity),
            "Verdict": status_words(row, report),
        }
        steps = " &rarr; ".join(_e(step) for step in row.steps) or "as it came"
        rows.append(
            f'<tr{mark}><th scope="row">{_e(row.id)}<small>{steps}</small></th>'
            + "".join(f'<td data-label="{_e(name)}">{_e(value)}</td>' for name, value in cells.items())
            + "</tr>"
        )
    heads = (
        "Candidate",
        "Size",
        "In the bundle",
        report.task.metric,
        "Drop",
        "p50, 1 thread",
        "Time over float32",
        "Parity",
        "Verdict",
    )
    head = "".join(f'<th scope="col">{_e(name)}</th>' for name in heads)
    return f'<table class="cards"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _measurements(everyone: tuple[Candidate, ...]) -> str:
    rows = "".join(_measurement(row.id, one) for row in everyone for one in row.measurements)
    heads = (
        "Candidate",
        "Engine",
        "Threads",
        "p50",
        "p95 (upper)",
        "p99",
        "Load",
        "First",
        "Peak RSS",
        "On the delegate",
        "Time over float32",
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _measurement(name: str, one: Measurement) -> str:
    label = "" if one.status == "measured" else f" ({one.status})"
    placement = f"{one.placement.ops_offloaded} of {one.placement.ops_total} on {one.placement.actual}"
    fallback = ", ".join(sorted({op.op for op in one.placement.fallback_ops}))
    cells = (
        f"{one.engine}{label}",
        one.threads,
        duration(one.p50_ms),
        f"{duration(one.p95_ms)} ({duration(one.p95_upper_ms)})",
        duration(one.p99_ms),
        duration(one.load_ms),
        duration(one.first_ms),
        "not measured" if one.peak_rss_bytes is None else format_bytes(one.peak_rss_bytes),
        placement + (f"; not: {fallback}" if fallback else ""),
        speed_words(one),
    )
    return f'<tr><th scope="row">{_e(name)}</th>' + "".join(f"<td>{_e(cell)}</td>" for cell in cells) + "</tr>"


def _corrected(report: Report) -> str:
    """What the gate asks on test where several candidates were confirmed there."""
    drops = [row.drop for row in report.candidates if row.drop is not None and row.drop.upper_of_all is not None]
    if not drops:
        return ""
    k = drops[0].confirmed
    return (
        f" {k} candidates were confirmed on test, so there each is held to its {1 - 0.05 / k:.2%} bound instead "
        f"(Bonferroni){_e(''.join(corrected_words(drop) for drop in drops))}."
    )


def _skipped(report: Report, everyone: tuple[Candidate, ...]) -> str:
    said = [(one.what, one.reason) for one in report.skipped]
    said += [(f"{row.id}: {one.what}", one.reason) for row in everyone for one in row.skipped]
    said += trial_failures(report.search) if report.search is not None else []
    if not said:
        return "<h2>Skipped</h2><p>Nothing was skipped.</p>"
    items = "".join(f"<li><b>{_e(what)}</b>: {_e(reason)}</li>" for what, reason in said)
    return f"<h2>Skipped</h2><ul>{items}</ul>"


def _again(report: Report) -> str:
    if report.chosen is None:
        return "<h2>How to make it again</h2><p>Nothing shipped, so there is nothing to make again.</p>"
    return (
        "<h2>How to make it again</h2><p><code>edgetool compress recipe.lock.toml --out DIR</code> with the "
        "<code>recipe.lock.toml</code> beside this page: it holds the passes with all settings, the seed, the "
        "versions and the hashes of model and data. On the same machine it makes the same bytes.</p>"
    )


def _environment(report: Report) -> str:
    machine = report.environment
    versions = ", ".join(f"{name} {version}" for name, version in sorted(machine.versions.items()))
    return (
        f"<footer><p>Measured on {_e(machine.cpu)}, {machine.cores} cores, load {machine.load:.2f}, governor "
        f"{_e(machine.governor or 'not readable')}, {_e(machine.os)}, Python {_e(machine.python)}. "
        f"{_race_words(report.race)}</p>"
        f"<p>{_e(versions)}</p><p>edgetool {_e(report.edgetool)}, schema {_e(report.schema)}. "
        "Energy: not measured.</p></footer>"
    )


def _race_words(race: RaceConditions | None) -> str:
    if race is None:
        return ""
    others = "not readable" if race.others_cores is None else f"{race.others_cores:.1f} cores"
    throttled = {True: "yes", False: "no", None: "the machine does not tell"}[race.throttled]
    busy = (race.others_cores or 0.0) > BUSY_CORES
    warning = " <b>The machine was busy: intervals are wider than they need be.</b>" if busy else ""
    return (
        f"The race took {race.seconds:.0f} s; other processes meanwhile: {others}, load {race.load_before:.1f} to "
        f"{race.load_after:.1f}; throttled: {throttled}.{warning}"
    )
