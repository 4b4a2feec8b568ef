"""One teacher–student pair of synthetic runs for all tests of the reports."""

import pytest

from perception_gap.runs.run import Run
from tests.unit.reports import synthetic_run


@pytest.fixture(scope="session")
def pair(tmp_path_factory) -> tuple[Run, Run]:
    """(teacher, student) over 28 scenes; two of the student's rows failed."""
    return synthetic_run.write_pair(tmp_path_factory.mktemp("runs"), n=28, failed=(3, 9))


@pytest.fixture(scope="session")
def no_boxes(tmp_path_factory) -> Run:
    """A run without teacher whose samples have no boxes."""
    drawn = list(synthetic_run.scenes(n=14))
    return synthetic_run.write_run(tmp_path_factory.mktemp("bare") / "run", drawn, synthetic_run.STUDENT, boxes=False)


@pytest.fixture(scope="session")
def all_failed(tmp_path_factory) -> Run:
    drawn = list(synthetic_run.scenes(n=14))
    folder = tmp_path_factory.mktemp("failed") / "run"
    return synthetic_run.write_run(folder, drawn, synthetic_run.STUDENT, failed=range(14))
