import copy

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from perception_gap.measure.summary import summarise
from perception_gap.metrics.measure import CATEGORIES
from reports.figures import figures_of, write_figures
from reports.overlays import overlay_figure

NAMES = ["focus_accuracy", "divergence_by_category", "entropy", "salient_regions", "overlays"]


def drawn(name, *sources):
    """The figure of this name that the sources allow."""
    return next(made.figure for made in figures_of(sources) if made.name == name)


def focus_accuracy_figure(run):
    """Of the run without its teacher, so that its curve is the only one."""
    return drawn("focus_accuracy", alone(run))


def divergence_figure(run):
    return drawn("divergence_by_category", run)


def alone(run):
    other = copy.copy(run)
    other.info = run.info | {"teacher": None}
    return other


def shown(figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def with_samples(run, samples):
    """The same run with other sample rows in memory, and the summary of these."""
    other = copy.copy(run)
    other.samples, other.summary = samples, summarise(samples, run.words, run.info, seed=0)
    return other


def lines(ax, gid):
    return [line for line in ax.get_lines() if line.get_gid() == gid]


def vertical_lines(ax) -> list[float]:
    return [line.get_xdata()[0] for line in ax.get_lines() if len(set(line.get_xdata())) == 1]


@pytest.fixture(scope="module")
def written(pair):
    return write_figures(pair[1])


def test_five_pictures_are_written_at_column_or_page_width_as_png_and_pdf(written, pair):
    names = [f"{name}.{kind}" for name in NAMES for kind in ("png", "pdf")]
    assert [path.name for path in written] == names
    assert sorted(p.name for p in (pair[1].path / "figures").iterdir()) == sorted(names)  # nothing half-written
    for path in written:
        if path.suffix == ".pdf":
            assert path.read_bytes().startswith(b"%PDF-")
            continue
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=float)
            assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
        assert pixels.shape[1] == 510 or pixels.shape[1] > 900
        assert pixels.std() > 10  # something is drawn


def test_drawing_leaves_the_state_of_matplotlib_alone(pair):
    before = dict(matplotlib.rcParams)
    figures_of([pair[1]])
    assert dict(matplotlib.rcParams) == before


def test_no_text_is_below_seven_points(pair):
    teacher, student = pair
    for figure in (*(made.figure for made in figures_of([student])), overlay_figure(student, teacher)):
        figure.canvas.draw()
        assert min(float(t.get_fontsize()) for t in figure.findobj(Text) if t.get_text()) >= 7


def test_accuracy_curve_equals_a_count_by_hand_at_every_threshold(pair):
    _, student = pair
    rows = [r for _, r in student.samples.iterrows() if r["status"] == "ok" and not np.isnan(r["focus_score"])]
    curve, counts, _ = focus_accuracy_figure(student).axes
    thresholds, accuracy = np.asarray(curve.get_lines()[0].get_xydata()).T
    assert len(thresholds) > 5
    assert thresholds[0] == 0
    for x, y, n in zip(thresholds, accuracy, np.asarray(counts.get_lines()[0].get_ydata()), strict=True):
        above = [r["correct"] for r in rows if r["focus_score"] >= x]
        assert n == len(above)
        assert y == pytest.approx(sum(above) / len(above), abs=1e-12)


def test_focus_panel_marks_both_means_chance_and_counts(pair):
    _, student = pair
    ok = student.samples[student.samples["status"] == "ok"]
    right = ok[ok["correct"].astype(bool)]["focus_score"]
    wrong = ok[~ok["correct"].astype(bool)]["focus_score"]
    spread = focus_accuracy_figure(student).axes[2]
    assert vertical_lines(spread)[:3] == pytest.approx([right.mean(), wrong.mean(), ok["focus_chance"].mean()])
    labels = " ".join(spread.get_legend_handles_labels()[1])
    assert f"n = {len(right)}" in labels
    assert f"n = {len(wrong)}" in labels
    assert f"AUROC {student.summary['focus_score']['auroc']['mean']:.2f}" in labels


def test_focus_histograms_are_each_shares_of_their_own_answers(pair):
    _, student = pair
    ok = student.samples[student.samples["status"] == "ok"]
    focus, correct = ok["focus_score"].to_numpy(), ok["correct"].to_numpy(dtype=bool)
    edges = np.linspace(0, focus.max(), 11)  # 2 √26 = 10 bins
    spread = focus_accuracy_figure(student).axes[2]
    for drawn, mine in zip(spread.collections, (focus[correct], focus[~correct]), strict=True):
        share = 100 * np.histogram(mine, edges)[0] / len(mine)
        heights = np.asarray(drawn.get_paths()[0].vertices)[:, 1]
        assert heights.max() == pytest.approx(share.max())
        assert set(np.round(share, 6)) <= set(np.round(heights, 6))


def test_curve_does_not_depend_on_the_order_of_the_samples(pair):
    _, student = pair
    shuffled = with_samples(student, student.samples.sample(frac=1, random_state=3))
    one, two = (np.asarray(focus_accuracy_figure(r).axes[0].get_lines()[0].get_xydata()) for r in (student, shuffled))
    np.testing.assert_allclose(one, two, atol=1e-12)


@pytest.mark.parametrize(("panel", "metric", "floor"), [(0, "kl", "kl_floor"), (1, "cosine_distance", "cosine_floor")])
def test_category_bars_are_the_means_over_words_with_their_floor(pair, panel, metric, floor):
    _, student = pair
    words = student.words[student.words["text"] == "shared"]
    ax = divergence_figure(student).axes[panel]
    assert len(ax.patches) == len(CATEGORIES)
    for bar, category in zip(ax.patches, CATEGORIES, strict=True):
        mine = words[words["category"] == category]
        assert bar.get_width() == pytest.approx(np.nanmean(mine[metric]))
        assert lines(ax, f"floor {category}")[0].get_xdata()[0] == pytest.approx(np.nanmean(mine[floor]))
        low, high = lines(ax, f"interval {category}")[0].get_xdata()
        assert low <= bar.get_width() <= high
    assert all("n = " in label.get_text() for label in ax.get_yticklabels())


def test_one_undefined_category_says_so_and_the_others_stay(pair):
    _, student = pair
    other = copy.copy(student)
    missing = {"mean": None, "ci": None, "n": 0}
    other.summary = student.summary | {"kl": student.summary["kl"] | {"object": missing}}
    ax = divergence_figure(other).axes[0]
    assert len(ax.patches) == 2
    assert "undefined" in "".join(t.get_text() for t in ax.texts)


def test_entropy_compares_the_same_samples_of_both_models(pair):
    teacher, student = pair
    fewer = with_samples(student, student.samples[:10])
    ax = drawn("entropy", fewer).axes[0]
    both = teacher.samples[teacher.samples["sample_id"].isin(fewer.samples["sample_id"])]
    assert vertical_lines(ax) == pytest.approx([both["entropy"].mean(), fewer.samples["entropy"].mean()])


def test_a_run_without_boxes_and_teacher_says_what_is_undefined(no_boxes):
    assert "undefined: no boxes" in shown(focus_accuracy_figure(no_boxes))
    assert "undefined: no teacher" in shown(divergence_figure(no_boxes))
    assert len(write_figures(no_boxes)) == 2 * len(NAMES)


@pytest.mark.parametrize("scale", [1, 0.13, 0.006])
def test_percent_labels_stand_where_they_say(pair, scale):
    _, student = pair
    scaled = student.samples.assign(focus_score=scale * student.samples["focus_score"])
    figure = focus_accuracy_figure(with_samples(student, scaled))
    figure.canvas.draw()
    for ax in (figure.axes[1], figure.axes[2]):
        labels = [float(label.get_text().removesuffix(" %")) for label in ax.get_xticklabels()]
        assert labels == pytest.approx([100 * tick for tick in ax.get_xticks()])
        assert len(set(labels)) == len(labels) > 2


def test_a_group_without_answers_is_stated_with_n_zero(pair):
    _, student = pair
    only_right = with_samples(student, student.samples[student.samples["correct"].eq(True)])
    assert "wrong, n = 0" in shown(focus_accuracy_figure(only_right))


def test_a_run_without_valid_rows_writes_no_figures_and_says_what_is_undefined(all_failed):
    assert [made.name for made in figures_of([all_failed])] == NAMES[:4]
    assert "undefined: no valid row" in shown(drawn("focus_accuracy", all_failed))
    assert "undefined: no valid map" in shown(drawn("salient_regions", all_failed))
    assert write_figures(all_failed) == []
    assert not (all_failed.path / "figures").exists()


def test_one_sample_without_an_interval_is_drawn(pair, tmp_path):
    _, student = pair
    one = with_samples(alone(student), student.samples[:1])
    figures = figures_of([one])
    assert [made.name for made in figures] == NAMES[:4]
    for made in figures:
        made.figure.canvas.draw()
    assert "n = 1" in shown(drawn("entropy", one))


def test_answers_that_nobody_scored_leave_the_curve_undefined(pair):
    _, student = pair
    unscored = with_samples(alone(student), student.samples.assign(correct=None))
    assert "undefined: no answer was scored" in shown(drawn("focus_accuracy", unscored))


def test_salient_regions_are_counted_in_bins_of_whole_tokens(pair):
    teacher, student = pair
    ax = drawn("salient_regions", student).axes[0]
    counts = [model.samples["salient_regions"].dropna().to_numpy() for model in (teacher, student)]
    edges = np.unique(np.asarray(ax.collections[0].get_paths()[0].vertices)[:, 0])
    assert (edges % 1 == 0.5).all()  # no count lies on an edge
    assert vertical_lines(ax) == pytest.approx([values.mean() for values in counts])
    alt = next(made.alt for made in figures_of([student]) if made.name == "salient_regions")
    assert f"coefficient of variation {counts[1].std() / counts[1].mean():.2f}" in alt


def test_a_teacher_that_is_gone_is_said_and_the_rest_drawn(pair):
    _, student = pair
    other = copy.copy(student)
    other.info = student.info | {"teacher": student.info["teacher"] | {"path": "../nowhere"}}
    found = figures_of([other])
    assert [made.name for made in found] == NAMES[:4]
    assert all("The run of tiny:teacher, the teacher, is gone" in made.alt for made in found)
    assert len(divergence_figure(other).axes[0].patches) == len(CATEGORIES)


def test_changed_data_change_the_figure_and_its_words(pair):
    _, student = pair
    changed = with_samples(student, student.samples.assign(entropy=student.samples["entropy"] + 0.25))
    before, after = (next(m for m in figures_of([run]) if m.name == "entropy") for run in (student, changed))
    old, new = (vertical_lines(made.figure.axes[0])[1] for made in (before, after))
    assert new - old == pytest.approx(0.25)
    assert before.alt != after.alt


def test_figures_say_the_numbers_that_the_summary_stores(pair):
    _, student = pair
    other = copy.copy(student)
    other.summary = copy.deepcopy(student.summary)
    other.summary["entropy"] |= {"mean": 1.23, "ci": [1.1, 1.3]}
    other.summary["focus_score"]["auroc"] |= {"mean": 0.77, "ci": [0.6, 0.9]}
    other.summary["focus_score"]["correct_mean"] |= {"mean": 0.55, "ci": [0.5, 0.6]}
    words = " ".join(made.alt for made in figures_of([other]))
    for said in (
        "mean 1.23 nats [1.10, 1.30]",
        "AUROC within task 0.77 [0.60, 0.90]",
        "mean focus 55.0 % [50.0, 60.0]",
    ):
        assert said in words
    assert "on the 16 × 16 raster" in words
