import csv
import io

import numpy as np
import pandas as pd
import pytest

from perception_gap.storage.spreadsheet import csv_text, escaped, unescaped

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1", "-", "+0.1 -0.2",
            "'=1", "''=1", "-5 %", "=", "--1", "-x"]  # fmt: skip
NUMBERS = ["-1", "+1.20", "-.5", "1e-3", "-1.5E+10", "-0"]
PLAIN = ["a=b", "red", "", "'red'", "82.61", "it's", "1-2"]


@pytest.mark.parametrize("text", FORMULAS)
def test_what_a_spreadsheet_would_run_is_text(text):
    assert escaped(text) == f"'{text}"
    assert unescaped(escaped(text)) == text


@pytest.mark.parametrize("text", NUMBERS + PLAIN)
def test_numbers_stay_numbers_and_other_texts_as_they_are(text):
    assert escaped(text) == text
    assert unescaped(text) == text


def test_a_table_of_numbers_and_texts_is_read_again_as_it_was():
    frame = pd.DataFrame({"answer": ["=1", "-2", None], "difference": [-0.5, np.nan, -3.0], "n": [-1, 2, 3]})
    text = csv_text(frame)
    assert list(csv.reader(io.StringIO(text)))[1:] == [["'=1", "-0.5", "-1"], ["-2", "", "2"], ["", "-3.0", "3"]]
    assert csv_text(frame.drop(columns="answer"), float_format="%.3g") == "difference,n\n-0.5,-1\n,2\n-3,3\n"
