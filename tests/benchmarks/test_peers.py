import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import Figure
from benchmarks.peers.__main__ import MODELS, figures
from benchmarks.peers.catalogue import METHODS, PROGRAMS, Environment, Method, write_file
from benchmarks.peers.front import Comparison, outside
from benchmarks.peers.models import RECIPES
from benchmarks.peers.page import page_tables
from edge.report import Skipped


def comparison(ours, gap, cost, gap_half=0.1, cost_half=0.0):
    return Comparison(ours, gap, (gap - gap_half, gap + gap_half), cost, (cost - cost_half, cost + cost_half))


def test_a_file_that_is_as_accurate_and_as_cheap_covers_the_peer():
    assert outside([comparison("far", 5.0, 3.0), comparison("near", 0.05, 1.0)]) is None


def test_intervals_are_given_to_us():
    assert outside([comparison("a", 0.3, 1.0)]) is not None
    assert outside([comparison("a", 0.3, 1.0, gap_half=0.4)]) is None
    assert outside([comparison("a", 0.0, 1.04)]) is not None
    assert outside([comparison("a", 0.0, 1.04, cost_half=0.05)]) is None


def test_two_files_that_each_lack_something_do_not_cover_together():
    accurate, dear = comparison("accurate", -0.2, 1.5), comparison("dear", 0.0, 2.0)
    cheap, poor = comparison("cheap", 1.0, 0.5), comparison("poor", 3.0, 0.1)
    lack = outside([dear, accurate, poor, cheap])
    assert lack is not None
    assert lack.most_accurate is cheap
    assert lack.cheapest is accurate


def test_what_is_not_there_is_none():
    lack = outside([comparison("a", 1.0, 2.0)])
    assert lack is not None
    assert lack.most_accurate is None
    assert lack.cheapest is None
    with pytest.raises(ValueError, match="no file of ours"):
        outside([])


values = st.floats(-3, 3, allow_nan=False)
comparisons = st.builds(comparison, st.just("x"), values, values.map(lambda x: 2.0**x), st.just(0.1), st.just(0.01))


@given(st.lists(comparisons, min_size=1), comparisons)
def test_one_more_file_of_ours_never_puts_a_peer_outside(ours, more):
    before, after = outside(ours), outside([*ours, more])
    assert (before is None) <= (after is None)
    if after is not None:
        assert all(not (one.as_accurate and one.as_cheap) for one in [*ours, more])


def test_every_method_has_a_program_and_every_package_a_version():
    assert len({method.id for method in METHODS}) == len(METHODS)
    for method in METHODS:
        assert (PROGRAMS / f"{method.program}.py").is_file()
        assert any("==" in requirement for requirement in method.environment.requirements)
    assert all((RECIPES / f"{name}.toml").is_file() for name in MODELS)


def test_a_peer_that_fails_is_said_with_its_last_line_and_leaves_no_file(tmp_path):
    method = Method("onnxruntime", "static", Environment("here", ()), "onnxruntime_tools", "onnx", "onnx")
    missing, out = tmp_path / "missing.onnx", tmp_path / "out.onnx"
    with pytest.raises(RuntimeError, match=r"missing\.onnx"):
        write_file(method, sys.executable, missing, tmp_path / "data.npz", out, (1, 0.001))
    assert not out.exists()


def test_what_is_not_made_and_what_lies_outside_are_figures_not_met():
    lack = outside([comparison("ours.a", 1.0, 0.5), comparison("ours.b", 0.0, 2.0)])
    assert lack is not None
    found = figures("m", [], [Skipped("olive.static", "no wheel")], {("nncf.default", "time"): lack})
    assert {figure.name: (figure.value, figure.met) for figure in found} == {
        "m.olive.static: no wheel": (None, False),
        "m.peers_outside.bytes": (0, True),
        "m.peers_outside.gzip": (0, True),
        "m.peers_outside.time": (None, False),
        "m.nncf.default.outside.time.gap: ours.a": (1.0, False),
        "m.nncf.default.outside.time.ratio: ours.b": (2.0, False),
    }


def test_the_page_has_a_row_a_file_and_says_what_is_outside_and_what_was_not_made():
    bound = (1.0, 3.0)
    found = [
        *figures("m", [], [Skipped("nncf.accurate", "no such node")], {}),
        *(
            Figure(f"m.{file}.{kind}", "reported", 2, "", bound if kind == "accuracy" else None, met=True)
            for file in ("float32.onnx", "ours.onnx quantize.int8(per_channel=False)", "onnxruntime.static")
            for kind in ("accuracy", "bytes", "gzip")
        ),
        Figure("m.onnxruntime.static.outside.bytes.ratio: ours.onnx quantize.int8", "<= 1", 1.1, "x", None, met=False),
        Figure("other.float32.onnx.accuracy", "reported", 99, "%", None, met=True),
    ]
    lines = page_tables("m", found).splitlines()
    assert "| onnxruntime.static | onnx | 2.00 (1.00 … 3.00) | 2 | 2 | not measured | bytes |" in lines
    assert sum("| onnx |" in line for line in lines) == 3
    assert "| onnxruntime.static | bytes | ours.onnx quantize.int8 | as accurate, 1.100 x |" in lines
    assert lines[-1] == "- nncf.accurate: no such node"
    assert page_tables("unknown", found) == "Not measured.\n"
