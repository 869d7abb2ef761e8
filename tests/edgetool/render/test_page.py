"""The page: self-contained, escaped, honest about what was not measured."""

import dataclasses
from pathlib import Path

import pytest

from edge.errors import BadInput
from edge.report import Report, Skipped, from_plain, to_json
from edgetool.render.page import page, read_report, write_page
from edgetool.render.words import headline
from tests.edgetool.reports import candidate, drop, report


def full() -> Report:
    rows = (
        candidate("tflite-int8", 0.6, lost=drop(0.1, 0.4, "pass")),
        candidate("tflite-dynamic", 1.8, "slower", lost=drop(0, 0.2, "pass")),
        candidate("tflite-broken", 0.6, lost=drop(80, 82, "fail")),
    )
    return dataclasses.replace(report(*rows, chosen="tflite-int8"), skipped=(Skipped("int16x8", "no <kernel>"),))


def test_the_page_needs_nothing_else_and_escapes() -> None:
    text = page(full())
    assert "clothes &lt;b&gt;" in text
    assert "<b>clothes" not in text
    assert "no &lt;kernel&gt;" in text
    for outside in ("http://", "https://", "<script", "url(", "@import", "src="):
        assert outside not in text
    assert len(text.encode()) < 2_000_000


def test_the_page_shows_every_candidate_and_what_ships() -> None:
    text = page(full())
    assert text.count("<svg") == 2
    for name in ("tflite-float32", "tflite-int8", "tflite-dynamic", "tflite-broken"):
        assert name in text
    assert "tflite-int8 ships: 4.00 x smaller" in text
    assert "SHIPS" in text
    assert "Energy: not measured" in text


def test_what_a_file_takes_in_the_bundle_is_shown() -> None:
    packed = dataclasses.replace(candidate("packed", lost=drop(0.001, 0.004, "pass")), stored_bytes=12_345)
    shown = report(packed, chosen="packed")
    assert '<td data-label="In the bundle">12.3 kB</td>' in page(shown)
    assert '<td data-label="In the bundle">not measured</td>' in page(shown)  # the baseline of an older report
    assert "32.40 x in the bundle" in headline(shown)


def test_nothing_ships() -> None:
    text = page(report(candidate("tflite-int8", lost=drop(0.5, 2, "unresolved"))))
    assert "nothing ships" in text


def test_round_trip_and_rewriting(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(to_json(full()))
    again = read_report(tmp_path)
    assert again == full()
    assert write_page(again, tmp_path).read_text() == page(full())


@pytest.mark.parametrize("content", ["", "{", '{"schema": "x"}', "[]"])
def test_a_damaged_report_is_one_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(BadInput, match="no readable report"):
        read_report(tmp_path)


def test_unknown_fields_are_named() -> None:
    with pytest.raises(TypeError, match="no field 'colour'"):
        from_plain(Report, {"colour": 1})
