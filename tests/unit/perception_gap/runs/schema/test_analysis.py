"""JSON files are held against their documents; a fault is named by its dotted key."""

import pytest

from perception_gap.errors import DamagedError
from perception_gap.metrics.measure import OfMap, OfPair
from perception_gap.metrics.table import declared
from perception_gap.runs.parts import Keys
from perception_gap.runs.schema import analysis, bench, shared
from perception_gap.runs.schema.versions import RUN
from perception_gap.storage import intact
from perception_gap.storage.checksums import sealed

GOOD = {"mean": 0.5, "ci": [0.4, 0.6], "n": 9}


@pytest.mark.parametrize(
    ("estimate", "words"),
    [
        ({"ci": None, "n": 3}, "mean is missing"),
        (GOOD | {"n": 2.5}, "n is 2.5, expected a whole number"),
        (GOOD | {"n": True}, "n is True, expected a whole number"),
        (GOOD | {"mean": "x"}, "mean is 'x', expected a number"),
        (GOOD | {"mean": float("inf")}, "mean is inf, expected a number"),
        (GOOD | {"ci": [0.4]}, r"ci is a list of length 1, expected \[a number, a number\]"),
        (GOOD | {"ci": [0.4, None]}, r"ci is a list of length 2, expected \[a number, a number\]"),
    ],
)
def test_an_estimate_is_a_mean_an_interval_and_a_count(tmp_path, estimate, words):
    with pytest.raises(DamagedError, match=rf"a\.json: damaged \({words}\)"):
        intact.require(estimate, shared.Estimate, tmp_path / "a.json")


@pytest.mark.parametrize("estimate", [GOOD, GOOD | {"mean": None, "ci": None, "n": 0}, GOOD | {"n": 3.0, "more": "x"}])
def test_undefined_is_null_and_more_may_stand_there(tmp_path, estimate):
    intact.require(estimate, shared.Estimate, tmp_path / "a.json")


def test_what_lies_deep_is_named_by_its_path(tmp_path):
    tasks = {"iq": {"n": 3, "n_empty": 0, "n_cut": 0, "data_hash": "h", "accuracy": GOOD | {"n": "x"}}}
    content = sealed({"files": {"samples.parquet": "c"}, "costs": dict.fromkeys(COSTS, GOOD), "tasks": tasks})
    with pytest.raises(DamagedError, match=r"tasks\.iq\.accuracy\.n is 'x', expected a whole number"):
        intact.require(content, bench.BenchSummary, tmp_path / "a.json")


COSTS = ("image_tokens", "answer_tokens", "seconds")


def test_the_checksum_is_asked_for_last_and_held_against_the_content(tmp_path):
    with pytest.raises(DamagedError, match="keys is missing"):
        intact.require({}, Keys, tmp_path / "a.json")
    with pytest.raises(DamagedError, match="checksum is missing"):
        intact.require({"keys": []}, Keys, tmp_path / "a.json")
    with pytest.raises(DamagedError, match="its checksum differs"):
        intact.require(sealed({"keys": ["a"]}) | {"keys": ["b"]}, Keys, tmp_path / "a.json")
    intact.require(sealed({"keys": ["a"]}), Keys, tmp_path / "a.json")


def test_a_declared_measure_has_its_place_in_a_summary_and_older_runs_may_lack_it():
    def nothing(*maps):
        return 0.0

    own = OfMap(name="own_zero", function=nothing, heading="z", unit="", scopes=("sample",), doc="nothing")
    pair = OfPair(
        name="far", function=nothing, heading="f", unit="", floor="far_floor", scopes=("sample", "word"), doc="nothing"
    )
    with declared(own, pair):
        fields = analysis.summary().model_fields
        assert not fields["own_zero"].is_required()
        far = fields["far"].annotation
        assert {"sample", "against_floor", "all", "object_floor"} <= set(far.model_fields)
    assert "far" not in analysis.summary().model_fields
    assert analysis.summary().model_fields["kl"].is_required()


@pytest.mark.parametrize(
    ("version", "words"),
    [(3, "run schema 3, .* reads 4; run `gapcheck analyze` again"), (9, "upgrade"), (None, "null"), (True, "True")],
)
def test_another_version_is_refused_with_what_helps(tmp_path, version, words):
    with pytest.raises(DamagedError, match=words):
        RUN.require_version(tmp_path, {"schema_version": version})
    RUN.require_version(tmp_path, {"schema_version": RUN.version})
