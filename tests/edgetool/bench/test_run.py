"""The whole benchmark on models with planted faults: each is caught and named, and the CPU's row stays."""

import json

import numpy as np
import pytest

from edge.engines.fake import FakeModel
from edge.errors import BadModel, BadRecipe, CheckFailed, EnvironmentFailed, UnknownName
from edgetool.bench.extras import Wanted
from edgetool.bench.run import Options, bench
from edgetool.progress import Silent
from edgetool.render.bench_page import write_bench


@pytest.fixture
def planted(tmp_path):
    def run(seconds=0.2, time_limit_s=5.0, **faults):
        path = tmp_path / "model.fake"
        path.write_bytes(FakeModel(latency_ms=0.2, **faults).to_bytes())
        return bench(
            Options(
                (path,), ("planted",), seconds=seconds, wanted=Wanted(time_limit_s=time_limit_s),
                lock=tmp_path / "lock",
            ),
            Silent(),
        )  # fmt: skip

    return run


def rows_of(finished):
    return {row.delegate: row for row in finished.report.rows}


def test_a_delegate_that_keeps_its_word(planted, tmp_path):
    finished = planted()
    rows = rows_of(finished)
    assert finished.failure is None
    assert {name: row.verdict for name, row in rows.items()} == {"cpu": "ok", "planted": "ok"}
    assert rows["planted"].difference.argmax_agreement == 1
    assert rows["cpu"].latency.at(50).ms >= 0.2
    assert rows["cpu"].start.warmup_calls is None or rows["cpu"].start.warmup_calls > 0
    assert not rows["planted"].start.slow_first
    report = write_bench(finished.report, finished.samples, tmp_path / "out")
    page = (tmp_path / "out/bench.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "http" not in page.split("</head>")[0]
    told = json.loads((tmp_path / "out/bench.json").read_text(encoding="utf-8"))
    assert told["schema"] == "edgetool.bench/1"
    assert told["rows"][0]["energy"] is None or told["rows"][0]["energy"]["method"]
    with np.load(tmp_path / "out/samples.npz") as samples:
        assert sum(len(samples[key]) for key in samples if key.startswith("0/")) == rows["cpu"].latency.n
    assert len(report.rows) == 2


def test_a_planted_fallback_and_a_slow_first_call_are_named(planted):
    finished = planted(planted_fallback=("GELU",), planted_slow_first_ms=60.0)
    rows = rows_of(finished)
    assert rows["planted"].verdict == "fallback"
    assert isinstance(finished.failure, CheckFailed)
    assert "GELU" in finished.failure.message
    assert finished.failure.hint == "--allow-fallback GELU accepts it"
    assert rows["planted"].start.slow_first
    assert rows["planted"].start.first_over_p50 > 100
    assert not rows["cpu"].start.slow_first


def test_a_planted_wrong_result_is_named(planted):
    finished = planted(planted_wrong=0.25)
    rows = rows_of(finished)
    assert (rows["cpu"].verdict, rows["planted"].verdict) == ("ok", "wrong result")
    assert isinstance(finished.failure, CheckFailed)
    assert finished.failure.message.startswith("wrong result: model.fake on planted")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"planted_crash_at": 0, "crash_signal": "SIGABRT"}, "SIGABRT"),
        ({"planted_hang_at": 1}, "no answer within 1 s"),
    ],
)
def test_a_planted_abort_or_hang_costs_its_row_alone(planted, fault, said):
    finished = planted(time_limit_s=1.0, **fault)
    assert list(rows_of(finished)) == ["cpu"]
    assert isinstance(finished.failure, EnvironmentFailed)
    assert said in finished.failure.message
    assert [row.delegate for row in finished.report.failed] == ["planted"]


def test_what_cannot_be_asked(tmp_path):
    with pytest.raises(BadRecipe, match="no model to time"):
        Options(())
    with pytest.raises(BadModel, match="no model at"):
        bench(Options((tmp_path / "none.tflite",), lock=tmp_path / "lock"), Silent())
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(BadModel, match=r"no engine runs \.txt"):
        bench(Options((tmp_path / "a.txt",), lock=tmp_path / "lock"), Silent())
    (tmp_path / "m.fake").write_bytes(FakeModel().to_bytes())
    with pytest.raises(UnknownName, match="plantd"):
        bench(Options((tmp_path / "m.fake",), ("plantd",), lock=tmp_path / "lock"), Silent())
