"""The tokens that end an answer: what a checkpoint's generation config, template, tokenizer and configuration say."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import TemplateError

from perception_gap.errors import UsageError, one_line

_ANSWER = "gapcheck answer"
_NO_ID = 2**31  # more than any vocabulary; tensors of ids overflow at 2**63
_MARK = re.compile(r"\s*(<[^<>\s]+>|\[[A-Z_/]+\])")


def end_ids(model: Any, processor: Any) -> list[int]:
    """The ids at which generation must stop, the checkpoint's own first; [] where nothing says what ends an answer.

    All of generation_config's (an int or a list); behind them those that only another source names: the mark that
    the chat template writes behind an answer (<|im_end|>, <end_of_turn>), the tokenizer's end of sequence, and that of
    the configurations, unless it is an ordinary token of this tokenizer, its padding or its beginning, or stands for a
    picture: a text model's default is any number.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    special = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
    pictures = {value for name, value in vars(model.config).items() if name.endswith(("_token_id", "_token_index"))}
    begins = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id} | pictures
    configured = [
        *as_ids(getattr(model.config.get_text_config(decoder=True), "eos_token_id", None)),
        *as_ids(getattr(model.config, "eos_token_id", None)),
    ]
    return list(
        dict.fromkeys(
            [
                *as_ids(getattr(model.generation_config, "eos_token_id", None)),
                *_behind_an_answer(processor, tokenizer),
                *as_ids(tokenizer.eos_token_id),
                *(i for i in configured if i in special - begins),
            ]
        )
    )


def as_ids(value: Any) -> list[int]:
    """A configuration's `eos_token_id` (None, an int or a list) as a list; UsageError for what is no token's id."""
    ids = [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
    for i in ids:
        if type(i) is not int or abs(i) >= _NO_ID:
            raise UsageError(
                f"eos_token_id is {one_line(repr(i), 40)}: expected a token's id or a list of ids; fetch the "
                "checkpoint's config.json, generation_config.json and tokenizer_config.json again"
            )
    return ids


def _behind_an_answer(processor: Any, tokenizer: Any) -> list[int]:
    """The first token that the chat template writes behind an answer, where it writes one; [] without a template."""
    if not getattr(processor, "chat_template", None):
        return []
    for content in ([{"type": "text", "text": _ANSWER}], _ANSWER):
        question = [{"type": "text", "text": "?"}] if isinstance(content, list) else "?"
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": content}]
        try:
            rendered = processor.apply_chat_template(turns, tokenize=False)
        except (TemplateError, TypeError):  # a template that takes text only, or one kind of turn
            continue
        if rendered.count(_ANSWER) == 1:
            mark = _MARK.match(rendered.split(_ANSWER)[1])
            ids = tokenizer(mark[1], add_special_tokens=False).input_ids if mark else []
            return ids if len(ids) == 1 else []
    return []
