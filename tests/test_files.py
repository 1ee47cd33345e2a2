"""Files are written whole or not at all, and JSON lines survive a kill."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab_utils import files

ROWS = st.lists(st.dictionaries(st.text(max_size=3), st.text() | st.integers() | st.none()))


def test_write_text_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "stamp"
    files.write_text(path, "old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        files.write_text(path, "new")
    assert path.read_text() == "old"


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "metrics.json"
    files.write_json(path, {"voice": 1, "fromage": "crème"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"voice": 1, "fromage": "crème"}
    with pytest.raises(TypeError):
        files.write_json(path, {"voice": object()})
    assert json.loads(path.read_text(encoding="utf-8"))["voice"] == 1
    assert os.listdir(tmp_path) == ["metrics.json"]


@given(rows=ROWS)
def test_rows_come_back_as_they_were_written(tmp_path_factory, rows):
    """Also with U+2028 and other signs that `splitlines` takes for the end of a line."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    files.write_jsonl(path, rows)
    assert files.read_jsonl(path) == rows
    for row in rows:
        files.append_jsonl(path, row)
    assert files.read_appended(path) == rows + rows


def test_a_line_that_is_not_json_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\nsoup\n')
    with pytest.raises(ValueError, match="a.jsonl, line 2 is not JSON"):
        files.read_jsonl(tmp_path / "a.jsonl")


@given(cut=st.integers(min_value=0, max_value=40))
def test_a_torn_line_costs_that_line_only(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("torn") / "record.jsonl"
    rows = [{"run": 1}, {"run": "two \u2028 lines"}]
    for row in rows:
        files.append_jsonl(path, row)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - cut])
    kept = files.read_appended(path)
    assert kept == rows[: len(kept)]
    files.append_jsonl(path, {"run": 3})
    assert files.read_appended(path) == [*kept, {"run": 3}]


def test_no_record_is_an_empty_record(tmp_path):
    assert files.read_appended(tmp_path / "none.jsonl") == []
