"""The figure of layers and heads: what it draws are the summary's numbers; what is undefined is said."""

from __future__ import annotations

import copy

import matplotlib
import numpy as np
import pytest

from perception_gap.measure.layer_profile import Profile
from reports.figures import figures_of, layers
from reports.figures.models import of_runs
from reports.style import RC, save
from reports.summary import summary_table

N_LAYERS, N_HEADS = 3, 4


def layered(run, chance=0.1, divergence=True):
    """The run with invented measures of 3 layers of 4 heads, aggregated by the real profile."""
    rng, profile = np.random.default_rng(len(run.summary["model"])), Profile([1, 2, 5])
    valid = run.samples[run.samples["status"] == "ok"]
    for sample_id in valid["sample_id"]:
        stacked = rng.uniform(0.1, 0.2, (4, N_LAYERS, N_HEADS + 1))
        stacked[1, 1] += 0.2  # layer 2 has the focus
        if not divergence:
            stacked[2:] = np.nan
        profile.add(sample_id, stacked[..., -1], stacked[..., :-1], chance)
    found = copy.copy(run)
    found.summary = run.summary | profile.summary(run.samples)
    return found


def drawn(run):
    return next(made for made in figures_of([run]) if made.name == "layers")


def artists(figure, gid):
    return figure.findobj(lambda artist: str(artist.get_gid() or "").startswith(gid))


def test_a_run_without_it_has_no_such_figure(pair):
    assert all(made.name != "layers" for made in figures_of([pair[1]]))


def test_heads_and_profiles_are_those_of_the_summary(pair):
    run = layered(pair[1])
    figure, measured = drawn(run).figure, run.summary["per_layer"]
    for name in ("focus_lift", "kl"):
        (image,) = artists(figure, f"heads {name}")
        np.testing.assert_allclose(np.asarray(image.get_array()), measured["heads"][name]["mean"])
    for name in ("focus_lift", "mass"):
        (line,) = artists(figure, f"profile {name}")
        np.testing.assert_allclose(line.get_xdata(), [m["mean"] for m in measured["by_layer"][name].values()])
        (bar,) = artists(figure, f"interval {name} 2")
        np.testing.assert_allclose(bar.get_xdata(), measured["by_layer"][name]["2"]["ci"])
    with matplotlib.rc_context(RC):
        figure.draw_without_rendering()
    assert [tick.get_text() for tick in figure.axes[2].get_yticklabels()] == ["1", "2", "5"]  # the decoder's numbers
    assert f"n = {run.summary['n_samples'] - run.summary['n_failed']}" in figure.axes[2].get_xlabel()


def test_what_it_shows_is_also_said_in_words(pair):
    run = layered(pair[1])
    made = drawn(run)
    assert run.summary["per_layer"]["finding"] in made.alt
    assert "layer 5" in made.alt
    assert "layer 2 has the highest focus lift" in made.alt
    assert run.summary["per_layer"]["finding"] in summary_table(run)


@pytest.mark.parametrize(
    ("options", "reason"), [({"chance": float("nan")}, "undefined: no boxes"), ({"divergence": False}, "no teacher")]
)
def test_what_is_undefined_says_why(pair, options, reason, tmp_path):
    figure = drawn(layered(pair[1], **options)).figure
    assert any(reason in text.get_text() for ax in figure.axes for text in ax.texts)
    assert all(path.stat().st_size > 1000 for path in save(figure, tmp_path, "layers"))


def test_teacher_and_student_share_their_colours(pair):
    teacher, student = (layered(run, divergence=i > 0) for i, run in enumerate(pair))
    group = of_runs([student])
    both = [copy.copy(model) for model in group.models]
    object.__setattr__(both[0], "summary", teacher.summary)
    object.__setattr__(group, "models", tuple(both))
    (made,) = layers.of_models(group)
    images = artists(made.figure, "heads focus_lift")
    assert len(images) == 2
    assert images[0].get_clim() == images[1].get_clim()
    assert any("undefined: the teacher" in text.get_text() for ax in made.figure.axes for text in ax.texts)
