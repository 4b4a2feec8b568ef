import copy

import numpy as np
import pytest

from perception_gap.statistics import mean_ci
from reports.page.albums import Album, albums
from reports.page.headline import headline, paired
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
    looks, decides = headline(album)
    kl = album.runs[0].summary["kl"]["sample"]
    assert looks.question == "Does tiny:student look where its teacher looks?"
    assert f"{kl['mean']:.2f} nats [{kl['ci'][0]:.2f}, {kl['ci'][1]:.2f}], n = 26" in looks.reason
    assert "Does looking decide whether tiny:student is right?" in decides.question
    assert "points" in decides.reason


@pytest.mark.parametrize(
    ("ci", "verdict"),
    [([0.1, 0.5], "More than by chance"), ([-0.1, 0.5], "Not established"), ([-0.5, -0.1], "No")],
)
def test_the_paired_interval_decides_whether_it_looks(album, ci, verdict):
    floor = {"kl.floor_minus_sample": {"mean": sum(ci) / 2, "ci": ci}}
    for path, metric in floor.items():
        album = changed(album, path, metric)
    assert headline(album)[0].verdict == verdict


def test_the_distance_to_the_floor_stands_with_its_paired_interval(album):
    for path, metric in {
        "kl.sample": {"mean": 3.0, "ci": [2.5, 3.5]}, "kl.sample_floor": {"mean": 4.0, "ci": [3.5, 4.5]},
        "kl.floor_minus_sample": {"mean": 1.0, "ci": [0.8, 1.2]},
    }.items():  # fmt: skip
        album = changed(album, path, metric)
    assert "it is 4.00 nats [3.50, 4.50], 1.00 nats [0.80, 1.20] more." in headline(album)[0].reason


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
    assert f"{paired(runs[0], runs[2], 'kl').mean:+.2f}".replace("-", "−") in lead.reason


@pytest.mark.parametrize(
    ("ci", "verdict"),
    [([0.01, 0.05], "It goes with it"), ([-0.01, 0.05], "Not established"), ([-0.05, -0.01], "The other way round")],
)
def test_the_interval_decides_whether_looking_decides(album, ci, verdict):
    found = headline(changed(album, "focus_score.difference", {"mean": sum(ci) / 2, "ci": ci}))
    assert found[-1].verdict == verdict


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
    before = synthetic_run.write_run(tmp_path / "before", drawn, synthetic_run.STUDENT, teacher)
    after = synthetic_run.write_run(
        tmp_path / "after", drawn[:30], synthetic_run.Model("tiny:lavit", gain=11.0, accuracy=0.9), teacher
    )
    found = paired(before, after, "kl")
    mine, theirs = (run.samples.set_index("sample_id")["kl"] for run in (after, before))
    difference = (mine - theirs.loc[mine.index]).to_numpy()
    assert found == mean_ci(difference, after.samples["cluster"].to_numpy())
    assert found.n == 30
    assert paired(after, before, "kl").mean == pytest.approx(-found.mean)
    lead = headline(albums([before, after])[0])[1]
    assert lead.question == "Does tiny:lavit look nearer to the teacher than tiny:student?"
    assert lead.verdict == "Yes"
    assert f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}] nats" in lead.reason.replace("−", "-")


def test_a_failed_answer_counts_as_wrong_in_the_difference(pair):
    _, student = pair
    whole = copy.copy(student)
    whole.samples = student.samples.assign(correct=True, status="ok")
    right = (student.samples["correct"].eq(True) & (student.samples["status"] == "ok")).mean()
    assert paired(student, whole, "correct").mean == pytest.approx(1 - right)
    assert np.isnan(paired(student, whole, "kl").mean) == student.samples["kl"].isna().all()
