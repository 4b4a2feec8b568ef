"""Tables carry meaning and unit with every column; what no column is declared for is refused."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perception_gap.errors import DamagedError
from perception_gap.metrics.columns import sample_columns
from perception_gap.metrics.measure import OfMap
from perception_gap.metrics.table import declared
from perception_gap.runs.schema import tables
from perception_gap.storage import intact
from perception_gap.storage.files import write_frame, write_rows

FIXED = ("ROW", "KNOCKOUT", "ANSWERS", "BENCH_COMPARISONS", "TRACE_PART", "TRACE_BLIND", "TRACES", "RESULTS", "LOG")
MADE = ("samples", "words", "pairs", "pair_words", "bench_samples")
EVERY = {name: getattr(tables, name) for name in FIXED} | {name: getattr(tables, name)() for name in MADE}


@pytest.mark.parametrize("name", EVERY)
def test_every_column_says_what_it_means_and_stands_once(name):
    schema = EVERY[name]
    assert all(field.metadata[b"meaning"] for field in schema)
    assert len(set(schema.names)) == len(schema.names)


def test_measures_have_their_unit_and_may_be_missing_where_reports_do_without():
    samples = tables.samples()
    assert set(sample_columns()) <= set(samples.names)
    assert samples.field("kl").metadata[b"unit"] == b"nats"
    assert b"optional" not in samples.field("kl").metadata
    assert b"optional" in samples.field("emd").metadata


def test_a_measure_that_is_declared_is_a_column():
    def zero(attention, region):
        return 0.0

    measure = OfMap(name="zero", function=zero, heading="zero", unit="", scopes=("sample", "word"), doc="nothing")
    with declared(measure):
        assert "zero" in tables.samples().names
        assert "zero" in tables.words().names
    assert "zero" not in tables.samples().names


SMALL = pa.schema(
    [
        tables.column("name", tables.TEXT, "a name"),
        tables.column("n", tables.WHOLE, "how many", "tokens", null=True),
        tables.column("share", tables.NUMBER, "a share", "%", null=True, optional=True),
    ]
)


def test_rows_are_written_with_their_metadata_and_undeclared_fields_refused(tmp_path):
    write_rows(tmp_path / "a.parquet", [{"name": "x", "n": 3}, {"name": "y"}], SMALL)
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.schema.field("n").metadata[b"unit"] == b"tokens"
    assert table.to_pylist() == [{"name": "x", "n": 3, "share": None}, {"name": "y", "n": None, "share": None}]
    write_frame(tmp_path / "c.parquet", pd.DataFrame({"name": ["x", "y"], "share": [float("nan"), 0.5]}), SMALL)
    undefined = pq.read_table(tmp_path / "c.parquet")
    assert undefined.column("share").to_pylist() == [None, 0.5]  # null, not NaN, of which other readers make a NaN mean
    with pytest.raises(ValueError, match="no column for colour"):
        write_rows(tmp_path / "b.parquet", [{"name": "x", "colour": "red"}], SMALL)
    with pytest.raises(ValueError, match="no column for colour"):
        write_frame(tmp_path / "b.parquet", pd.DataFrame({"name": ["x"], "colour": ["red"]}), SMALL)
    assert not (tmp_path / "b.parquet").exists()


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ({"n": [1]}, "column name is missing, expected text"),
        ({"name": ["a", None], "n": [1, 2]}, "column name, row 2: null, expected text"),
        ({"name": ["a", "b"], "n": [1, 2.5]}, "column n, row 2: 2.5, expected a whole number or null"),
        ({"name": ["a"], "n": ["x"]}, "column n, row 1: 'x', expected a whole number or null"),
        ({"name": ["a"], "n": [1], "share": [float("inf")]}, "column share, row 1: inf, expected a number or null"),
    ],
)
def test_a_table_is_held_against_its_schema(tmp_path, frame, words):
    with pytest.raises(DamagedError) as error:
        intact.columns(pd.DataFrame(frame), SMALL, tmp_path / "a.parquet")
    assert f"a.parquet: damaged ({words})" in str(error.value)


def test_what_fits_passes_and_optional_columns_may_be_missing(tmp_path):
    intact.columns(pd.DataFrame({"name": ["a", "b"], "n": [1, None]}), SMALL, tmp_path / "a.parquet")
    intact.columns(pd.DataFrame({"name": ["a"], "n": [1], "share": [0.5]}), SMALL, tmp_path / "a.parquet")
