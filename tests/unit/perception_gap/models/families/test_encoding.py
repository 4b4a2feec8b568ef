"""Prompts and the role of each token, on the real chat templates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from perception_gap.errors import GapcheckError, UsageError
from perception_gap.gaze.answer import encode_text
from perception_gap.models.families import FAMILIES, family_for
from perception_gap.models.families.base import Placement, locate_text
from perception_gap.models.families.encoded import predicting
from perception_gap.models.loading import load
from tests.models import KINDS, llama_tokenizer
from tests.proofs import QUESTIONS, SIZES, picture


@pytest.mark.parametrize("kind", KINDS)
def test_question_tokens_decode_to_the_question(tiny_checkpoint, kind):
    family = load(tiny_checkpoint(kind)).family
    # Words of the template inside the question must not mislead the search.
    texts = [*QUESTIONS, "user", "assistant\n", "USER: what? ASSISTANT:", "x"]
    encoded = family.encode([[picture((64, 64))]] * len(texts), texts, system="Look at what the user shows.")
    for b, text in enumerate(texts):
        ids = encoded.inputs["input_ids"][b][encoded.question[b]]
        assert family.tokenizer.decode(ids).strip() == text.strip()
        positions = encoded.question[b].nonzero().flatten()
        assert (positions.diff() == 1).all()
        assert positions[0] > encoded.image[b].nonzero().max()
        assert encoded.inputs["attention_mask"][b, positions].all()


def _special_ids(tokenizer) -> set[int]:
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return (added | {*tokenizer.all_special_ids}) - {tokenizer.unk_token_id}


@pytest.mark.parametrize("kind", KINDS)
def test_no_special_token_reaches_the_model_through_a_question_a_system_prompt_or_a_shared_text(tiny_checkpoint, kind):
    loaded = load(tiny_checkpoint(kind))
    family, tokenizer = loaded.family, loaded.processor.tokenizer
    names = tokenizer.convert_ids_to_tokens(sorted(_special_ids(tokenizer)))
    assert names
    for name in names:
        for question, system in ((f"What {name} here?", None), (f"What?{name}", None), ("What?", f"Be{name} brief.")):
            with pytest.raises(GapcheckError, match=rf"holds .+, .*{family.name}.* (remove|respell) it"):
                family.encode([[picture((64, 64))]], [question], system)
        ids = encode_text(loaded, f"red{name} or blue")
        assert not _special_ids(tokenizer) & set(ids)
    for harmless in ("<| im_end |>", "[a] <b> 1 < 2", "<image" if kind != "ovis2" else "x"):
        encoded = family.encode([[picture((64, 64))]], [harmless])
        assert not _special_ids(tokenizer) & set(encoded.inputs["input_ids"][0][encoded.question[0]].tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_without_image_and_one_with_two_share_a_batch(tiny_checkpoint, kind):
    family = load(tiny_checkpoint(kind)).family
    two = [picture(SIZES["portrait"]), picture(SIZES["square"])]
    encoded = family.encode([[], two], ["What?", "What?"])
    assert [len(g) for g in encoded.geometry] == encoded.image.sum(1).tolist()
    assert len(encoded.geometry[0]) == 0
    assert set(encoded.geometry[1].image.tolist()) == {0, 1}
    for b in range(2):
        assert family.tokenizer.decode(encoded.inputs["input_ids"][b][encoded.question[b]]).strip() == "What?"


def test_the_template_writes_system_prompt_images_question_and_generation_prompt(tiny_checkpoint):
    family = load(tiny_checkpoint("qwen2_5_vl")).family
    assert family.render(2, "Why?", system="Be brief.") == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
        + "<|vision_start|><|image_pad|><|vision_end|>" * 2
        + "Why?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_llava_without_a_template_falls_back_to_its_training_format_and_others_refuse(tiny_checkpoint):
    llava = load(tiny_checkpoint("llava")).family
    llava.processor.chat_template = None
    assert llava.render(1, "Why?") == "USER: <image>\nWhy? ASSISTANT:"
    for kind in ("qwen2_vl", "llava_next"):
        family = load(tiny_checkpoint(kind)).family
        family.processor.chat_template = None
        with pytest.raises(UsageError, match=rf"processor of {kind} has no chat template.*chat_template\.jinja"):
            family.encode([[picture((64, 64))]], ["Why?"])


def test_a_broken_template_is_one_line(tiny_checkpoint):
    family = load(tiny_checkpoint("qwen2_5_vl")).family
    for broken in ("{% for m in messages %}", "{{ raise_exception('no images here') }}"):
        family.processor.chat_template = broken
        with pytest.raises(UsageError, match="chat template of qwen2_5_vl does not render"):
            family.render(1, "what")


def test_a_bos_token_written_by_the_template_is_not_written_twice(tiny_checkpoint):
    loaded = load(tiny_checkpoint("llava"))
    loaded.processor.chat_template = "<s>" + loaded.processor.chat_template
    ids = loaded.family.encode([[picture((64, 64))]], ["Why?"]).inputs["input_ids"]
    assert (ids == loaded.processor.tokenizer.bos_token_id).sum() == 1


def test_old_llava_processors_are_completed_from_the_config(tiny_checkpoint):
    loaded = load(tiny_checkpoint("llava"))
    processor = loaded.processor
    processor.patch_size = processor.vision_feature_select_strategy = None
    processor.num_additional_image_tokens = 0
    encoded = family_for(loaded.model.config, processor).encode([[picture((64, 64))]], ["Why?"])
    assert encoded.image.sum() == 36


def test_grey_palette_and_transparent_pictures_encode_like_their_rgb(tiny_checkpoint):
    family = load(tiny_checkpoint("qwen2_5_vl")).family
    for mode in ("L", "P", "RGBA"):
        other = picture((64, 48)).convert(mode)
        mine = family.encode([[other]], ["Why?"]).inputs["pixel_values"]
        assert torch.equal(mine, family.encode([[other.convert("RGB")]], ["Why?"]).inputs["pixel_values"])


def test_refusals_name_the_value(tiny_checkpoint):
    family = load(tiny_checkpoint("qwen2_5_vl")).family
    with pytest.raises(GapcheckError, match=r"holds <\|image_pad\|>.*remove it"):
        family.encode([[picture((64, 64))]], ["What is <|image_pad|>?"])
    with pytest.raises(GapcheckError, match=r"refuses images of \(width, height\) \[\(2000, 2\)\]"):
        family.encode([[Image.new("RGB", (2000, 2))]], ["Why?"])
    with pytest.raises(ValueError, match="1 lists of images for 2 texts"):
        family.encode([[]], ["a", "b"])


def test_a_count_that_the_geometry_does_not_explain_is_refused(tiny_checkpoint):
    family = load(tiny_checkpoint("llava")).family
    family.processor.num_additional_image_tokens = 3
    family._leading = lambda: 0
    with pytest.raises(GapcheckError, match="38 image tokens and the geometry 36"):
        family.encode([[picture((64, 64))]], ["Why?"])


def test_answers_are_appended_and_predicted_by_the_position_before(tiny_checkpoint):
    family = load(tiny_checkpoint("qwen2_5_vl")).family
    encoded = family.encode([[picture((64, 64))], [picture((96, 64))]], list(QUESTIONS))
    length = encoded.image.shape[1]
    whole, own = encoded.with_answers([[7, 8, 9], [5]], pad_id=0)
    assert whole.inputs["input_ids"][:, length:].tolist() == [[7, 8, 9], [5, 0, 0]]
    assert whole.inputs["attention_mask"][:, length:].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert whole.inputs["mm_token_type_ids"][:, length:].sum() == 0
    assert own.nonzero().tolist() == [[0, length], [0, length + 1], [0, length + 2], [1, length]]
    assert predicting(own).nonzero().tolist() == [[0, length - 1], [0, length], [0, length + 1], [1, length - 1]]
    assert torch.equal(whole.image[:, :length], encoded.image)
    assert not whole.image[:, length:].any()
    assert not whole.question[:, length:].any()
    assert whole.inputs["pixel_values"] is encoded.inputs["pixel_values"]
    with pytest.raises(ValueError, match="1 answers for 2 prompts"):
        encoded.with_answers([[1]], pad_id=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_predicting_row_is_the_one_whose_logits_choose_the_token(tiny_checkpoint, kind):
    """What is read teacher-forced is what generation did: also where masks or positions differ between the two."""
    loaded = load(tiny_checkpoint(kind))
    encoded = loaded.family.encode([[picture((64, 64))], [picture((96, 64))]], list(QUESTIONS))
    with torch.no_grad():
        generated = loaded.model.generate(**encoded.inputs, max_new_tokens=4, min_new_tokens=4, do_sample=False)
        answers = generated[:, encoded.image.shape[1] :].tolist()
        whole, own = encoded.with_answers(answers, pad_id=0)
        logits = loaded.model(**whole.inputs).logits
    logits[..., loaded.model.generation_config.eos_token_id] = -torch.inf  # min_new_tokens forbids it
    assert logits[predicting(own)].argmax(-1).tolist() == [token for answer in answers for token in answer]


def test_moving_casts_pixels_and_leaves_ids(tiny_checkpoint):
    encoded = load(tiny_checkpoint("llava")).family.encode([[picture((64, 64))]], ["Why?"]).to("cpu", torch.bfloat16)
    assert encoded.inputs["pixel_values"].dtype == torch.bfloat16
    assert encoded.inputs["input_ids"].dtype == torch.int64


def test_locating_text_keeps_the_bytes_of_unfinished_characters():
    tokenizer = llama_tokenizer()
    ids = tokenizer.encode("ab 東京 cd", add_special_tokens=False)
    inside = locate_text(tokenizer, ids, "東京", closing=3)
    assert sum(inside) == 6  # three bytes each
    assert tokenizer.decode([i for i, keep in zip(ids, inside, strict=True) if keep]) == "東京"
    assert locate_text(tokenizer, ids, "  ", closing=0) == [False] * len(ids)
    with pytest.raises(GapcheckError, match="'xyz' is not in the tokenized prompt"):
        locate_text(tokenizer, ids, "xyz", closing=0)


def test_placement_raster_by_hand():
    # A 100 × 50 image shown 20 × 10 in the middle of a canvas of 20 × 20: two rows of 10 pixels, half padding each.
    raster = Placement(x=0, y=5, width=20, height=10).raster(2, 2, (10, 10))
    np.testing.assert_allclose(raster.boxes, [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]])


def test_no_model_type_has_two_families():
    assert sorted(kind for family in set(FAMILIES.values()) for kind in family.model_types) == sorted(FAMILIES)
