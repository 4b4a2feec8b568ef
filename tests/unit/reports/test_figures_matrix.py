"""Figures of trainings and of ablation matrices, from logs and CSV tables made here."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from reports.figures import figures_of
from reports.figures.training import MOST, smoothed
from reports.sources import open_source
from tests.unit.reports.tables.synthetic_bench import TRAINED

STEPS = 60


def made(preset, seed):
    return TRAINED | {"preset": preset, "settings": {"seed": seed, "steps": STEPS, "n_latents": 4}}


def write_training(folder, preset, seed=0, **columns):
    """A finished training whose log has these columns, each a value a step or one for all."""
    folder.mkdir(parents=True)
    (folder / "train.json").write_text(json.dumps(made(preset, seed)))
    log = pd.DataFrame({"step": np.arange(1, STEPS + 1)} | columns)
    log.to_json(folder / "log.jsonl", orient="records", lines=True)
    (folder / "model").mkdir()
    return open_source(folder)


def full(scale=1.0):
    """The columns of a run with every loss; `scale` stretches them."""
    falling = scale / np.arange(1, STEPS + 1)
    return {
        "ntp": falling, "concept": 0.5 * falling, "trajectory": 2 * falling, "learning_rate": 1e-3 * falling,
        "gamma": np.minimum(1, np.arange(STEPS) / 20),
    }  # fmt: skip


def result(preset, seed, metric, value, half=0.04, rows="answer", task="all"):
    return {
        "preset": preset, "seed": seed, "rows": rows, "task": task, "metric": metric, "value": value,
        "low": value - half, "high": value + half, "n": 480,
    }  # fmt: skip


VALUES = {  # preset: accuracies by seed, KL by seed
    "student": ([0.6], [3.5]),
    "paper": ([0.7, 0.76, 0.73], [2.1, 2.2, 2.3]),
    "naive-sft": ([0.62, 0.66], [3.4, 3.6]),
    "hard-gate": ([0.71], [2.4]),
}


def write_matrix(folder, values=VALUES, compared=True):
    folder.mkdir(parents=True)
    rows = []
    for preset, (accuracies, divergences) in values.items():
        for seed, (accuracy, kl) in enumerate(zip(accuracies, divergences, strict=True)):
            rows += [result(preset, seed, "accuracy", accuracy), result(preset, seed, "kl", kl, half=0.1)]
            rows.append(result(preset, seed, "accuracy", 0.01, task="pairs"))  # another task: not shown
            rows.append(result(preset, seed, "kl", 9.0, rows="latents"))  # other rows: not shown
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)
    if compared:
        against = [
            {"preset": "paper", "against": base, "rows": "answer", "task": "all", "metric": "accuracy",
             "mean": mean, "low": mean - 0.02, "high": mean + 0.02, "n": 480, "of_each_seed": ""}
            for base, mean in (("student", 0.13), ("naive-sft", 0.09))
        ]  # fmt: skip
        pd.DataFrame(against).to_csv(folder / "comparisons.csv", index=False)
    return open_source(folder)


def figure(name, *sources):
    return next(made for made in figures_of(sources) if made.name == name)


def lines(ax, gid):
    return [line for line in ax.get_lines() if line.get_gid() == gid]


def shown(drawn) -> str:
    return "\n".join(text.get_text() for text in drawn.findobj(Text))


def test_smoothing_equals_a_mean_over_the_window_by_hand():
    values = pd.Series(np.random.default_rng(0).random(100))
    smooth, width = smoothed(values)
    assert width == 5
    for i in range(100):
        assert smooth[i] == pytest.approx(values[max(0, i - 2) : i + 3].mean())


def test_a_short_log_is_not_smoothed():
    smooth, width = smoothed(pd.Series([3.0, 1.0, 2.0]))
    assert width == 1
    assert smooth.tolist() == [3.0, 1.0, 2.0]


def test_a_training_shows_every_loss_raw_and_smoothed_over_its_gate(tmp_path):
    training = write_training(tmp_path / "t", "paper", **full())
    made = figure("training", training)
    axes = made.figure.axes
    for ax, column in zip(axes, ("ntp", "concept", "trajectory"), strict=False):
        (raw,), (smooth,) = lines(ax, f"raw {column} paper, seed 0"), lines(ax, f"{column} paper")
        assert raw.get_ydata() == pytest.approx(training.log[column])
        assert smooth.get_ydata() == pytest.approx(smoothed(training.log[column])[0])
        assert raw.get_alpha() < 0.5
    assert lines(axes[3], "gamma paper")[0].get_ydata() == pytest.approx(training.log["gamma"])
    assert len({ax.get_xlim() for ax in axes}) == 1
    # The log has ten digits after the point, of which a rate of 1e-5 leaves five.
    assert lines(axes[3], "learning rate")[0].get_ydata() == pytest.approx(full()["ntp"], rel=1e-5)
    assert "running mean over 3 steps" in shown(made.figure)
    assert "running mean over 3 steps" in made.alt
    assert "γ from 0 to 1 at step 21" in made.alt


def test_losses_that_a_training_does_not_have_are_said_to_be_missing(tmp_path):
    made = figure("training", write_training(tmp_path / "t", "naive-sft", ntp=0.5, gamma=1.0))
    assert "concept loss: not part of this training" in shown(made.figure)
    assert "trajectory loss: not part of this training" in shown(made.figure)
    assert "γ = 1 throughout" in made.alt
    assert made.figure.axes[3].get_xticks().size  # the panels that are missing leave the shared axis alone


def test_seeds_of_a_preset_are_thin_and_their_mean_is_thick(tmp_path):
    trainings = [write_training(tmp_path / f"p{i}", "paper", i, **full(1 + i)) for i in range(3)]
    ax = figure("training", *trainings).figure.axes[0]
    (mean,) = lines(ax, "ntp paper")
    seeds = [lines(ax, f"ntp paper, seed {i}")[0] for i in range(3)]
    assert mean.get_ydata() == pytest.approx(np.mean([seed.get_ydata() for seed in seeds], axis=0))
    assert all(seed.get_linewidth() < mean.get_linewidth() / 2 for seed in seeds)
    assert len({line.get_color() for line in (mean, *seeds)}) == 1


def test_presets_beyond_the_readable_are_named_in_words(tmp_path):
    trainings = [write_training(tmp_path / f"p{i}", f"preset{i}", **full()) for i in range(MOST + 2)]
    made = figure("training", *trainings)
    assert f"{MOST} of {MOST + 2} presets" in shown(made.figure)
    assert made.alt.count("preset8") == made.alt.count("preset9") == 1
    assert "Not shown: preset8, preset9." in made.alt
    drawn = [line for line in made.figure.axes[0].get_lines() if str(line.get_gid()).startswith("ntp")]
    assert len({(line.get_color(), str(line.get_linestyle())) for line in drawn}) == len(drawn) == MOST


def test_an_empty_log_and_a_loss_that_is_not_a_number_do_not_stop_the_figure(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "train.json").write_text(json.dumps(made("paper", 0)))
    assert "no step was logged" in shown(figure("training", open_source(folder)).figure)
    nan = write_training(tmp_path / "nan", "paper", ntp=np.nan, gamma=np.nan)
    assert "next token loss: undefined, no step has a number" in shown(figure("training", nan).figure)
    zero = write_training(tmp_path / "zero", "paper", ntp=0.0, gamma=1.0)
    assert figure("training", zero).figure.axes[0].get_yscale() == "linear"


def test_an_ablation_shows_the_mean_over_seeds_each_seed_and_the_baseline(tmp_path):
    made = figure("ablation", write_matrix(tmp_path / "m"))
    accuracy, difference, kl = made.figure.axes
    assert [label.get_text() for label in accuracy.get_yticklabels()] == list(VALUES)
    for ax, which, half in ((accuracy, 0, 0.04), (kl, 1, 0.1)):
        for y, (preset, values) in enumerate(VALUES.items()):
            (point,) = lines(ax, f"mean {preset}")
            assert point.get_xydata()[0] == pytest.approx([np.mean(values[which]), y])
            low, high = lines(ax, f"interval {preset}")[0].get_xdata()
            assert (low, high) == pytest.approx((np.mean(values[which]) - half, np.mean(values[which]) + half))
            seeds = lines(ax, f"seeds {preset}")
            assert [list(s.get_xdata()) for s in seeds] == ([values[which]] if len(values[which]) > 1 else [])
    assert lines(accuracy, "baseline accuracy")[0].get_xdata()[0] == pytest.approx(0.64)
    assert lines(difference, "difference paper")[0].get_xdata()[0] == pytest.approx(9)
    assert lines(difference, "interval paper")[0].get_xdata() == pytest.approx([7, 11])
    assert lines(difference, "difference hard-gate") == []
    assert (
        "paper (3 seeds): accuracy 73.0 % [69.0, 77.0], KL 2.20 nats [2.10, 2.30], 9.0 points [7.0, 11.0]" in made.alt
    )


def test_without_comparisons_the_difference_has_no_panel(tmp_path):
    assert len(figure("ablation", write_matrix(tmp_path / "m", compared=False)).figure.axes) == 2


def test_a_metric_that_a_matrix_lacks_is_said_to_be_undefined(tmp_path):
    matrix = write_matrix(tmp_path / "m", compared=False)
    only = matrix.results[matrix.results["metric"] == "accuracy"]
    only.to_csv(tmp_path / "m" / "results.csv", index=False)
    found = figures_of([open_source(tmp_path / "m")])
    assert [made.name for made in found] == ["ablation"]  # no gap without a divergence
    assert "undefined" in shown(found[0].figure)
    assert "KL undefined" in found[0].alt


def test_a_matrix_has_a_point_a_preset_at_the_mean_of_its_seeds(tmp_path):
    made = figure("gap_accuracy", write_matrix(tmp_path / "m"))
    for preset, (accuracies, divergences) in VALUES.items():
        (point,) = lines(made.figure.axes[0], f"point {preset}")
        assert point.get_xydata()[0] == pytest.approx([np.mean(divergences), np.mean(accuracies)])
    assert "n = 4 models" in shown(made.figure)


def test_two_matrices_have_a_figure_each_named_after_their_folders(tmp_path):
    matrices = [write_matrix(tmp_path / name) for name in ("one", "two")]
    names = [made.name for made in figures_of(matrices)]
    assert names == ["ablation", "ablation-two", "gap_accuracy", "gap_accuracy-two"]


def test_the_trainings_of_a_matrix_stand_in_the_order_of_its_results(tmp_path):
    write_matrix(tmp_path / "m")
    for preset in ("hard-gate", "naive-sft", "paper"):
        write_training(tmp_path / "m" / f"{preset}-s0" / "train", preset, **full())
    made = figure("training", open_source(tmp_path / "m"))
    order = [text.get_text().split(":")[0] for text in made.figure.legends[0].get_texts()]
    assert order == ["paper", "naive-sft", "hard-gate"]
