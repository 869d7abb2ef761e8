import json

import pytest

from benchmarks import figures
from benchmarks.figures import Figure

MET = Figure("model.ratio", ">= 10", 11.3, "x", (11.2, 11.4), met=True)
MISSED = Figure("model.p95", "<= 5", 7.0, "ms", None, met=False)


def test_written_figures_are_read_back_and_those_not_met_come_first(tmp_path):
    figures.write("one", "python -m benchmarks.one", [MET], tmp_path)
    figures.write("two", "python -m benchmarks.two", [MET, MISSED], tmp_path)
    assert figures.read(tmp_path) == [("two", MISSED), ("one", MET), ("two", MET)]


def test_the_file_has_the_form_of_the_design(tmp_path):
    content = json.loads(figures.write("one", "python -m benchmarks.one", [MET], tmp_path).read_text())
    assert (content["program"], content["command"]) == ("benchmarks/one.py", "python -m benchmarks.one")
    assert content["date"].endswith("+00:00")
    assert content["environment"]["cores"] >= 1
    assert content["figures"] == [
        {"name": "model.ratio", "goal": ">= 10", "value": 11.3, "unit": "x", "ci95": [11.2, 11.4], "met": True}
    ]


def test_table_says_what_is_missing():
    lines = figures.table([("one", MISSED), ("two", Figure("x", "<= 1", None, "s", None, met=False))]).splitlines()
    assert lines[0].split("  ")[0] == "met"
    assert lines[1].startswith("NO   one      model.p95  7 ms")
    assert "not measured" in lines[2]


@pytest.mark.parametrize(("stored", "code"), [([MET], 0), ([MET, MISSED], 1), ([], 1)])
def test_the_exit_code_says_whether_all_are_met(stored, code, tmp_path, capsys):
    if stored:
        figures.write("one", "python -m benchmarks.one", stored, tmp_path)
    assert figures.main(tmp_path) == code
    assert f"{stored.count(MET)} of {len(stored)} figures met" in capsys.readouterr().out


def test_a_figure_cannot_be_met_unmeasured_nor_stand_twice(tmp_path):
    with pytest.raises(ValueError, match="not measured and cannot be met"):
        Figure("x", "<= 1", None, "s", None, met=True)
    with pytest.raises(ValueError, match="two figures named"):
        figures.write("one", "", [MET, MET], tmp_path)
