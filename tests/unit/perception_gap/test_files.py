"""Tables of rows: every field has its column, or the writing stops."""

import pytest

from perception_gap.files import frame_of


def test_a_table_has_the_declared_columns_and_what_a_row_lacks_is_undefined():
    table = frame_of([{"kl": 0.5}, {"sample_id": "s2"}], ["sample_id", "kl"])
    assert list(table.columns) == ["sample_id", "kl"]
    assert table["kl"].tolist() == [0.5, pytest.approx(float("nan"), nan_ok=True)]
    assert list(frame_of([], ("sample_id", "kl")).columns) == ["sample_id", "kl"]


def test_a_field_without_a_column_stops_the_writing_by_name():
    with pytest.raises(ValueError, match="no column for chi_square, emd: declare it beside sample_id, kl"):
        frame_of([{"sample_id": "s1", "kl": 0.5}, {"sample_id": "s2", "emd": 1, "chi_square": 2}], ["sample_id", "kl"])
