import json

import pytest

from perception_gap.data import stream
from perception_gap.data.stream import read_entry, stream_entries
from perception_gap.errors import UsageError

VALUES = [{"n": i, "text": 'ein "Öl]},{[" ' * (i % 7), "deep": [{"a": [i]}]} for i in range(200)]


@pytest.mark.parametrize("indent", [None, 4])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("chunk", [7, 64, 1 << 18])
def test_entries_equal_those_of_json_wherever_the_chunks_end(tmp_path, monkeypatch, indent, ascii_only, chunk):
    monkeypatch.setattr(stream, "CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(VALUES, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    entries = list(stream_entries(path))
    assert [e.value for e in entries] == VALUES
    assert [e.number for e in entries] == list(range(1, 201))
    assert [read_entry(path, e.offset, e.size) for e in entries] == VALUES


def test_json_lines_are_read_too(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, VALUES)) + "\n")
    assert [e.value for e in stream_entries(path)] == VALUES


@pytest.mark.parametrize("chunk", [7, 1 << 18])
@pytest.mark.parametrize("before", [{}, {"made": {"results": [1], "by": "x"}, "results_of": [{}], "n": None}])
def test_an_array_within_an_object_is_found_by_its_name(tmp_path, monkeypatch, chunk, before):
    monkeypatch.setattr(stream, "CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(before | {"results": VALUES, "after": 1}, indent=1))
    entries = list(stream_entries(path, "results"))
    assert [e.value for e in entries] == VALUES
    assert [read_entry(path, e.offset, e.size) for e in entries] == VALUES
    path.write_text(json.dumps(VALUES))
    assert [e.value for e in stream_entries(path, "results")] == VALUES


@pytest.mark.parametrize("text", ["{}", '{"a": [{}]}', '{"results": null}', '{"a": 1 "results": []}', "{1: []}"])
def test_an_object_without_the_array_is_refused(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="holds no list 'results'"):
        list(stream_entries(path, "results"))


@pytest.mark.parametrize("chunk", [7, 1 << 18])
@pytest.mark.parametrize("lines", [False, True])
def test_a_byte_order_mark_does_not_move_the_entries(tmp_path, monkeypatch, chunk, lines):
    monkeypatch.setattr(stream, "CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text("\n".join(map(json.dumps, VALUES)) if lines else json.dumps(VALUES), encoding="utf-8-sig")
    entries = list(stream_entries(path))
    assert [e.value for e in entries] == VALUES
    assert [read_entry(path, e.offset, e.size) for e in entries] == VALUES


def test_lists_before_the_wanted_one_may_be_longer_than_an_entry(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "CHUNK", 100)
    monkeypatch.setattr(stream, "LONGEST", 1000)
    path = tmp_path / "a.json"
    before = {
        "images": VALUES[:50],
        "numbers": list(range(3000)),
        "number": 123456789,
        "none": [],
        "deep": [[1], [2, 3]],
    }
    path.write_text(json.dumps(before | {"results": VALUES[:5]}))
    assert [e.value for e in stream_entries(path, "results")] == VALUES[:5]


def test_a_field_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1}, {"a": {"b": 1, "b": 2}}]')
    with pytest.raises(UsageError, match=r"entry 2 is not valid JSON .*'b' stands twice in one object"):
        list(stream_entries(path))


@pytest.mark.parametrize("text", ["[]", " [ ] ", ""])
def test_an_empty_file_has_no_entries(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    assert list(stream_entries(path)) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"a": 1}, {"a": ]', "entry 2 is not valid JSON"),
        ('[{"a": 1}, {"a": 2', "entry 2 is not valid JSON"),
        ('[{"a": 1}, ]', "entry 2 is not valid JSON"),
        ('[{"a": 1}, 5]', "entry 2 is no JSON object"),
        ('[{"a": 1} {"a": 2}]', "entry 1 is followed by '{'"),
        ('[{"a": 1},\n{"a": 2}\n', "ends after entry 2 without the closing ]"),
        ("hello", "entry 1 is not valid JSON"),
    ],
)
def test_a_damaged_file_is_named_with_the_number_of_the_entry(tmp_path, text, says):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        list(stream_entries(path))
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def test_an_entry_without_an_end_is_given_up_before_the_file_is_read_through(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "CHUNK", 100)
    monkeypatch.setattr(stream, "LONGEST", 1000)
    path = tmp_path / "a.json"
    path.write_text('[{"a": "' + "x" * 100_000)
    read = []
    monkeypatch.setattr(stream._Text, "grow", lambda text, grow=stream._Text.grow: (read.append(1), grow(text)))
    with pytest.raises(UsageError, match="entry 1 is not valid JSON"):
        list(stream_entries(path))
    assert len(read) <= 12


def test_other_encodings_are_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes('[{"a": "é"}]'.encode("latin-1"))
    with pytest.raises(UsageError, match="not UTF-8"):
        list(stream_entries(path))
