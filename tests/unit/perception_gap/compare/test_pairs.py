"""Pairs of gazes, on runs of real models: against the definition, and under what must not matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lavit.checkpoint import opener
from perception_gap import metrics
from perception_gap.compare.pairs import Member, frames
from perception_gap.compare.run import CompareOptions, compare_models
from perception_gap.compare.summary import agreement, of_models, of_pairs
from perception_gap.errors import UsageError
from perception_gap.measure.analyze import AnalyzeOptions, analyze
from perception_gap.stats.statistics import FEW

RASTER = (16, 16)


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny_checkpoint):
    """Two embedded models of one grid and tokenizer, and one of another family, grid and tokenizer."""
    models = ("tiny:student", "tiny:lavit", str(tiny_checkpoint("llava_next")))
    request = CompareOptions(models, limit=14, out=tmp_path_factory.mktemp("compare") / "out", batch_size=14)
    return compare_models(request, progress=False, say=lambda _: None, opener=opener)


@pytest.fixture(scope="module")
def tables(done):
    return frames(done.members, RASTER, 0)


def test_every_pair_has_every_sample_once_and_measures_are_those_of_the_definition(done, tables):
    samples, _ = tables
    assert len(samples) == 3 * 14
    for first, second in ((0, 1), (0, 2), (1, 2)):
        one, other = done.members[first], done.members[second]
        rows = samples[(samples["first"] == one.name) & (samples["second"] == other.name)]
        assert list(rows["sample_id"]) == list(one.run.samples["sample_id"])
        for row in rows.itertuples():
            p, q = (
                m.run.geometry(row.sample_id).rasterize(m.run.map(row.sample_id, "shared"), *RASTER).ravel()
                for m in (one, other)
            )
            assert row.js == pytest.approx(metrics.js_divergence(p, q), abs=1e-12)
            assert row.kl == pytest.approx(metrics.kl_divergence(p, q), abs=1e-12)
            assert row.kl_reverse == pytest.approx(metrics.kl_divergence(q, p), abs=1e-12)
    assert samples["js"].between(0.001, np.log(2)).all(), "gazes so alike that any measure would agree"


def test_the_order_of_two_models_changes_only_the_direction(done, tables):
    samples, _ = tables
    turned, _ = frames(done.members[::-1], RASTER, 0)
    key = ["sample_id", "first", "second"]
    turned = turned.rename(columns={"first": "second", "second": "first", "kl": "kl_reverse", "kl_reverse": "kl"})
    both = samples.set_index(key).join(turned.set_index(key), rsuffix="_turned")
    assert len(both) == len(samples)
    for name in ("js", "kl", "kl_reverse", "top_k_overlap", "cc", "similarity", "emd"):
        # The solver of the earth mover's distance stops within 1e-7 of the optimum.
        np.testing.assert_allclose(both[name], both[f"{name}_turned"], atol=1e-6)


def test_words_of_two_tokenizers_are_those_of_the_text(done, tables):
    _, words = tables
    reference = done.members[0].run.samples.set_index("sample_id")["reference"]
    for (sample_id, _, _), group in words.groupby(["sample_id", "first", "second"]):
        assert " ".join(group["word"]) == " ".join(reference[sample_id].replace(".", "").split())
    assert words["js"].notna().mean() > 0.9
    assert len(done.members[0].run.map(sample_id, "shared_words")[0]) != len(
        done.members[2].run.map(sample_id, "shared_words")[0]
    )


def test_a_model_is_no_distance_from_itself(done):
    one = done.members[0]
    samples, words = frames((one, Member("again", one.run)), RASTER, 0)
    assert samples["js"].max() <= 1e-12
    assert (samples["top_k_overlap"] == 1).all()
    assert samples["emd"].max() <= 1e-9
    assert words["js"].max() <= 1e-12
    assert (samples["js_floor"] > 0.001).all(), "the floor is another picture's map"


def test_samples_that_one_model_failed_are_left_out_of_its_pairs_alone(done, monkeypatch):
    one, other, third = done.members
    broken = one.run.samples.copy()
    broken.loc[0, "status"] = "failed"
    monkeypatch.setattr(one.run, "samples", broken)
    monkeypatch.setattr(one.run, "_by_id", broken.set_index("sample_id", drop=False))
    samples, _ = frames((other, one, third), RASTER, 0)
    counts = samples.groupby(["first", "second"]).size().to_dict()
    assert counts == {(other.name, one.name): 13, (other.name, third.name): 14, (one.name, third.name): 13}


def pairs_by_hand() -> pd.DataFrame:
    """Two tasks; where both are right js is 0.1 lower than where both are wrong, in each; task b lies 0.3 higher."""
    rows = []
    for task, base in (("a", 0.2), ("b", 0.5)):
        for i in range(6):
            right = i < 3
            rows.append((f"{task}{i}", task, right, right, base - 0.1 * right))
        rows.append((f"{task}6", task, True, False, base))
        rows.append((f"{task}7", task, None, False, 9.0))
    frame = pd.DataFrame(rows, columns=["sample_id", "task", "first_correct", "second_correct", "js"])
    return frame.assign(cluster=frame["sample_id"], first="m", second="n", js_floor=0.6)


def test_agreement_by_hand():
    found = agreement(pairs_by_hand(), seed=0)["js"]
    assert found["both_right"]["mean"] == pytest.approx(0.25)
    assert found["both_right"]["n"] == 6
    assert found["both_wrong"]["mean"] == pytest.approx(0.35)
    assert found["only_first_right"] == {"mean": pytest.approx(0.35), "ci": None, "n": 2, "reason": FEW}
    assert found["only_second_right"] == {"mean": None, "ci": None, "n": 0, "reason": "no value"}
    assert found["right_minus_wrong"]["mean"] == pytest.approx(-0.1)
    assert found["right_minus_wrong"]["n"] == 12
    assert (found["raw_difference"]["mean"], found["raw_difference"]["n"]) == (pytest.approx(-0.1), 12)
    # Alike: six a task of mean base − 0.05; split: one a task of mean base.
    assert found["alike_minus_split"]["mean"] == pytest.approx(-0.05)


def test_pairs_are_summarised_with_their_floor(done, tables):
    samples, words = tables
    rows = of_pairs(samples, words, seed=0)
    assert [(row["first"], row["second"]) for row in rows] == list(
        samples.groupby(["first", "second"], sort=False).groups
    )
    for row in rows:
        mine = samples[(samples["first"] == row["first"]) & (samples["second"] == row["second"])]
        assert row["js"]["mean"] == pytest.approx(mine["js"].mean())
        assert row["js"]["ci"][0] < row["js"]["mean"] < row["js"]["ci"][1]
        both, pair = mine.dropna(subset=["js", "js_floor"]), row["against_floor"]
        assert pair["value"]["mean"] == pytest.approx(both["js"].mean())
        assert pair["floor"]["mean"] == pytest.approx(both["js_floor"].mean())
        assert pair["difference"]["mean"] == pytest.approx((both["js_floor"] - both["js"]).mean())
        assert {estimate["n"] for estimate in pair.values()} == {len(both)}
        assert row["n_samples"] == 14
        assert set(row["by_category"]) == {"functional", "object", "attribute"}


def test_models_stand_in_the_order_of_their_accuracy_with_paired_differences(done):
    rows = of_models(done.members, {}, seed=0)
    shares = [row["accuracy"]["mean"] for row in rows]
    assert shares == sorted(shares, reverse=True)
    base = done.members[0].run.samples.set_index("sample_id")
    for row in rows:
        member = next(m for m in done.members if m.name == row["name"])
        mine = member.run.samples.set_index("sample_id")
        if member is done.members[0]:
            assert "accuracy_difference" not in row
            continue
        assert row["accuracy_difference"]["mean"] == pytest.approx(
            (mine["correct"].astype(float) - base["correct"]).mean()
        )
        difference = (mine["focus_score"] - base["focus_score"]).mean()
        assert row["focus_score_difference"]["mean"] == pytest.approx(difference)
        assert row["focus_score_difference"]["n"] == 14


def test_a_stored_teacher_has_exactly_these_samples_and_pixels(done, tmp_path):
    def asked(teacher, **more):
        request = CompareOptions(("tiny:student", "tiny:lavit"), teacher=str(teacher), out=tmp_path / "out", **more)
        return compare_models(request, progress=False, say=lambda _: None, opener=opener)

    job = analysis_of("tiny:teacher", 4, tmp_path)
    with pytest.raises(UsageError, match="has 4 samples, 3 of these 3; analyze the teacher on the same --data"):
        asked(job, limit=3)
    with pytest.raises(UsageError, match="made with most_pixels None, not 4000; name its model instead"):
        asked(job, limit=4, pixels="4000")
    assert len(asked(job, limit=4).members) == 3


def analysis_of(model: str, limit: int, work: Path) -> Path:
    analyze(AnalyzeOptions(model, out=work / "run", limit=limit), progress=False, say=lambda _: None)
    return work / "run"


def test_a_comparison_killed_in_the_teachers_pass_goes_on(tmp_path):
    def killed(name, settings):
        loaded = opener(name, settings)
        calls = iter(range(2))

        def forward(*given, **named):
            if next(calls, None) is None:
                raise KeyboardInterrupt
            return original(*given, **named)

        original, loaded.family.encode = loaded.family.encode, forward
        return loaded

    request = CompareOptions(("tiny:student",), teacher="tiny:teacher", limit=6, batch_size=2, out=tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        compare_models(request, progress=False, say=lambda _: None, opener=killed)
    assert not (request.out / "compare.json").exists()
    assert len(list((request.out / "teacher" / "parts").glob("*.parquet"))) >= 1
    assert len(compare_models(request, progress=False, say=lambda _: None, opener=opener).members) == 2
