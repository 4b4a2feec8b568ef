"""Opening a run directory names what is wrong with it."""

import json

import pytest

from perception_gap.errors import DamagedError
from perception_gap.runs.run import Run
from perception_gap.runs.schema.versions import RUN


def test_opening_names_what_is_wrong(tmp_path):
    with pytest.raises(DamagedError, match=r"run\.json is missing"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"schema_version": 0}))
    with pytest.raises(DamagedError, match="written in run schema 0"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"schema_version": 1}))
    with pytest.raises(DamagedError, match="in run schema 1, this gapcheck reads 4; run `gapcheck analyze` again"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"schema_version": RUN.version + 1}))
    with pytest.raises(DamagedError, match=r"run schema 5, this gapcheck reads 4; .*upgrade this gapcheck"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"schema_version": RUN.version}))
    with pytest.raises(DamagedError, match=r"run\.json: damaged \(model is missing"):
        Run.open(tmp_path)
