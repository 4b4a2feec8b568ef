"""Where an answer ends, whatever file of a checkpoint says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from perception_gap.data.scenes import scene
from perception_gap.errors import UsageError
from perception_gap.gaze.answer import encode, generate
from perception_gap.models.endings import as_ids
from perception_gap.models.loading import load
from perception_gap.tiny import WEIGHTS
from tests.models import KINDS

END, PAD, ORDINARY = 394, 395, 260  # <|im_end|>, <|endoftext|>, "the"


@pytest.fixture
def copied(tmp_path) -> Path:
    return Path(shutil.copytree(WEIGHTS / "student", tmp_path / "model"))


def _edit(folder: Path, name: str, change) -> None:
    path = folder / name
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def _without_ends(folder: Path, text_end=None, tokenizer_end=None) -> None:
    _edit(folder, "generation_config.json", lambda v: v.pop("eos_token_id"))
    _edit(folder, "config.json", lambda v: v["text_config"].update(eos_token_id=text_end))
    _edit(folder, "tokenizer_config.json", lambda v: v.update(eos_token=tokenizer_end))


def _answer(folder: Path | str) -> str:
    loaded = load(folder, device="cpu")
    drawn = scene("attribute", 0)
    encoded = encode(loaded, [[Image.fromarray(drawn.image)]], [drawn.question], None)
    (ids,) = generate(loaded, encoded, 32)
    return loaded.processor.tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("text_end", "tokenizer_end"),
    [(END, None), ([PAD, END], None), (None, "<|im_end|>"), (None, None), (ORDINARY, "<|im_end|>")],
    ids=["text config", "text config, a list", "tokenizer", "template alone", "ordinary token in the text config"],
)
def test_nothing_behind_the_end_stays_without_one_in_the_generation_config(copied, text_end, tokenizer_end):
    whole = _answer("tiny:student")
    _without_ends(copied, text_end, tokenizer_end)
    assert _answer(copied) == whole


def test_an_end_of_turn_ends_where_the_generation_config_knows_the_end_of_text_alone(copied):
    whole = _answer("tiny:student")
    _edit(copied, "generation_config.json", lambda v: v.update(eos_token_id=PAD))
    assert load(copied, device="cpu").model.generation_config.eos_token_id == [PAD, END]
    assert _answer(copied) == whole


def test_every_end_of_the_generation_config_stays(copied):
    _edit(copied, "generation_config.json", lambda v: v.update(eos_token_id=[END, ORDINARY]))
    assert load(copied, device="cpu").model.generation_config.eos_token_id == [END, ORDINARY]


@pytest.mark.parametrize("kind", KINDS)
def test_mark_that_the_template_writes_behind_an_answer_ends_it_in_every_family(tiny_checkpoint, kind):
    loaded = load(tiny_checkpoint(kind), device="cpu")
    tokenizer = loaded.processor.tokenizer
    ends = as_ids(loaded.model.generation_config.eos_token_id)
    assert ends
    marks = {"<|im_end|>", "<|eot_id|>", "<end_of_utterance>", "<turn|>", "</s>"} & set(tokenizer.get_added_vocab())
    template = str(getattr(loaded.processor, "chat_template", ""))
    assert {mark for mark in marks if mark in template} <= set(tokenizer.convert_ids_to_tokens(ends))


def test_as_ids():
    assert [as_ids(v) for v in (None, 3, [3, 4], (5,))] == [[], [3], [3, 4], [5]]


@pytest.mark.parametrize("value", ["9" * 400, 10**30, 1.5, True, {}, [[]], [None]])
def test_what_is_no_id_ends_nothing(value):
    with pytest.raises(UsageError, match=r"eos_token_id is .* expected a token's id or a list of ids"):
        as_ids(value)
