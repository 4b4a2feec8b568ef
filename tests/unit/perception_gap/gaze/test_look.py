"""What a gaze averages, on a real tiny model with latent tokens."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lavit import checkpoint
from perception_gap.errors import UsageError
from perception_gap.gaze.answer import encode, encode_text
from perception_gap.gaze.look import ROWS, check_rows, look, mean_rows

QUESTIONS = ("what colour is the star", "which shape is red")
ANSWERS = ("red", "the star is red")  # so that the shorter one is padded


@pytest.fixture(scope="module")
def gazes():
    """rows → the gazes of two samples."""
    loaded = checkpoint.load("tiny:lavit")
    rng = np.random.default_rng(0)
    pictures = [[Image.fromarray(rng.integers(0, 255, (112, 112, 3), dtype=np.uint8))] for _ in QUESTIONS]
    encoded = encode(loaded, pictures, QUESTIONS, None)
    answers = [encode_text(loaded, text) for text in ANSWERS]
    n_tokens = [len(ids) for ids in answers]
    found = {
        rows: look(loaded, encoded, answers, "all", rows, per_head=True) for rows in ("answer", "latent", "response")
    }
    return found, n_tokens


def test_a_response_is_the_answers_rows_and_the_latent_rows_each_counted_once(gazes):
    found, n_tokens = gazes
    for answer, latent, response, n in zip(found["answer"], found["latent"], found["response"], n_tokens, strict=True):
        n_latents = len(latent.latent_maps)
        assert n_latents > 1
        # The last latent token predicts the first of the answer: one row of both.
        shared = latent.latent_maps[-1]
        expected = (n * answer.map + n_latents * latent.map - shared) / (n + n_latents - 1)
        np.testing.assert_allclose(response.map, expected, atol=1e-7)
        mass = (n * answer.mass + n_latents * latent.mass - shared.sum()) / (n + n_latents - 1)
        assert response.mass == pytest.approx(mass, abs=1e-6)
        assert abs(answer.map - latent.map).max() > 1e-4, "maps so alike that any mean would do"


def test_latent_rows_and_words_do_not_depend_on_what_the_map_averages(gazes):
    found, _ = gazes
    for answer, latent, response in zip(*found.values(), strict=True):
        np.testing.assert_allclose(latent.map, latent.latent_maps.mean(0), atol=1e-7)
        for other in (latent, response):
            np.testing.assert_array_equal(other.word_maps, answer.word_maps)
            np.testing.assert_array_equal(other.latent_maps, answer.latent_maps)
            np.testing.assert_array_equal(other.hidden, answer.hidden)
            assert other.text == answer.text
    assert [len(gaze.words) for gaze in found["answer"]] == [1, 4]


def test_layers_and_heads_average_to_the_map_of_the_same_rows(gazes):
    found, _ = gazes
    for of_rows in found.values():
        for gaze in of_rows:
            np.testing.assert_allclose(gaze.heads.mean((0, 1)), gaze.map, atol=1e-6)


def test_a_mean_over_nothing_is_undefined():
    np.testing.assert_array_equal(mean_rows(np.ones((2, 3), np.float32), []), [np.nan] * 3)
    np.testing.assert_array_equal(mean_rows(np.arange(6.0).reshape(3, 2), [0, 2]), [2, 3])


def test_rows_that_a_model_cannot_have_are_refused():
    with pytest.raises(UsageError, match="expected one of answer, question, latent, response"):
        check_rows("all")
    with pytest.raises(UsageError, match="has no latent tokens"):
        check_rows("latent", latents=False)
    for rows in ROWS:
        check_rows(rows)
    check_rows("response", latents=False)
