"""Latent tokens: their names, how a model learns to know them, and how they are inserted, injected and hidden."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lavit.latents import MODES, LatentSpec, LatentTokens, add_tokens, injected, latent_inputs, token_ids
from perception_gap.attention.gate import Gate
from perception_gap.errors import UsageError
from perception_gap.gaze.answer import generate
from perception_gap.gaze.look import look
from perception_gap.models.families.encoded import Encoded
from perception_gap.models.loading import LoadedModel, load
from tests.models import TRAINED as KINDS
from tests.proofs import decoder_inputs
from tests.students import answer_ids, prompts, with_latents

SPECS = {
    "token": LatentSpec.numbered(3, closing="</v-trace>"),
    "token-open": LatentSpec.numbered(3),
    "continuous": LatentSpec.numbered(3, kind="continuous", closing="</v-trace>"),
    "continuous-open": LatentSpec.numbered(3, kind="continuous"),
}

# --- names -----------------------------------------------------------------------------------------------------------


def test_a_spec_numbers_its_tokens_from_one():
    spec = LatentSpec.numbered(3, closing="</v-trace>", system="Think.")
    assert spec.tokens == ("<v-trace1>", "<v-trace2>", "<v-trace3>")
    assert spec.all_tokens == (*spec.tokens, "</v-trace>")
    assert LatentSpec.numbered(2, "<lvr{}>").all_tokens == ("<lvr1>", "<lvr2>")
    as_json = spec.as_dict()
    assert as_json == {
        "tokens": ["<v-trace1>", "<v-trace2>", "<v-trace3>"], "kind": "token", "closing": "</v-trace>",
        "system": "Think.",
    }  # fmt: skip
    assert LatentSpec(**(as_json | {"tokens": tuple(as_json["tokens"])})) == spec


def test_without_latents_nothing_is_closed():
    assert LatentSpec.numbered(0, names="no pattern", closing="</v-trace>").all_tokens == ()


@pytest.mark.parametrize("names", ["<think>", "", "<think{}{}>", "<think{", "<think{name}>"])
def test_names_without_a_place_for_the_number_are_refused(names):
    with pytest.raises(UsageError, match=r"latent names .*expected a pattern with \{\} for the number"):
        LatentSpec.numbered(2, names)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"tokens": ("<a>", "<a>")}, "expected different names"),
        ({"tokens": ("<a>", " ")}, "none of them empty"),
        ({"tokens": ("<a>",), "closing": "<a>"}, "expected different names"),
        ({"kind": "spoken"}, "'spoken': expected one of token, continuous"),
    ],
)
def test_specs_that_cannot_be_are_refused(spec, message):
    with pytest.raises(UsageError, match=message):
        LatentSpec(**spec)


# --- tokenizer and embeddings ----------------------------------------------------------------------------------------


def tables(model: Any) -> list[Tensor]:
    return [model.get_input_embeddings().weight.detach(), model.get_output_embeddings().weight.detach()]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_embeddings_grow_by_distinct_rows_near_the_mean_and_old_ones_stay(tiny_checkpoint, kind):
    loaded = load(tiny_checkpoint(kind))
    model: Any = loaded.model
    tokenizer = loaded.processor.tokenizer
    encoded = prompts(loaded)
    before = [table.clone() for table in tables(model)]
    logits = model(**encoded.inputs).logits
    known = len(tokenizer)
    ids = add_tokens(model, tokenizer, SPECS["token"], seed=0)
    assert ids == [known, known + 1, known + 2, known + 3]
    assert len(tokenizer) == model.config.get_text_config().vocab_size == known + 4
    assert not torch.equal(*tables(model))  # these checkpoints have an output table of their own
    for old, new in zip(before, tables(model), strict=True):
        assert len(new) == known + 4
        assert torch.equal(new[:known], old)
        rows, mean, spread = new[known:], old.mean(0), old.std(0)
        assert (rows != rows[0]).any(1)[1:].all()
        assert min((a - b).norm() for i, a in enumerate(rows) for b in rows[:i]) > 0.05 * spread.norm()
        assert ((rows - mean).abs() < 0.1 * 5 * spread).all()  # noise of a tenth of the spread, five deviations
    assert torch.equal(model(**encoded.inputs).logits[..., :known], logits)
    text = "why?<v-trace1><v-trace2></v-trace>ok"
    assert tokenizer(text, add_special_tokens=False).input_ids.count(ids[0]) == 1
    assert tokenizer.decode([ids[0], ids[3]]) == "<v-trace1></v-trace>"
    assert set(ids) <= set(tokenizer.all_special_ids)  # so that no answer shows them


def test_tied_tables_stay_one(tmp_path):
    loaded = load("tiny:student")
    model: Any = loaded.model
    before = tables(model)[0].clone()
    ids = add_tokens(model, loaded.processor.tokenizer, SPECS["token"], seed=0)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert torch.equal(tables(model)[0][: len(before)], before)
    model.save_pretrained(tmp_path)
    loaded.processor.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert torch.equal(tables(again.model)[0], tables(model)[0])
    assert token_ids(again.processor.tokenizer, SPECS["token"].all_tokens) == ids


def test_new_rows_depend_on_the_seed_alone(tiny_checkpoint):
    rows = []
    for seed, noise in ((5, 1), (5, 2), (6, 1)):
        torch.manual_seed(noise)
        loaded = with_latents(tiny_checkpoint("qwen2_5_vl"), SPECS["token"], seed=seed)
        rows.append(torch.cat([table[-4:] for table in tables(loaded.model)]))
    assert torch.equal(rows[0], rows[1])
    assert not torch.isclose(rows[0], rows[2]).any(1).all()


def test_spare_rows_of_a_checkpoint_are_used_before_it_grows(tiny_checkpoint):
    loaded = load(tiny_checkpoint("qwen2_5_vl"))
    model: Any = loaded.model
    known = len(loaded.processor.tokenizer)
    model.resize_token_embeddings(known + 10)
    before = [table.clone() for table in tables(model)]
    ids = add_tokens(model, loaded.processor.tokenizer, SPECS["token"], seed=0)
    assert ids == list(range(known, known + 4))
    for old, new in zip(before, tables(model), strict=True):
        assert len(new) == known + 10
        assert torch.equal(new[:known], old[:known])
        assert torch.equal(new[known + 4 :], old[known + 4 :])
        # The mean is that of real tokens: spare rows are untrained.
        assert ((new[ids] - old[:known].mean(0)).abs() < 0.5 * old[:known].std(0)).all()


def test_no_latents_add_nothing(tiny_checkpoint):
    loaded = load(tiny_checkpoint("qwen2_5_vl"))
    known = len(loaded.processor.tokenizer)
    assert add_tokens(loaded.model, loaded.processor.tokenizer, LatentSpec(), seed=0) == []
    assert len(loaded.processor.tokenizer) == len(tables(loaded.model)[0]) == known


def test_a_student_that_has_the_tokens_and_one_that_lacks_them_are_refused(tiny_checkpoint):
    loaded = with_latents(tiny_checkpoint("qwen2_5_vl"), SPECS["token-open"])
    tokenizer = loaded.processor.tokenizer
    known = len(tokenizer)
    with pytest.raises(UsageError, match=r"already has the token <v-trace1>.*latent_names"):
        add_tokens(loaded.model, tokenizer, SPECS["token"], seed=0)
    assert len(tokenizer) == known
    with pytest.raises(UsageError, match="has no token </v-trace>"):
        token_ids(tokenizer, SPECS["token"].all_tokens)


# --- inserted --------------------------------------------------------------------------------------------------------


def batch(loaded: LoadedModel, latents: LatentTokens, which: tuple[int, ...] = (0, 1)) -> tuple[Encoded, Encoded]:
    """Extended prompts, alone and followed by answers."""
    prompt = latents.extend(prompts(loaded, which))
    return prompt, prompt.with_answers([answer_ids(loaded, i) for i in which], 0)[0]


def read(loaded: LoadedModel, latents: LatentTokens, prompt: Encoded, whole: Encoded) -> Tensor:
    with torch.no_grad(), latents.reading(loaded.model, prompt):
        return loaded.model(**whole.inputs).logits


def real(whole: Encoded) -> Tensor:
    return whole.inputs["attention_mask"].bool()


def test_unknown_modes_are_refused(tiny_checkpoint):
    loaded = with_latents(tiny_checkpoint("qwen2_5_vl"), SPECS["token"])
    with pytest.raises(UsageError, match="'hide': expected one of force, none, mask, template, blind"):
        LatentTokens(SPECS["token"], loaded.processor.tokenizer, "hide")


@pytest.mark.parametrize("name", SPECS)
def test_force_inserts_them_whatever_the_prompt_says_and_none_leaves_the_prompt(tiny_checkpoint, name):
    loaded = with_latents(tiny_checkpoint("qwen2_5_vl"), SPECS[name])
    plain = loaded.family.encode([[]], ["Answer with the letter only."])
    inserted = LatentTokens(SPECS[name], loaded.processor.tokenizer)
    assert (inserted.count, inserted.system) == (3, None)
    expected = token_ids(loaded.processor.tokenizer, SPECS[name].all_tokens)
    extended = inserted.extend(plain)
    length = plain.image.shape[1]
    assert extended.inputs["input_ids"][0, length:].tolist() == expected
    assert extended.latent is not None
    assert extended.latent[0].nonzero().flatten().tolist() == [length, length + 1, length + 2]
    left_out = LatentTokens(SPECS[name], loaded.processor.tokenizer, "none")
    assert left_out.count == 0
    assert left_out.extend(plain) is plain


@torch.no_grad()
def test_without_latents_the_model_reads_the_plain_prompt(tiny_checkpoint):
    for name in ("token", "continuous"):
        loaded = with_latents(tiny_checkpoint("qwen2_5_vl"), SPECS[name])
        latents = LatentTokens(SPECS[name], loaded.processor.tokenizer, "none")
        prompt, whole = batch(loaded, latents)
        assert torch.equal(read(loaded, latents, prompt, whole), loaded.model(**whole.inputs).logits)


# --- hidden: against eager attention with an explicit mask -----------------------------------------------------------


def with_explicit_mask(loaded: LoadedModel, whole: Encoded, bias: Tensor) -> Tensor:
    """Logits under a 4D mask: causal, without padding, plus bias [B, S, S]; positions those of the whole sequence."""
    model: Any = loaded.model
    inputs = dict(whole.inputs)
    seen = inputs["attention_mask"].bool()
    length = seen.shape[1]
    if hasattr(model.model, "get_rope_index"):
        given = {n: inputs[n] for n in ("input_ids", "image_grid_thw", "attention_mask", "mm_token_type_ids")}
        inputs["position_ids"] = model.model.get_rope_index(**given)[0]
    else:
        inputs["position_ids"] = torch.arange(length).expand(len(seen), -1)
    lowest = torch.finfo(torch.float32).min
    hidden = torch.ones(length, length).triu(1).bool() | ~seen[:, None]
    inputs["attention_mask"] = torch.where(hidden, lowest, bias.clamp_min(lowest))[:, None]
    with torch.no_grad():
        return model(**inputs).logits


def hidden_by(mode: str, whole: Encoded) -> Tensor:
    """[B, S, S]: what each mode adds where a row behind the latents meets which key."""
    assert whole.latent is not None
    first = int(whole.latent[0].nonzero()[0])
    keys = torch.zeros_like(whole.latent)
    if mode in ("mask", "blind"):
        keys[:, first : first + 3] = True
    if mode == "template":
        keys[:, first - 3 : first] = True
    if mode == "blind":
        keys |= whole.image
    behind = torch.zeros_like(keys)
    behind[:, first + 3 :] = True
    value = {"mask": -torch.inf, "template": -torch.inf, "blind": math.log(1e-6)}.get(mode, 0.0)
    return torch.zeros(behind[:, :, None].shape).masked_fill(behind[:, :, None] & keys[:, None], value)


@pytest.mark.parametrize("kind", KINDS)
def test_modes_equal_eager_attention_with_an_explicit_mask_and_the_same_positions(tiny_checkpoint, kind):
    ours = with_latents(tiny_checkpoint(kind), SPECS["token"])
    eager = with_latents(tiny_checkpoint(kind), SPECS["token"], attn="eager")
    found = {}
    for mode in ("force", "mask", "template", "blind"):
        latents = LatentTokens(SPECS["token"], ours.processor.tokenizer, mode)
        prompt, whole = batch(ours, latents)
        found[mode] = read(ours, latents, prompt, whole)[real(whole)]
        expected = with_explicit_mask(eager, whole, hidden_by(mode, whole))[real(whole)]
        # float32 through three layers, sums in another order, logits of up to about 30.
        torch.testing.assert_close(found[mode], expected, atol=5e-4, rtol=0, msg=mode)
    behind = whole.after_latents[real(whole)]
    for mode in ("mask", "template", "blind"):
        change = (found[mode] - found["force"]).abs().amax(-1)
        assert change[~behind].max() == 0, f"{mode} hides something from the prompt"
        assert change[behind].max() > 0.1, f"{mode} hides nothing that matters"


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("mode", ["mask", "template", "blind"])
def test_rows_up_to_the_last_latent_are_the_same_whatever_is_hidden_behind_it(tiny_checkpoint, name, mode):
    loaded = with_latents(tiny_checkpoint("qwen2_5_vl"), SPECS[name])
    logits = {}
    for chosen in ("force", mode):
        latents = LatentTokens(SPECS[name], loaded.processor.tokenizer, chosen)
        prompt, whole = batch(loaded, latents)
        logits[chosen] = read(loaded, latents, prompt, whole)
    before = real(whole) & ~whole.after_latents
    assert torch.equal(logits[mode][before], logits["force"][before])
    behind = real(whole) & whole.after_latents
    assert (logits[mode] - logits["force"])[behind].abs().amax(-1).min() > 1e-3  # every row behind them


def test_nothing_of_masked_latents_comes_through(tiny_checkpoint):
    """Other latents, the same answer rows: bit for bit."""
    loaded = with_latents(tiny_checkpoint("qwen2_5_vl"), SPECS["token"])
    model: Any = loaded.model
    latents = LatentTokens(SPECS["token"], loaded.processor.tokenizer, "mask")
    prompt, whole = batch(loaded, latents)
    before = read(loaded, latents, prompt, whole)
    with torch.no_grad():
        model.get_input_embeddings().weight[latents.ids] *= -3
    after = read(loaded, latents, prompt, whole)
    behind = real(whole) & whole.after_latents
    assert torch.equal(before[behind], after[behind])
    assert not torch.equal(before, after)


# --- continuous ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def one_by_one(loaded: LoadedModel, spec: LatentSpec, index: int) -> tuple[Tensor, Tensor]:
    """The definition, for one sample: each latent's last hidden state written into the table as the next one's row.

    Returns the inputs of the latents [K, D] and the logits of prompt, latents and answer.
    """
    model: Any = loaded.model
    table = model.get_input_embeddings().weight
    ids = token_ids(loaded.processor.tokenizer, spec.all_tokens)
    latents, closing = ids[: len(spec.tokens)], ids[len(spec.tokens) :]
    plain, kept = prompts(loaded, (index,)), table.clone()
    for k in range(len(latents) - 1):
        states = model.base_model(**plain.with_latents(latents[: k + 1]).inputs).last_hidden_state
        table[latents[k + 1]] = states[0, -1]
    whole, _ = plain.with_latents(latents, closing).with_answers([answer_ids(loaded, index)], 0)
    logits = model(**whole.inputs).logits
    inputs = table[latents].clone()
    table.copy_(kept)
    return inputs, logits


@pytest.mark.parametrize("kind", KINDS)
def test_continuous_latents_equal_the_definition_one_by_one(tiny_checkpoint, kind):
    spec = SPECS["continuous"]
    loaded = with_latents(tiny_checkpoint(kind), spec)
    latents = LatentTokens(spec, loaded.processor.tokenizer)
    prompt, whole = batch(loaded, latents)
    found = latent_inputs(loaded.model, prompt, latents.ids).detach()
    logits = read(loaded, latents, prompt, whole)
    for b in range(2):
        inputs, expected = one_by_one(loaded, spec, b)
        # Hidden states of about 1, single samples against a padded batch, three times through three layers.
        torch.testing.assert_close(found[b], inputs, atol=1e-3, rtol=0)
        torch.testing.assert_close(logits[b, real(whole)[b]], expected[0], atol=5e-3, rtol=0)
        assert (inputs[1:] - inputs[:-1]).abs().amax(1).min() > 0.1


@torch.no_grad()
def test_the_input_of_a_latent_is_the_last_hidden_state_of_the_one_before(tiny_checkpoint):
    spec = SPECS["continuous"]
    loaded = with_latents(tiny_checkpoint("qwen2_5_vl"), spec)
    latents = LatentTokens(spec, loaded.processor.tokenizer)
    prompt, whole = batch(loaded, latents)
    own = loaded.model.get_input_embeddings().weight
    with latents.reading(loaded.model, prompt):
        entering = decoder_inputs(loaded.model, whole.inputs)
        states = loaded.model.base_model(**whole.inputs).last_hidden_state
    first = prompt.image.shape[1] - 4
    assert torch.equal(entering[:, first], own[latents.ids[0]].expand(2, -1))
    torch.testing.assert_close(entering[:, first + 1 : first + 3], states[:, first : first + 2], atol=1e-4, rtol=0)
    assert torch.equal(entering[:, first + 3], own[latents.closing_ids[0]].expand(2, -1))
    assert torch.equal(entering[:, first + 4], own[whole.inputs["input_ids"][:, first + 4]])
    assert torch.equal(decoder_inputs(loaded.model, whole.inputs)[:, first + 1], own[latents.ids[1]].expand(2, -1))


def test_one_continuous_latent_is_a_token_latent(tiny_checkpoint):
    logits = []
    for kind in ("token", "continuous"):
        spec = LatentSpec.numbered(1, kind=kind)
        loaded = with_latents(tiny_checkpoint("qwen2_5_vl"), spec)
        latents = LatentTokens(spec, loaded.processor.tokenizer)
        logits.append(read(loaded, latents, *batch(loaded, latents)))
    assert torch.equal(*logits)


def test_injected_embeddings_end_with_the_block(tiny_checkpoint):
    loaded = with_latents(tiny_checkpoint("qwen2_5_vl"), SPECS["continuous"])
    embeddings: Any = loaded.model.get_input_embeddings()
    ids = token_ids(loaded.processor.tokenizer, SPECS["continuous"].tokens)
    tokens = torch.tensor([[4, ids[1], ids[0]], [ids[0], 4, 5]])
    given = torch.arange(2 * 3 * 32, dtype=torch.float32).view(2, 3, 32)
    plain = embeddings(tokens)
    with injected(loaded.model, ids, given):
        found = embeddings(tokens)
    assert torch.equal(found[0], torch.stack([plain[0, 0], given[0, 1], given[0, 0]]))
    assert torch.equal(found[1], torch.stack([given[1, 0], plain[1, 1], plain[1, 2]]))
    assert torch.equal(embeddings(tokens), plain)
    with pytest.raises(KeyError), injected(loaded.model, ids, given):
        raise KeyError
    assert torch.equal(embeddings(tokens), plain)


# --- generated -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "llava"])
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("mode", MODES)
@torch.no_grad()
def test_generation_equals_a_teacher_forced_forward(tiny_checkpoint, kind, name, mode):
    loaded = with_latents(tiny_checkpoint(kind), SPECS[name])
    model: Any = loaded.model
    latents = LatentTokens(SPECS[name], loaded.processor.tokenizer, mode)
    prompt = latents.extend(prompts(loaded))
    with latents.reading(model, prompt):
        produced = model.generate(
            **prompt.inputs, max_new_tokens=4, do_sample=False, output_logits=True, return_dict_in_generate=True,
            eos_token_id=None, pad_token_id=0, suppress_tokens=[*latents.ids, loaded.family.image_token_id],
        )  # fmt: skip
    length = prompt.image.shape[1]
    whole, _ = prompt.with_answers(produced.sequences[:, length:].tolist(), 0)
    expected = read(loaded, latents, prompt, whole)[:, length - 1 : -1]
    # With the cache sums come in another order; continuous latents go three times through three layers.
    torch.testing.assert_close(torch.stack(produced.logits, dim=1), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_answering_and_looking_work_in_every_mode(tiny_checkpoint, mode):
    loaded = with_latents(tiny_checkpoint("qwen2_5_vl"), SPECS["continuous"])
    loaded.latents = latents = LatentTokens(SPECS["continuous"], loaded.processor.tokenizer, mode)
    encoded = latents.extend(prompts(loaded))
    answers = generate(loaded, encoded, 4)
    gazes = look(loaded, encoded, answers, "all", "response")
    for gaze, geometry in zip(gazes, encoded.geometry, strict=True):
        assert gaze.latent_maps.shape == (0 if mode == "none" else 3, len(geometry))
        assert "v-trace" not in gaze.text
        assert 0 < gaze.mass < 1
    model: Any = loaded.model
    assert not model.get_input_embeddings()._forward_hooks


def test_padding_changes_nothing_in_any_mode(tiny_checkpoint):
    for name in ("token", "continuous"):
        loaded = with_latents(tiny_checkpoint("qwen2_5_vl"), SPECS[name])
        for mode in MODES:
            latents = LatentTokens(SPECS[name], loaded.processor.tokenizer, mode)
            prompt, whole = batch(loaded, latents)
            together = read(loaded, latents, prompt, whole)
            for b in range(2):
                alone, one = batch(loaded, latents, (b,))
                single = read(loaded, latents, alone, one)
                torch.testing.assert_close(together[b, real(whole)[b]], single[0], atol=5e-3, rtol=0, msg=mode)


@torch.no_grad()
def test_masking_is_the_gate_at_zero(tiny_checkpoint):
    loaded = with_latents(tiny_checkpoint("llava"), SPECS["token"])
    latents = LatentTokens(SPECS["token"], loaded.processor.tokenizer, "mask")
    prompt, whole = batch(loaded, latents)
    assert whole.latent is not None
    with Gate(loaded.model, whole.after_latents, whole.latent, 0.0):
        expected = loaded.model(**whole.inputs).logits
    assert torch.equal(read(loaded, latents, prompt, whole), expected)
