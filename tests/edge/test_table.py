import numpy as np
import pytest

from edge.errors import BadData
from edge.table import TableInput, read_csv


def test_columns_have_mean_0_and_deviation_1_on_the_data_they_were_fitted_to():
    rows = np.random.default_rng(0).normal([5, -3, 0], [10, 0.1, 1], (200, 3))
    step = TableInput.fit(("a", "b", "c"), rows)
    scaled = np.stack([step(row) for row in rows])
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-5)


def test_a_constant_column_becomes_0():
    step = TableInput.fit(("a",), np.full((4, 1), 7.0))
    assert step(np.array([7.0])) == 0
    assert step(np.array([8.5])) == 1.5


def test_a_row_of_another_length_is_refused():
    with pytest.raises(BadData, match=r"\[2\], not \[1\]"):
        TableInput(("a",), (0.0,), (1.0,))(np.zeros(2))


@pytest.mark.parametrize(
    ("mean", "std"), [((0.0,), (1.0, 1.0)), ((0.0, 0.0), (1.0, 0.0)), ((float("nan"), 0.0), (1.0, 1.0))]
)
def test_impossible_statistics_are_refused(mean, std):
    with pytest.raises(BadData):
        TableInput(("a", "b"), mean, std)


def test_csv_is_read_with_quotes_and_a_bom(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('\ufeffage,"height, cm",kind\n1,2.5,cat\n3,4e1,"a ""dog"""\n')
    table = read_csv(path)
    assert table.columns == ("age", "height, cm", "kind")
    assert table.rows[1] == ("3", "4e1", 'a "dog"')


def test_csv_columns_as_numbers(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b,kind\n1,2.5,cat\n\n3,4e1,dog\n")
    table = read_csv(path)
    np.testing.assert_array_equal(table.numbers(("b", "a")), [[2.5, 1], [40, 3]])
    assert table.column("kind") == ("cat", "dog")
    assert table.lines == (2, 4)
    with pytest.raises(BadData, match=r"line 2: column 'kind' has the text 'cat'"):
        table.numbers(("a", "kind"))
    with pytest.raises(BadData, match="no column 'kid'") as caught:
        table.column("kid")
    assert "kind" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,b\n1,2\n3\n", "line 3: 1 cells, but 2 columns"),
        ("a,b\n1,2\n3,4,5\n", "line 3: 3 cells"),
        ("a,b\n", "no rows"),
        ("", "no rows"),
        ("a,a\n1,2\n", "'a' is empty or used twice"),
        ("a,\n1,2\n", "'' is empty"),
        ('a,b\n1,"2\n', "no csv"),
    ],
)
def test_damaged_csv(tmp_path, content, says):
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(BadData, match=says):
        read_csv(path)


@pytest.mark.parametrize(
    ("cell", "says"), [("", "empty cell"), ("nan", "is nan"), ("inf", "is inf"), ("x", "text 'x'")]
)
def test_cells_that_are_no_numbers_are_named_with_their_line(tmp_path, cell, says):
    path = tmp_path / "a.csv"
    path.write_text(f"a,b\n1,2\n3,{cell}\n")
    with pytest.raises(BadData, match=f"line 3: column 'b'.*{says}"):
        read_csv(path).numbers(("a", "b"))


def test_what_is_no_text_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(BadData, match="no csv"):
        read_csv(path)
    with pytest.raises(BadData, match="nowhere"):
        read_csv(tmp_path / "nowhere.csv")
