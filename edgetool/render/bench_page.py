"""bench.html: one self-contained page, without JavaScript, that works offline and on a phone; and its bench.json."""

import dataclasses
import html
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edge.bench_report import BenchModel, BenchReport, BenchRow
from edge.durable import write_whole
from edge.report import to_json
from edge.tensors import TensorSpec
from edgetool.render.bench_charts import latency_chart, profile_chart, sustained_chart, throughput_chart
from edgetool.render.bench_words import (
    against_words,
    difference_words,
    energy_words,
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
from edgetool.render.words import NOT_MEASURED, duration
from edgetool.units import format_bytes
from edgetool.verify.race import Launches

SAMPLES = "samples.npz"
STRIPS = (
    '<p class="note">Each strip holds all calls of one row; it is darker where more of them lie. The point is p50 '
    "with its 95 % interval, the ticks are p95 and p99.</p>"
)


def write_bench(report: BenchReport, samples: Mapping[str, Launches], folder: Path) -> BenchReport:
    """Write bench.json, bench.html and every call (samples.npz: seconds, `ROW/LAUNCH`); the report that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        f"{number}/{launch}": seconds.astype(np.float32)
        for number, launches in enumerate(samples.values())
        for launch, seconds in enumerate(launches.seconds)
    }
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]  # numpy's stub takes them for its own options
    write_whole(folder / SAMPLES, packed.getvalue())
    named = dataclasses.replace(report, samples=SAMPLES)
    write_whole(folder / "bench.json", to_json(named).encode())
    write_whole(folder / "bench.html", page(named).encode())
    return named


def page(report: BenchReport) -> str:
    """The whole page as text."""
    css = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    title = ", ".join(model.name for model in report.models)
    lead = (
        "; ".join(report.failures)
        or f"{len(report.rows)} row{'' if len(report.rows) == 1 else 's'}, every check passed"
    )
    parts = [
        f"<h1>{_e(title)}</h1>",
        f'<p class="lead {"bad" if report.failures else "good"}">{_e(lead)}</p>',
        *(_section(report, *section) for section in sections(report)),
        _failed(report),
        _models(report),
        _footer(report),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>edgetool bench: {_e(title)}</title><style>{css}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def _e(text: object) -> str:
    return html.escape(str(text))


def _section(report: BenchReport, status: str, title: str, warning: str, rows: list[BenchRow]) -> str:
    parts = [f"<h2>{_e(title)}</h2>"]
    if warning:
        parts.append(f'<p class="note"><b>{_e(warning)}</b></p>')
    parts += [_table(rows), "<h3>How long one inference takes</h3>", STRIPS, latency_chart(rows, row_name)]
    if any(row.throughput for row in rows):
        parts += ["<h3>How many a second</h3>", throughput_chart(rows, row_name)]
    parts += [_details(rows)]
    for row in rows:
        if row.sustained is not None:
            parts += [f"<h3>{_e(row_name(row))}: {row.sustained.seconds:.0f} s without a pause</h3>"]
            parts += [f"<p>{_e(row.sustained.verdict)}</p>", sustained_chart(row.sustained)]
        if row.profile is not None:
            parts += [f"<h3>{_e(row_name(row))}: time by operation</h3>"]
            parts += [f'<p class="note">{_e(row.profile.method)}</p>', profile_chart(row.profile)]
    return "\n".join(parts)


def _table(rows: list[BenchRow]) -> str:
    compared = any(row.baseline is not None for row in rows)
    body = []
    for row in rows:
        cells = {
            "Verdict": verdict_words(row),
            "p50 [95 %]": percentile_words(row, 50),
            "Per second": throughput_words(row),
            "Peak RSS": memory_words(row),
            "Placement": placement_words(row),
            "Outputs": difference_words(row.difference),
            **({"Time": against_words(row, rows)} if compared else {}),
        }
        mark = "" if row.verdict == "ok" else ' class="failed"'
        body.append(
            f'<tr{mark}><th scope="row">{_e(row_name(row))}</th>'
            + "".join(f'<td data-label="{_e(name)}">{_e(value)}</td>' for name, value in cells.items())
            + "</tr>"
        )
    head = "".join(f'<th scope="col">{_e(name)}</th>' for name in ("", *cells))
    return f'<table class="cards bench"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'


def _details(rows: list[BenchRow]) -> str:
    """All that a row knows, one fact a line, folded away."""
    parts = []
    for row in rows:
        facts = _facts(row)
        body = "".join(f"<tr><th scope='row'>{_e(key)}</th><td>{_e(value)}</td></tr>" for key, value in facts)
        parts.append(f"<details><summary>{_e(row_name(row))}: everything</summary><table>{body}</table></details>")
    return "<h3>Everything</h3>" + "".join(parts)


def _facts(row: BenchRow) -> list[tuple[str, str]]:
    times, begun, at = row.latency, row.start, row.placement
    warm = NOT_MEASURED if begun.warmup_calls is None else f"{begun.warmup_calls} calls"
    facts = [
        ("engine", f"{row.measurement.engine}, {row.measurement.status}"),
        ("asked for, used", f"{at.requested}, {at.actual}" + (f" ({at.emulated_by})" if at.emulated_by else "")),
        ("placement", placement_words(row)),
        *(("fell back", f"{op}: {reason}") for op, reason in sorted({(one.op, one.reason) for one in at.fallback_ops})),
        ("process start and import", duration(begun.import_ms)),
        ("load, cold and cached", f"{duration(begun.cold_load_ms)}, {duration(begun.cached_load_ms)}"),
        ("first inference, cold and cached", f"{duration(begun.cold_first_ms)}, {duration(begun.cached_first_ms)}"),
        ("first over p50", NOT_MEASURED if begun.first_over_p50 is None else f"{begun.first_over_p50:.1f} x"),
        ("warm-up until stationary", "never stationary" if begun.warmup_calls is None else warm),
        ("calls", f"{times.n:,} in {times.launches} launches, {times.seconds:.2f} s"),
        ("min, mean, max", f"{duration(times.min_ms)}, {duration(times.mean_ms)}, {duration(times.max_ms)}"),
        ("standard deviation", duration(times.std_ms)),
        *((f"p{one.percent} [95 %]", percentile_words(row, one.percent)) for one in times.percentiles),
        ("memory", memory_words(row)),
        ("arena", NOT_MEASURED if row.memory.arena_bytes is None else format_bytes(row.memory.arena_bytes)),
        ("outputs", difference_words(row.difference)),
        ("energy per inference", energy_words(row)),
    ]
    if row.difference is not None:
        facts.append(
            (
                "compared with",
                f"{row.difference.reference} on {row.difference.inputs}; {row.difference.allowed} is allowed",
            )
        )
    if row.end_to_end is not None:
        facts.append((f"end to end from {row.end_to_end_from}", duration(row.end_to_end.at(50).ms)))
    if row.single_stream is not None:
        one = row.single_stream
        rule = "MLPerf single stream" if one.valid else "single stream (too short for MLPerf)"
        facts.append((rule, f"p90 {duration(one.p90_ms)}, {one.queries:,} queries in {one.seconds:.1f} s"))
    facts += [(f"not measured: {one.what}", one.reason) for one in row.not_measured]
    facts += [("failed", reason) for reason in row.reasons]
    return facts


def _failed(report: BenchReport) -> str:
    said = failed_words(report)
    if not said:
        return "<h2>Skipped</h2><p>Nothing was skipped.</p>"
    return "<h2>Skipped</h2><ul>" + "".join(f"<li>{_e(line)}</li>" for line in said) + "</ul>"


def _models(report: BenchReport) -> str:
    heads = ("Model", "Precision", "Size", "Gzipped", "Parameters", "MACs", "Inputs", "Outputs", "SHA-256")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(_model(model) for model in report.models)
    return f'<h2>Models</h2><div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _model(model: BenchModel) -> str:
    cells = (
        model.precision or "not told",
        format_bytes(model.size_bytes),
        format_bytes(model.gzip_bytes),
        "not told" if model.params is None else f"{model.params:,}",
        "not told" if model.macs is None else f"{model.macs:,}",
        "; ".join(map(_spec, model.inputs)),
        "; ".join(map(_spec, model.outputs)),
        model.sha256[:16],
    )
    return f'<tr><th scope="row">{_e(model.name)}</th>' + "".join(f"<td>{_e(cell)}</td>" for cell in cells) + "</tr>"


def _spec(spec: TensorSpec) -> str:
    shape = ", ".join("any" if length is None else str(length) for length in spec.shape)
    return f"{spec.name}: {spec.dtype} [{shape}]"


def _footer(report: BenchReport) -> str:
    machine, clocks = report.environment, report.clocks
    versions = ", ".join(f"{name} {version}" for name, version in sorted(machine.versions.items()))
    frequency = "not readable" if clocks is None or clocks.current_mhz is None else f"{clocks.current_mhz:.0f} MHz"
    heat = None if clocks is None else clocks.temperature_c
    warm = "not readable" if heat is None else f"{heat:.0f} \N{DEGREE SIGN}C"
    return (
        f"<footer><p>Measured on {_e(machine.cpu)}, {machine.cores} cores, load {machine.load:.2f}, governor "
        f"{_e(machine.governor or 'not readable')}, frequency {frequency}, temperature {warm}, "
        f"{_e(machine.os)}, Python {_e(machine.python)}. {_e(machine_words(report.race))}</p>"
        f"<p>{_e(versions)}</p><p>edgetool {_e(report.edgetool)}, schema {_e(report.schema)}.</p></footer>"
    )
