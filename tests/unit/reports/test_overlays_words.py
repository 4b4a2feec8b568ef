import copy

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from perception_gap.geometry import TokenGeometry
from reports.overlays import most_divergent, word_strips
from reports.overlays.models import as_models
from reports.overlays.words import strips_of
from tests.unit.reports import synthetic_run
from tests.unit.reports.synthetic_run import WORDS


def attention(ax):
    return next(im for im in ax.images if im.get_gid() == "attention")


def painted(figure) -> list:
    return [ax for ax in figure.axes if any(im.get_gid() == "attention" for im in ax.images)]


def shown(figure) -> str:
    return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())


@pytest.fixture
def sample_id(pair) -> str:
    return most_divergent(pair[1].samples, 1)["sample_id"].iloc[0]


def kl_of(run, sample_id) -> np.ndarray:
    rows = run.words[(run.words["sample_id"] == sample_id) & (run.words["text"] == "shared")]
    return rows.sort_values("word_index")["kl"].to_numpy(float)


def with_kl(run, sample_id, values):
    """The run with these KLs of its words."""
    made = copy.copy(run)
    made.words = run.words.copy()
    mine = (made.words["sample_id"] == sample_id) & (made.words["text"] == "shared")
    made.words.loc[mine, "kl"] = values
    return made


def test_each_word_has_its_map_of_each_model_in_one_scale(pair, sample_id):
    teacher, student = pair
    figure = word_strips(student, teacher, sample_id)
    panels = painted(figure)
    assert len(panels) == 2 * len(WORDS)
    own, shared = teacher.map(sample_id, "own_words"), student.map(sample_id, "shared_words")
    for ax, expected in zip(panels, [*own, *shared], strict=True):
        drawn = attention(ax).get_array().reshape(16, 21, 16, 21).mean(axis=(1, 3))
        np.testing.assert_allclose(drawn.ravel(), 256 * expected, rtol=1e-4)
    highest = max(float(attention(ax).get_array().max()) for ax in panels)
    (limits,) = {attention(ax).get_clim() for ax in panels}
    assert limits == (1, pytest.approx(max(highest, 4)))


def test_words_and_categories_stand_above_and_the_divergence_below_the_student(pair, sample_id):
    teacher, student = pair
    figure = word_strips(student, teacher, sample_id)
    said = shown(figure)
    for (word, category), kl in zip(WORDS, kl_of(student, sample_id), strict=True):
        assert f"{word} {category}" in said
        assert f"KL {kl:.2f}" in said
    assert said.count("KL ") == len(WORDS)  # none below the teacher
    assert sum(bool(ax.images) and ax not in painted(figure) for ax in figure.axes) == 1  # the picture, once


def test_of_too_many_words_those_of_largest_mean_kl_stay_in_their_order(pair, sample_id):
    teacher, student = pair
    one = with_kl(student, sample_id, [1.0, 9.0, 2.0, np.nan, 3.0])
    other = with_kl(student, sample_id, [7.0, 0.0, 2.0, np.nan, 4.0])  # means 4, 4.5, 2, undefined, 3.5
    models = as_models([one, other], teacher)
    assert [w.at for w in strips_of(models, sample_id, 3)[0].words] == [0, 1, 4]
    assert [w.at for w in strips_of(models, sample_id, 4)[0].words] == [0, 1, 2, 4]
    (strip,) = strips_of(models, sample_id, 2)
    assert [w.text for w in strip.words] == [WORDS[0][0], WORDS[1][0]]
    assert [w.kl[1:] for w in strip.words] == [(1.0, 7.0), (9.0, 0.0)]
    assert strip.left_out == 3
    assert "the 2 words of largest KL; 3 of 5 left out" in shown(word_strips([one, other], teacher, sample_id, most=2))


def test_without_teacher_each_model_has_its_own_words_of_lowest_entropy(pair, sample_id):
    teacher, student = pair
    strips = strips_of(as_models([teacher, student], None), sample_id, 2)
    assert [strip.models[0].run for strip in strips] == [teacher, student]
    for strip in strips:
        tokens = strip.models[0].run.words
        entropy = tokens[(tokens["sample_id"] == sample_id) & (tokens["text"] == "own")]["entropy"].to_numpy()
        assert [w.at for w in strip.words] == sorted(np.argsort(entropy)[:2])
    figure = word_strips([teacher, student], None, sample_id)
    assert len(painted(figure)) == 2 * len(WORDS)
    assert "KL" not in shown(figure)


def test_many_words_go_on_on_further_lines_of_equal_length(pair, sample_id):
    teacher, student = (long(run, sample_id) for run in pair)
    figure = word_strips(student, teacher, sample_id, most=12)
    panels = painted(figure)
    assert len(panels) == 24
    tops = [round(ax.get_position().y1, 6) for ax in panels]
    assert [tops.count(top) for top in sorted(set(tops), reverse=True)] == [6, 6, 6, 6]
    assert figure.get_size_inches()[0] == pytest.approx(6.9)


def long(run, sample_id):
    """The run with a text of 12 words: its first word twelve times."""
    made = copy.copy(run)
    rows = run.words[(run.words["sample_id"] == sample_id) & (run.words["word_index"] == 0)]
    made.words = pd.concat([rows.assign(word_index=i) for i in range(12)])
    made.map = lambda one, kind="own": np.repeat(run.map(one, kind)[:1], 12, axis=0)
    return made


def test_a_word_without_a_map_is_undefined_and_the_others_are_painted(pair, sample_id):
    teacher, student = pair
    lacking = copy.copy(student)
    maps = student.map(sample_id, "shared_words").copy()
    maps[1] = np.nan
    lacking.map = lambda one, kind="own": maps
    figure = word_strips(with_kl(lacking, sample_id, [1.0, np.nan, 1.0, 1.0, 1.0]), teacher, sample_id)
    assert shown(figure).count("undefined: no mass") == 1
    assert "KL –" in shown(figure)
    assert (
        sum(bool(np.isfinite(attention(ax).get_array().filled(np.nan)).all()) for ax in painted(figure))
        == 2 * len(WORDS) - 1
    )


def test_a_model_that_lacks_the_sample_has_a_row_that_says_so(pair, sample_id, tmp_path):
    teacher, student = pair
    drawn = [scene for scene in synthetic_run.scenes(n=28) if scene.id != sample_id][:3]
    other = synthetic_run.write_run(tmp_path / "other", drawn, synthetic_run.Model("tiny:lavit"), teacher)
    figure = word_strips([student, other], teacher, sample_id)
    assert shown(figure).count("not in this run") == len(WORDS)
    assert len(painted(figure)) == 2 * len(WORDS)


def test_several_pictures_have_a_row_each(tmp_path):
    drawn = list(synthetic_run.scenes(n=3))
    grids = TokenGeometry.concatenate([TokenGeometry.grid(8, 8), TokenGeometry.grid(4, 4, image=1)])
    model = synthetic_run.Model("tiny:teacher", geometry=grids)
    run = synthetic_run.write_run(tmp_path / "run", drawn, model, n_images=2)
    figure = word_strips(run, None, drawn[0].id)
    above, below = painted(figure)[: len(WORDS)], painted(figure)[len(WORDS) :]
    maps = run.map(drawn[0].id, "own_words")
    assert maps is not None
    for first, second, weights in zip(above, below, maps, strict=True):
        assert attention(first).get_array().mean() == pytest.approx(2 * weights[:64].sum(), rel=1e-4)
        assert attention(second).get_array().mean() == pytest.approx(2 * weights[64:].sum(), rel=1e-4)


def test_no_words_are_said_to_be_none(pair, sample_id):
    silent = copy.copy(pair[0])
    silent.words = silent.words[:0]
    figure = word_strips(silent, None, sample_id)
    assert "undefined: no answer with words" in shown(figure)
    assert painted(figure) == []
