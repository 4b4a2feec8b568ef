"""Figures of several models: each with its own look, its teacher, and a correlation only where there is one."""

import copy
import os

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text
from scipy.stats import spearmanr

from perception_gap.metrics.measure import CATEGORIES
from perception_gap.runs.paths import signed
from perception_gap.stats.statistics import auroc_ci
from reports.figures import figures_of, kind_of
from reports.figures.labelling import Target, place_labels
from reports.sources import BenchModel, BenchRun
from reports.style import COLUMN, RC, TEACHER, new_figure
from tests.unit.reports import synthetic_run


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """(teacher, five students of growing gain and accuracy) over 20 scenes."""
    folder = tmp_path_factory.mktemp("family")
    drawn = list(synthetic_run.scenes(n=20))
    teacher = synthetic_run.write_run(folder / "teacher", drawn, synthetic_run.TEACHER)
    models = [synthetic_run.Model(f"tiny:s{i}", gain=1.0 + 2 * i, accuracy=0.35 + 0.13 * i) for i in range(5)]
    return teacher, [synthetic_run.write_run(folder / f"s{i}", drawn, model, teacher) for i, model in enumerate(models)]


def figure(name, *sources):
    return next(made for made in figures_of(sources) if made.name == name)


def line(ax, gid):
    (found,) = [line for line in ax.get_lines() if line.get_gid() == gid]
    return found


def shown(drawn) -> str:
    return "\n".join(text.get_text() for text in drawn.findobj(Text))


def bench_of(folder, runs):
    """A benchmark whose models answered as the runs did."""
    models = []
    for run in runs:
        below = folder / run.path.name
        below.mkdir(parents=True)
        asked = {"prompt": "?", "references": [["A"]] * len(run.samples), "n_tokens": 2, "n_prompt_tokens": 9}
        asked |= {
            "doc_id": range(len(run.samples)),
            "category": "",
            "lmms_score": None,
            "lmms_error": None,
            "strict_correct": None,
        }
        run.samples.drop(columns=["focus_chance"]).assign(**asked).to_parquet(below / "samples.parquet")
        info = {"asked": {"latents": "force"}}
        models.append(BenchModel(run.info["model"]["name"], below, info, {}))
    return BenchRun(folder, {}, tuple(models), None, ())


def test_every_model_has_a_curve_of_its_own_with_its_own_counts(family):
    teacher, students = family
    curve, counts, _ = figure("focus_accuracy", *students[:2]).figure.axes
    for run in (teacher, *students[:2]):
        label = run.info["model"]["name"]
        rows = run.samples
        x, y = line(curve, f"accuracy {label}").get_data()
        n = line(counts, f"samples {label}").get_ydata()
        for threshold, accuracy, above in zip(x, y, n, strict=True):
            passing = rows[rows["focus_score"] >= threshold]
            assert above == len(passing)
            assert accuracy == pytest.approx(passing["correct"].astype(float).mean())
    assert line(curve, "accuracy tiny:teacher").get_color() == TEACHER
    looks = {(one.get_color(), one.get_linestyle(), one.get_marker()) for one in curve.get_lines()}
    assert len(looks) == 3


def test_mean_focus_of_right_and_wrong_answers_stands_in_a_row_a_model(family):
    _, students = family
    spread = figure("focus_accuracy", *students[:2]).figure.axes[2]
    for run in students[:2]:
        rows, label = run.samples, run.info["model"]["name"]
        for name, right in (("right", True), ("wrong", False)):
            mean = rows[rows["correct"].astype(bool) == right]["focus_score"].mean()
            assert line(spread, f"{name} {label}").get_xdata()[0] == pytest.approx(mean)


def test_the_auroc_of_each_of_several_models_has_its_interval(family, tmp_path):
    teacher, students = family
    bench = bench_of(tmp_path / "bench", students[:2])
    for made in figures_of([*students[:2], bench]):
        if kind_of(made) != "focus_accuracy":
            continue
        words = [text.get_text() for text in made.figure.axes[2].texts]
        for run in (teacher, *students[:2]) if made.name == "focus_accuracy" else students[:2]:
            rows = run.samples.dropna(subset=["focus_score", "correct"])
            found = auroc_ci(rows["focus_score"], rows["correct"].astype(bool), rows["cluster"], strata=rows["task"])
            (text,) = [line for line in words if line.startswith(run.info["model"]["name"])]
            interval = (
                f" [{found.low:.2f}, {found.high:.2f}]" if found.low < found.high else ""
            )  # the teacher's: all apart
            assert text.endswith(f"AUROC {found.mean:.2f}{interval}")


def test_divergence_of_each_model_and_its_floor_stand_beside_each_other(family):
    _, students = family
    for ax, metric in zip(
        figure("divergence_by_category", *students).figure.axes, ("kl", "cosine_distance"), strict=True
    ):
        for run in students:
            label = run.info["model"]["name"]
            for category in CATEGORIES:
                found = run.summary[metric]
                assert line(ax, f"{category} {label}").get_xdata()[0] == found[category]["mean"]
                assert line(ax, f"interval {category} {label}").get_xdata() == pytest.approx(found[category]["ci"])
                floor = line(ax, f"floor {category} {label}").get_xdata()[0]
                assert floor == found[f"{category}_floor"]["mean"]


@pytest.mark.parametrize("n", [2, 5])
def test_entropy_of_few_is_overlaid_and_of_many_has_a_row_each(family, n):
    teacher, students = family
    ax = figure("entropy", *students[:n]).figure.axes[0]
    for run in (teacher, *students[:n]):
        mean = line(ax, f"mean {run.info['model']['name']}").get_xdata()[0]
        assert mean == pytest.approx(run.samples["entropy"].mean())
    rows = [text for text in ax.texts if "mean" in text.get_text()]
    assert len(rows) == (0 if n == 2 else n + 1)


def test_a_model_looks_the_same_in_every_figure_and_in_a_benchmark(family, tmp_path):
    _, students = family
    chosen = students[:2]
    made = figures_of([*chosen, bench_of(tmp_path / "bench", [students[3], students[1]])])
    names = [one.name for one in made]
    assert names == [
        "focus_accuracy", "focus_accuracy-bench", "divergence_by_category", "entropy", "entropy-bench",
        "salient_regions", "salient_regions-bench", "gap_accuracy",
    ]  # fmt: skip
    assert [kind_of(one) for one in made][:3] == ["focus_accuracy", "focus_accuracy", "divergence_by_category"]
    by_name = {one.name: one.figure for one in made}
    colors = {
        line(by_name["focus_accuracy"].axes[0], "accuracy tiny:s1").get_color(),
        line(by_name["focus_accuracy-bench"].axes[0], "accuracy tiny:s1").get_color(),
        line(by_name["divergence_by_category"].axes[0], "object tiny:s1").get_color(),
        line(by_name["gap_accuracy"].axes[0], "point tiny:s1").get_color(),
    }
    assert len(colors) == 1
    other = line(by_name["focus_accuracy-bench"].axes[0], "accuracy tiny:s3").get_color()
    assert other not in colors | {line(by_name["focus_accuracy"].axes[0], "accuracy tiny:s0").get_color()}


def test_a_benchmark_without_gaze_allows_no_figure(family, tmp_path):
    bench = bench_of(tmp_path / "bench", family[1][:1])
    path = bench.models[0].folder / "samples.parquet"
    bench.models[0].samples.drop(columns=["focus_score", "entropy", "salient_regions"]).to_parquet(path)
    assert figures_of([bench_of_again(bench)]) == []


def bench_of_again(bench):
    """The same benchmark, not read yet."""
    fresh = tuple(BenchModel(m.name, m.folder, m.info, m.summary) for m in bench.models)
    return BenchRun(bench.path, bench.info, fresh, bench.comparisons, bench.missing)


def test_runs_of_other_samples_say_so_in_the_figure_and_in_words(family):
    _, students = family
    other = copy.copy(students[1])
    other.info = students[1].info | {"data": students[1].info["data"] | {"hash": "another"}}
    for made in figures_of([students[0], other]):
        assert "The runs have different samples" in made.alt
        assert "the runs have different samples" in shown(made.figure)
    assert not any("different samples" in made.alt for made in figures_of(students[:2]))


def test_a_run_that_is_the_teacher_of_another_is_shown_once(family):
    teacher, students = family
    ax = figure("entropy", teacher, students[0]).figure.axes[0]
    assert len([one for one in ax.get_lines() if str(one.get_gid()).startswith("mean ")]) == 2


def test_each_model_is_a_point_at_its_gap_and_its_accuracy(family):
    teacher, students = family
    made = figure("gap_accuracy", *students)
    ax = made.figure.axes[0]
    for run in students:
        label = run.info["model"]["name"]
        point = line(ax, f"point {label}").get_xydata()[0]
        assert point == pytest.approx([run.summary["kl"]["sample"]["mean"], run.summary["accuracy"]["mean"]])
        assert line(ax, f"gap interval {label}").get_xdata() == pytest.approx(run.summary["kl"]["sample"]["ci"])
        assert line(ax, f"accuracy interval {label}").get_ydata() == pytest.approx(run.summary["accuracy"]["ci"])
    assert line(ax, "teacher").get_ydata()[0] == teacher.summary["accuracy"]["mean"]
    x, y = ([run.summary[a][b]["mean"] if b else run.summary[a]["mean"] for run in students]
            for a, b in (("kl", "sample"), ("accuracy", None)))  # fmt: skip
    assert f"Pearson r {np.corrcoef(x, y)[0, 1]:.2f}".replace("-", "−") in made.alt
    assert f"Spearman ρ {spearmanr(x, y)[0]:.2f}".replace("-", "−") in shown(made.figure)
    assert "not independent" in made.alt


def as_if(run, data="0", teacher=None):
    """The run as if of other data, or of another teacher (a run)."""
    other = copy.copy(run)
    other.info = run.info | {"data": run.info["data"] | {"hash": data, "spec": f"data {data}"}}
    if teacher is not None:
        named = {"name": teacher.info["model"]["name"], "path": os.path.relpath(teacher.path, run.path)}
        other.info = signed(other.info | {"teacher": run.info["teacher"] | named})
    return other


def test_data_sets_and_teachers_have_a_gap_figure_each_with_their_own_teacher(family):
    teacher, students = family
    elsewhere = [as_if(run, "other") for run in students[2:4]]
    found = figures_of([*students[:2], *elsewhere])
    gaps = {made.name: made for made in found if kind_of(made) == "gap_accuracy"}
    assert list(gaps) == ["gap_accuracy", "gap_accuracy-s2"]
    for made, shown_ in zip(gaps.values(), (students[:2], elsewhere), strict=True):
        points = {str(one.get_gid()) for one in made.figure.axes[0].get_lines() if "point" in str(one.get_gid())}
        assert points == {f"point {run.info['model']['name']}" for run in shown_}
        assert f"A point a model ({len(shown_)})" in made.alt
    assert "Only the runs on data other, teacher tiny:teacher" in gaps["gap_accuracy-s2"].alt
    colors = [
        line(drawn.axes[0], gid).get_color()
        for drawn, gid in (
            (gaps["gap_accuracy-s2"].figure, "point tiny:s3"),
            (next(made for made in found if made.name == "focus_accuracy").figure, "accuracy tiny:s3"),
        )
    ]
    assert colors[0] == colors[1]
    of_another = [as_if(run, teacher=students[4]) for run in students[2:4]]
    first, second = (made for made in figures_of([*students[:2], *of_another]) if kind_of(made) == "gap_accuracy")
    assert line(first.figure.axes[0], "teacher").get_ydata()[0] == teacher.summary["accuracy"]["mean"]
    assert line(second.figure.axes[0], "teacher").get_ydata()[0] == students[4].summary["accuracy"]["mean"]


def test_three_models_are_too_few_for_a_correlation(family):
    made = figure("gap_accuracy", *family[1][:3])
    assert "n = 3: no correlation is computed" in shown(made.figure)
    assert "Pearson" not in made.alt


def test_one_model_has_no_scatter(family):
    assert "gap_accuracy" not in [made.name for made in figures_of(family[1][:1])]


def labelled(points):
    """Boxes of the labels of these points, the axes' frame, the points in pixels, and the labels without room."""
    with matplotlib.rc_context(RC):
        drawn = new_figure(COLUMN, 3.3)
        ax = drawn.subplots()
        for point in points:
            ax.plot([point.x], [point.y], "o", ms=3.8)
        ax.margins(0.15)
        unplaced = place_labels(drawn, ax, points)
        boxes = [text.get_window_extent() for text in ax.texts]
        return boxes, ax.get_window_extent(), ax.transData.transform([(p.x, p.y) for p in points]), unplaced


@pytest.mark.parametrize(("n", "spread"), [(8, 0.1), (40, 0.01)])
def test_labels_of_crowded_points_lie_on_no_other_and_inside_the_axes(n, spread):
    where = np.random.default_rng(1).normal(0.3, spread, size=(n, 2))
    points = [Target(f"preset-{i}", *xy) for i, xy in enumerate(where)]
    points += [Target("far away", 1, 1), Target("a name that is much too long for a column of a paper", 0.6, 0.7)]
    boxes, frame, centres, unplaced = labelled(points)
    assert len(boxes) == len(points) - len(unplaced)
    assert (len(unplaced) > 0) == (n == 40)  # what has no room is left out and named, not written over another
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 and frame.y0 <= b.y0 and b.y1 <= frame.y1 for b in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert not any(b.contains(*centre) for b in boxes for centre in centres)
