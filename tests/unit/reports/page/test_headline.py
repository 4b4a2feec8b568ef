import copy

import numpy as np
import pandas as pd
import pytest

from perception_gap.stats.decides import decides
from perception_gap.stats.statistics import mean_ci
from reports.decides import FOCUS, KL, reason
from reports.page.albums import Album, albums
from reports.page.headline import headline, paired
from reports.summary import written
from tests.unit.reports import synthetic_run


def changed(album: Album, path: str, metric: dict | None) -> Album:
    """The album whose last run's summary has another metric at a dotted path."""
    run = copy.copy(album.runs[-1])
    run.summary = copy.deepcopy(run.summary)
    *parents, name = path.split(".")
    below = run.summary
    for parent in parents:
        below = below[parent]
    below[name] = metric if metric is None or name not in below else below[name] | metric
    return Album(album.title, album.members, [*album.runs[:-1], run], album.teacher)


@pytest.fixture
def album(pair):
    return albums([pair[1]])[0]


def test_the_two_questions_are_answered_with_interval_and_n(album):
    looks, decides, near = headline(album)
    pair = album.runs[0].summary["kl"]["against_floor"]
    assert looks.question == "Does tiny:student look where its teacher looks?"
    assert looks.reason == (
        f"KL(teacher ‖ student) of the maps, on the 16 × 16 raster, is {written(pair['value'], 'nats')}; to the "
        f"teacher's map of another picture of the same task it is {written(pair['floor'], 'nats')}; the paired "
        f"difference is {written(pair['difference'], 'nats')} (n = 26)."
    )
    assert decides.question == "Does looking decide whether tiny:student is right?"
    told = album.runs[0].summary["focus_score"]["decides"]
    assert decides.reason.startswith(f"{reason(told, FOCUS)}.")
    assert near.question == "Is tiny:student right where it looks as its teacher does?"
    assert near.reason.startswith(f"{reason(album.runs[0].summary['kl']['decides'], KL)}.")


@pytest.mark.parametrize(
    ("ci", "verdict"),
    [([0.1, 0.5], "More than by chance"), ([-0.1, 0.5], "Not established"), ([-0.5, -0.1], "No")],
)
def test_the_paired_interval_decides_whether_it_looks(album, ci, verdict):
    difference = {"mean": sum(ci) / 2, "ci": ci, "p": 0.01}
    assert headline(changed(album, "kl.against_floor.difference", difference))[0].verdict == verdict
    unsure = headline(changed(album, "kl.against_floor.difference", difference | {"p": 0.06}))[0]
    assert unsure.verdict == "Not established"


def test_too_few_samples_are_said_to_be(tmp_path):
    drawn = [scene for scene in synthetic_run.scenes(n=40) if scene.task == "iq"][:4]
    teacher = synthetic_run.write_run(tmp_path / "teacher", drawn, synthetic_run.TEACHER)
    student = synthetic_run.write_run(tmp_path / "student", drawn, synthetic_run.STUDENT, teacher)
    looks, decides, _ = headline(albums([student])[0])
    assert (looks.verdict, "(n = 4)" in looks.reason) == ("Too few to say", True)
    assert decides.verdict in ("Too few to say", "Cannot be told")
    assert "correlation" not in decides.reason


@pytest.mark.parametrize(("more", "verdict"), [(1.0, "In pairs"), (0.0, "Not established")])
def test_a_correlation_is_called_one_only_where_it_is_claimed(album, more, verdict):
    right = np.arange(20) < 10
    focus = more * right + np.arange(20) % 10 / 100
    frame = pd.DataFrame({"task": "pairs", "cluster": range(20), "correct": right, "focus_score": focus})
    answer = headline(changed(album, "focus_score.decides", decides(frame, "focus_score", {}, 0)))[1]
    assert answer.verdict == verdict
    assert answer.reason.endswith(" This is a correlation, not a cause.") == bool(more)


def test_of_three_runs_the_last_is_held_against_the_first(tmp_path):
    drawn = list(synthetic_run.scenes(n=12))
    teacher = synthetic_run.write_run(tmp_path / "teacher", drawn, synthetic_run.TEACHER)
    names = ("tiny:first", "tiny:second", "tiny:third")
    runs = [
        synthetic_run.write_run(tmp_path / name[5:], drawn, synthetic_run.Model(name, gain=gain), teacher)
        for name, gain in zip(names, (1.0, 11.0, 6.0), strict=True)
    ]
    lead = headline(albums(runs)[0])[1]
    assert lead.question == "Does tiny:third look nearer to the teacher than tiny:first?"
    assert written(paired(runs[0], runs[2], "kl").as_dict(), "nats") in lead.reason


def test_what_is_undefined_is_said(no_boxes, all_failed):
    (decides,) = headline(albums([no_boxes])[0])
    assert (decides.verdict, decides.reason) == ("Undefined", "the samples have no boxes.")
    silent = changed(albums([no_boxes])[0], "focus_score.chance", {"mean": 0.08, "n": 14})
    assert headline(silent)[0].reason == "the samples have no answer with a word in it."
    (nothing,) = headline(albums([all_failed])[0])
    assert nothing.verdict == "Nothing"
    assert "All 14 samples" in nothing.reason


def test_two_students_are_compared_on_the_samples_of_both(tmp_path):
    drawn = list(synthetic_run.scenes(n=40))
    teacher = synthetic_run.write_run(tmp_path / "teacher", drawn, synthetic_run.TEACHER)
    before = synthetic_run.write_run(
        tmp_path / "before", drawn, synthetic_run.Model("tiny:student", gain=1.0, accuracy=0.6, noise=0.9), teacher
    )
    after = synthetic_run.write_run(
        tmp_path / "after", drawn[:30], synthetic_run.Model("tiny:lavit", gain=11.0, accuracy=0.9), teacher
    )
    found = paired(before, after, "kl")
    mine, theirs = (run.samples.set_index("sample_id")["kl"] for run in (after, before))
    difference = (mine - theirs.loc[mine.index]).to_numpy()
    assert found == mean_ci(difference, after.samples["cluster"].to_numpy(), null=0)
    assert found.n == 30
    assert paired(after, before, "kl").mean == pytest.approx(-found.mean)
    lead = headline(albums([before, after])[0])[1]
    assert lead.question == "Does tiny:lavit look nearer to the teacher than tiny:student?"
    assert lead.verdict == "Yes"
    assert (
        f"its KL from the teacher differs by {written(found.as_dict(), 'nats')} (n = 30); its accuracy" in lead.reason
    )
    right = paired(before, after, "correct")
    assert f"its accuracy differs by {written(right.as_dict(), 'points')} (n = 30)." in lead.reason
    assert [right.low, right.high] != pytest.approx([right.mean, right.mean])


def test_runs_whose_maps_met_on_another_frame_are_not_compared(pair, tmp_path):
    _, student = pair
    other = copy.copy(student)
    other.info, other.path = student.info | {"raster": "native"}, tmp_path
    assert len(albums([student, other])) == 2
    assert "on the token grid, is" in headline(albums([other])[0])[0].reason


def test_a_failed_answer_counts_as_wrong_in_the_difference(pair):
    _, student = pair
    whole = copy.copy(student)
    whole.samples = student.samples.assign(correct=True, status="ok")
    right = (student.samples["correct"].eq(True) & (student.samples["status"] == "ok")).mean()
    assert paired(student, whole, "correct").mean == pytest.approx(1 - right)
    assert np.isnan(paired(student, whole, "kl").mean) == student.samples["kl"].isna().all()
