"""Opening a run directory names what is wrong with it."""

import json

import pytest

from perception_gap.errors import UsageError
from perception_gap.runs.run import Run
from perception_gap.runs.schema import SCHEMA_VERSION


def test_opening_names_what_is_wrong(tmp_path):
    with pytest.raises(UsageError, match=r"run\.json is missing"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"schema_version": 0}))
    with pytest.raises(UsageError, match="written in run schema 0"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"schema_version": 1}))
    with pytest.raises(UsageError, match="in run schema 1, this gapcheck reads 3; run `gapcheck analyze` again"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(UsageError, match=r"run schema 4, this gapcheck reads 3; .*upgrade this gapcheck"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION}))
    with pytest.raises(UsageError, match=r"run\.json: damaged \(model is missing"):
        Run.open(tmp_path)
