from pathlib import Path

import numpy as np

from perception_gap.sample import Sample, prompt_text


def test_unit_boxes_are_fractions_of_each_boxs_own_image():
    sample = Sample("s", (Path("a"), Path("b")), "q", "a", boxes=((10, 20, 30, 40), (0, 0, 50, 100)), box_images=(0, 1))
    # First image 100 high and 200 wide, second 200 high and 100 wide; worked by hand.
    expected = [[0.05, 0.2, 0.15, 0.4], [0.0, 0.0, 0.5, 0.5]]
    np.testing.assert_allclose(sample.unit_boxes([(100, 200), (200, 100)]), expected, rtol=0, atol=1e-15)


def test_unit_boxes_do_not_change_when_image_and_box_are_scaled_together():
    box = (7.0, 11.0, 19.0, 23.0)
    small = Sample("s", (Path("a"),), "q", "a", boxes=(box,), box_images=(0,))
    large = Sample("s", (Path("a"),), "q", "a", boxes=(tuple(4 * v for v in box),), box_images=(0,))
    # A factor of four is exact in binary floating point.
    np.testing.assert_array_equal(small.unit_boxes([(32, 64)]), large.unit_boxes([(128, 256)]))


def test_unit_boxes_are_clipped_to_the_image():
    sample = Sample("s", (Path("a"),), "q", "a", boxes=((-1, 5, 101, 50),), box_images=(0,))
    np.testing.assert_array_equal(sample.unit_boxes([(50, 100)]), [[0, 0.1, 1, 1]])


def test_a_sample_without_boxes_has_an_empty_array_of_them():
    assert Sample("s", (Path("a"),), "q", "a").unit_boxes([(10, 10)]).shape == (0, 4)


def test_options_are_lettered_below_the_question_and_the_instruction_comes_last():
    assert prompt_text("Which?", ("red", "blue"), "Answer.") == "Which?\nA. red\nB. blue\nAnswer."
    assert prompt_text("Which?") == "Which?"
