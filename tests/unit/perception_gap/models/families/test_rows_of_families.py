"""AttentionCapture against eager attention, and against itself one sample at a time, for every family."""

from __future__ import annotations

import pytest
import torch

from perception_gap.attention.capture import AttentionCapture
from perception_gap.models.families.encoded import Encoded, predicting
from perception_gap.models.loading import LoadedModel, load
from tests.models import KINDS
from tests.proofs import QUESTIONS, SIZES, picture

ANSWERS = ("the small star is red", "B.")


def _batch(loaded: LoadedModel, which: tuple[int, ...] = (0, 1)) -> tuple[Encoded, torch.Tensor]:
    pictures = [picture(SIZES["landscape"]), picture(SIZES["portrait"], seed=1)]
    encoded = loaded.family.encode([[pictures[i]] for i in which], [QUESTIONS[i] for i in which])
    tokenizer = loaded.processor.tokenizer
    answers = [tokenizer.encode(ANSWERS[i], add_special_tokens=False) for i in which]
    whole, own = encoded.with_answers(answers, tokenizer.pad_token_id)
    return whole, whole.question | predicting(own)


def _rows(loaded: LoadedModel, encoded: Encoded, queries: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    with torch.no_grad(), AttentionCapture(loaded.model, queries, encoded.image) as capture:
        logits = loaded.model(**encoded.inputs).logits
    return capture.attention, logits


@pytest.mark.parametrize("kind", KINDS)
def test_rows_equal_eager_attention_and_logits_stay_what_they_were(tiny_checkpoint, kind):
    loaded = load(tiny_checkpoint(kind))
    encoded, queries = _batch(loaded)
    rows, logits = _rows(loaded, encoded, queries)
    with torch.no_grad():
        plain = loaded.model(**encoded.inputs).logits
        eager = load(tiny_checkpoint(kind), attn="eager").model(**encoded.inputs, output_attentions=True)
    assert (logits - plain).abs().max() <= 1e-6
    mean = torch.stack(eager.attentions).mean(dim=(0, 2))
    for b, mine in enumerate(rows):
        theirs = mean[b][queries[b]][:, encoded.image[b]]
        assert mine.shape == theirs.shape
        assert mine.std() > 1e-4, "attention so flat that any two maps agree"
        # float32 softmax in another order of summation; 1e-5 is the project's bar.
        assert (mine - theirs).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_a_left_padded_batch_gives_the_rows_of_single_samples(tiny_checkpoint, kind):
    loaded = load(tiny_checkpoint(kind))
    together, _ = _rows(loaded, *_batch(loaded))
    for b in range(2):
        alone, _ = _rows(loaded, *_batch(loaded, (b,)))
        assert together[b].shape == alone[0].shape
        assert (together[b] - alone[0]).abs().max() <= 1e-5
