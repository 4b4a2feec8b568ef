"""LavitStudent on real tiny checkpoints: each term against plain transformers, and who moves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from lavit.latents import LatentSpec, LatentTokens
from lavit.student import LavitStudent, Objective
from lavit.vision_cache import vision_features
from perception_gap.attention.capture import find_decoder
from perception_gap.attention.gate import Gate
from perception_gap.errors import UsageError
from perception_gap.models.loading import load
from tests.models import TRAINED as KINDS
from tests.students import WIDTH, Case, case, gradients, total

Checkpoints = Callable[[str], Path]
# What each training configuration is made of.
CONFIGS: dict[str, dict[str, Any]] = {
    "naive": {"count": 0, "semantic_weight": 0.0, "trajectory_weight": 0.0},
    "latents-only": {"semantic_weight": 0.0, "trajectory_weight": 0.0},
    "token": {},
    "paper": {"count": 4, "closing": ""},
    "continuous": {"kind": "continuous"},
    "supervise-all": {"supervise": "all"},
    "no-semantic": {"semantic_weight": 0.0},
    "no-trajectory": {"trajectory_weight": 0.0},
    "ntp-on-latents": {"ntp_on_latents": True},
}
TERMS = {
    "naive": {"ntp"}, "latents-only": {"ntp"},
    "no-semantic": {"ntp", "trajectory"}, "no-trajectory": {"ntp", "concept"},
}  # fmt: skip
VISION = (
    "base.model.visual.",
    "base.model.vision_tower.",
    "base.model.multi_modal_projector.",
    "base.model.image_newline",
)


def frozen(student: LavitStudent) -> set[str]:
    """Names of what the vision side owns, from the names alone."""
    return {name for name, _ in student.named_parameters() if name.startswith(VISION)}


# --- who moves -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"), [*[("qwen2_5_vl", name) for name in CONFIGS], *[(kind, "token") for kind in KINDS],
                       *[(kind, "continuous") for kind in KINDS]],
)  # fmt: skip
def test_a_step_moves_decoder_embeddings_and_head_and_nothing_of_the_vision_side(
    tiny_checkpoint: Checkpoints, kind: str, name: str
):
    made = case(tiny_checkpoint(kind), **CONFIGS[name])
    student, batch = made.student, made.batch()
    before = {n: p.detach().clone() for n, p in student.named_parameters()}
    terms = student(batch, gamma=0.3)
    assert terms.keys() == TERMS.get(name, {"ntp", "concept", "trajectory"})
    assert all(values.shape == (2,) and values.isfinite().all() for values in terms.values())
    found = gradients(student, total(terms, batch))
    assert before.keys() - found.keys() == frozen(student)
    assert len(frozen(student)) > 20
    assert (student.head is not None) == ("concept" in terms)
    assert any(n.startswith("head.") for n in found) == ("concept" in terms)
    assert {n: g.abs().max().item() for n, g in found.items() if not g.abs().max() > 1e-6} == {}
    table = found[next(n for n in found if n.endswith("embed_tokens.weight"))]
    own = [*student.latent_ids, *student.closing_ids]
    # The inputs of later continuous latents are hidden states: their own rows are never read.
    read = own if made.student.spec.kind == "token" else [*own[:1], *student.closing_ids]
    assert [token for token in own if table[token].abs().max() > 1e-6] == read
    torch.optim.SGD(student.parameters(), lr=0.1).step()
    moved = {n for n, p in student.named_parameters() if not torch.equal(p, before[n])}
    assert moved == found.keys()


def test_an_unfrozen_vision_side_moves_too(tiny_checkpoint: Checkpoints):
    made = case(tiny_checkpoint("llava_next"), freeze_vision=False)
    found = gradients(made.student, total(made.student(made.batch()), made.batch()))
    towers = {n for n in frozen(made.student) if n in found and found[n].abs().max() > 0}
    # CLIP's last layer and final norm lie behind the layer whose states are used.
    behind = {n for n in frozen(made.student) if ".layers.2." in n or "post_layernorm" in n}
    assert towers == frozen(made.student) - behind


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_parts_stay_in_eval_mode(tiny_checkpoint: Checkpoints, kind: str):
    student = case(tiny_checkpoint(kind)).student
    for _ in range(2):  # also when training goes on after an evaluation
        student.train()
        tower = [module for n, module in student.named_modules() if f"{n}.".startswith(VISION)]
        assert len(tower) > 20
        assert not any(module.training for module in tower)
        assert all(module.training for module in find_decoder(student.base).modules())
        assert student.head is not None
        assert student.training
        assert student.head.training
        student.eval()
        assert not any(module.training for module in student.modules())
    moving = case(tiny_checkpoint(kind), freeze_vision=False).student
    assert all(module.training for module in moving.modules())


# --- each term, from plain transformers ------------------------------------------------------------------------------


def plain(made: Case, index: int, **options: Any) -> tuple[Any, dict[str, Any]]:
    """One sample alone through the base model by its own forward; latents are embedded as the model is used later."""
    batch, student = made.batch(index), made.student
    latents = LatentTokens(student.spec, made.loaded.processor.tokenizer)
    with latents.reading(student.base, made.examples[index].encoded):
        return student.base(**batch["inputs"], **options), batch


def supervised_places(made: Case, batch: dict[str, Any]) -> list[int]:
    places = batch["latent"][0].nonzero().flatten().tolist()
    return places if made.student.objective.supervise == "all" else places[-1:]


def naive_trajectory(made: Case, index: int, layers: tuple[int, ...] = (0, 1, 2)) -> Tensor:
    """KL(target ‖ attention) from the whole matrices of an eager model; differentiable."""
    output, batch = plain(made, index, output_attentions=True)
    mean = torch.stack([output.attentions[i] for i in layers]).mean(dim=(0, 2))[0]
    found = torch.zeros(())
    for place in supervised_places(made, batch):
        row = mean[place, batch["image"][0]]
        share, target = row / row.sum(), torch.from_numpy(made.examples[index].target)
        looked = target > 0
        found = found + (target[looked] * (target[looked] / share[looked]).log()).sum()
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"supervise": "all", "gaze_layers": "last2"}, {"kind": "continuous"}])
def test_the_trajectory_equals_the_divergence_of_eager_attention(
    tiny_checkpoint: Checkpoints, kind: str, options: dict[str, Any]
):
    made, eager = (case(tiny_checkpoint(kind), attn=attn, **options) for attn in ("sdpa", "eager"))
    found = made.terms()["trajectory"]
    with torch.no_grad():
        layers = (1, 2) if "gaze_layers" in options else (0, 1, 2)
        expected = [naive_trajectory(eager, b, layers).item() for b in range(2)]
    # float32 rows of a padded batch against single samples; continuous latents add two forwards.
    assert found.tolist() == pytest.approx(expected, abs=1e-3 if "kind" in options else 1e-4)
    assert min(expected) > 0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"supervise": "all"}, {"kind": "continuous"}])
@torch.no_grad()
def test_the_concept_term_equals_the_cosine_of_projected_hidden_states(
    tiny_checkpoint: Checkpoints, kind: str, options: dict[str, Any]
):
    made = case(tiny_checkpoint(kind), **options)
    found = made.terms()["concept"].tolist()
    weights = {
        n.removeprefix("head.layers."): p.double().numpy() for n, p in made.student.named_parameters() if "head." in n
    }
    for b in range(2):
        output, batch = plain(made, b, output_hidden_states=True)
        cosines = []
        for place in supervised_places(made, batch):
            hidden = output.hidden_states[-1][0, place].double().numpy() @ weights["0.weight"].T + weights["0.bias"]
            gelu = np.array([h * 0.5 * (1 + math.erf(h / math.sqrt(2))) for h in hidden])
            ours = gelu @ weights["2.weight"].T + weights["2.bias"]
            teacher = made.examples[b].v_sem.astype(np.float64)
            cosines.append(ours @ teacher / np.linalg.norm(ours) / np.linalg.norm(teacher))
        assert found[b] == pytest.approx(1 - np.mean(cosines), abs=1e-3 if "kind" in options else 1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["token", "paper", "ntp-on-latents", "continuous", "naive"])
@torch.no_grad()
def test_next_token_prediction_equals_transformers_own_loss(tiny_checkpoint: Checkpoints, kind: str, name: str):
    made, latents = case(tiny_checkpoint(kind), **CONFIGS[name]), 3 if name == "ntp-on-latents" else 0
    found = made.terms()["ntp"].tolist()
    for b in range(2):
        batch = made.batch(b)
        wanted = batch["answer"] | batch["latent"] if latents else batch["answer"]
        assert wanted.sum() == len(made.examples[b].answer) + latents
        labels = batch["inputs"]["input_ids"].masked_fill(~wanted, -100)
        output, _ = plain(made, b, labels=labels)
        # A sum of up to 40 nats, of logits that differ by 1e-4 between a padded batch and a single sample.
        assert found[b] == pytest.approx(output.loss.item() * int(wanted.sum()), rel=1e-4)


@pytest.mark.parametrize("name", ["token", "continuous", "paper", "naive"])
@torch.no_grad()
def test_the_gate_is_on_answer_rows_and_the_latents_terms_do_not_feel_it(tiny_checkpoint: Checkpoints, name: str):
    made = case(tiny_checkpoint("qwen2_5_vl"), **CONFIGS[name])
    batch = made.batch()
    latents = LatentTokens(made.student.spec, made.loaded.processor.tokenizer)
    prompt = replace(
        made.examples[0].encoded, inputs=batch["inputs"], image=batch["image"], question=batch["question"],
        latent=batch["latent"],
    )  # fmt: skip
    free, closed = made.terms(), made.terms(gamma=1e-6)
    with latents.reading(made.student.base, prompt), Gate(made.student.base, batch["gated"], batch["image"], 1e-6):
        logits = made.student.base(**batch["inputs"]).logits
    chosen = torch.log_softmax(logits[:, :-1], -1).gather(-1, batch["inputs"]["input_ids"][:, 1:, None])[..., 0]
    expected = -(chosen * batch["answer"][:, 1:]).sum(1)
    torch.testing.assert_close(closed["ntp"], expected, atol=1e-3, rtol=0)
    assert (closed["ntp"] - free["ntp"]).abs().min() > 0.01
    assert free.keys() == closed.keys() == TERMS.get(name, {"ntp", "concept", "trajectory"})
    for term in free.keys() - {"ntp"}:
        assert torch.equal(free[term], closed[term])


def test_only_a_closing_token_gates_an_answer_of_one_token(tiny_checkpoint: Checkpoints):
    for closing, felt in (("", False), ("</v-trace>", True)):
        made = case(tiny_checkpoint("qwen2_5_vl"), closing=closing)
        made.examples = [replace(e, answer=e.answer[:1]) for e in made.examples]
        free, closed = (made.terms(gamma=g)["ntp"] for g in (1.0, 1e-6))
        assert torch.equal(free, closed) is not felt


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["token", "continuous"])
def test_terms_of_a_padded_batch_are_those_of_its_samples(tiny_checkpoint: Checkpoints, kind: str, name: str):
    made = case(tiny_checkpoint(kind), **CONFIGS[name])
    together = made.student(made.batch(), gamma=0.05)
    alone = [made.student(made.batch(b), gamma=0.05) for b in range(2)]
    for term, values in together.items():
        singles = torch.cat([terms[term] for terms in alone])
        # Sums of up to 40 nats and divergences of a few; two more forwards with continuous latents.
        torch.testing.assert_close(values, singles, atol=2e-3, rtol=1e-4)
    whole = gradients(made.student, total(together, made.batch()))
    parts = gradients(
        made.student,
        sum(total(terms, made.batch()) for terms in alone),  # counts are those of the whole batch
    )
    for n, value in whole.items():
        torch.testing.assert_close(parts[n], value, atol=1e-3 * max(1.0, float(value.abs().max())), rtol=0, msg=n)


# --- signals that are missing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["token", "supervise-all", "continuous"])
@pytest.mark.parametrize(("term", "field"), [("concept", "v_sem"), ("trajectory", "target")])
def test_a_missing_signal_counts_nothing_and_pulls_nowhere(
    tiny_checkpoint: Checkpoints, name: str, term: str, field: str
):
    made = case(tiny_checkpoint("qwen2_5_vl"), **CONFIGS[name])
    full = made.student(made.batch(), gamma=0.3)
    made.examples[0] = replace(made.examples[0], **{field: None})
    batch = made.batch()
    terms = made.student(batch, gamma=0.3)
    assert batch[{"v_sem": "has_v_sem", "target": "has_gaze"}[field]].tolist() == [False, True]
    assert terms[term][0] == 0
    others = {n: v for n, v in terms.items() if n != term}
    assert all(torch.equal(value, full[n]) for n, value in others.items())
    assert torch.equal(terms[term][1], full[term][1])
    moving = [p for p in made.student.parameters() if p.requires_grad]
    pull = torch.autograd.grad(terms[term][0], moving, retain_graph=True, allow_unused=True)
    assert all(g is None or torch.equal(g, torch.zeros_like(g)) for g in pull)
    pull = torch.autograd.grad(terms[term][1], moving, allow_unused=True)
    assert max(g.abs().max() for g in pull if g is not None) > 0


def test_signals_missing_everywhere_leave_a_finite_step_with_gradients_for_all(tiny_checkpoint: Checkpoints):
    """A head without a gradient would stop training on several processes."""
    made = case(tiny_checkpoint("qwen2_5_vl"))
    made.examples = [replace(e, v_sem=None, target=None) for e in made.examples]
    terms = made.student(made.batch(), gamma=0.3)
    assert terms["concept"].tolist() == terms["trajectory"].tolist() == [0, 0]
    found = gradients(made.student, total(terms, made.batch()))
    assert found.keys() == {n for n, p in made.student.named_parameters() if p.requires_grad}
    assert all(g.isfinite().all() for g in found.values())
    head = [g for n, g in found.items() if n.startswith("head.")]
    assert len(head) == 4  # two layers, weight and bias
    assert all((g == 0).all() for g in head)


# --- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "llava"])
def test_the_trajectory_pulls_queries_and_keys_as_eager_attention_would(tiny_checkpoint: Checkpoints, kind: str):
    made, eager = (case(tiny_checkpoint(kind), attn=attn) for attn in ("sdpa", "eager"))
    ours = gradients(made.student, made.student(made.batch(), gamma=0.05)["trajectory"].sum())
    theirs = gradients(eager.student, sum((naive_trajectory(eager, b) for b in range(2)), torch.zeros(())))
    assert ours.keys() == theirs.keys()
    for n in theirs:
        assert theirs[n].abs().max() > 1e-5 or "layers.2" in n or n.endswith("language_model.norm.weight"), n
        # float32 back through three layers; gradients of up to 10.
        torch.testing.assert_close(ours[n], theirs[n], atol=1e-3, rtol=1e-3, msg=n)
    for layer in range(3):
        for projection in ("q_proj", "k_proj"):
            name = next(n for n in ours if f"layers.{layer}.self_attn.{projection}.weight" in n and "language" in n)
            assert ours[name].abs().max() > 1e-3


def naive_continuous(made: Case) -> Tensor:
    """The whole loss of one sample, each latent's hidden state put into the embedding table as the next one's row."""
    student, batch = made.student, made.batch(0)
    base, ids, inputs = student.base, student.latent_ids, dict(batch["inputs"])
    name = next(n for n, p in base.named_parameters() if p is base.get_input_embeddings().weight)
    table = base.get_input_embeddings().weight
    first = int(batch["latent"][0].nonzero()[0])
    for k in range(len(ids) - 1):
        short = {n: v[:, : first + k + 1] if v.shape[:2] == batch["latent"].shape else v for n, v in inputs.items()}
        output = functional_call(base, {name: table}, kwargs={**short, "output_hidden_states": True})
        table = table.index_put((torch.tensor(ids[k + 1]),), output.hidden_states[-1][0, -1])
    output = functional_call(
        base, {name: table}, kwargs={**inputs, "output_hidden_states": True, "output_attentions": True}
    )
    logits = output.logits[0, :-1].log_softmax(-1)
    own = batch["answer"][0, 1:]
    ntp = -logits[own, inputs["input_ids"][0, 1:][own]].mean()
    place = first + len(ids) - 1
    row = torch.stack(output.attentions).mean(dim=(0, 2))[0, place, batch["image"][0]]
    target = batch["target"][0]
    looked = target > 0
    kl = (target[looked] * (target[looked] * row.sum() / row[looked]).log()).sum()
    projected = student.head(output.hidden_states[-1][0, place])
    return ntp + 0.3 * kl + 0.3 * (1 - torch.cosine_similarity(projected, batch["v_sem"][0], dim=0))


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "llava"])
def test_gradients_through_continuous_latents_equal_the_definitions(tiny_checkpoint: Checkpoints, kind: str):
    made, eager = (case(tiny_checkpoint(kind), attn=attn, kind="continuous") for attn in ("sdpa", "eager"))
    loss = total(made.student(made.batch(0)), made.batch(0))
    naive = naive_continuous(eager)
    assert loss.item() == pytest.approx(naive.item(), rel=1e-4)
    ours, theirs = gradients(made.student, loss), gradients(eager.student, naive)
    assert ours.keys() == theirs.keys()
    rows = [eager.student.latent_ids[0]]
    for n, value in theirs.items():
        # float32 back through three times three layers.
        torch.testing.assert_close(ours[n], value, atol=2e-3 * max(1.0, float(value.abs().max())), rtol=0, msg=n)
        if n.endswith("embed_tokens.weight"):
            assert value[rows].abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["token", "continuous", "naive"])
def test_checkpointing_changes_no_term_and_no_gradient(tiny_checkpoint: Checkpoints, kind: str, name: str):
    made = case(tiny_checkpoint(kind), **CONFIGS[name])
    batch = made.batch()
    before = made.student(batch, gamma=0.05)
    plainly = gradients(made.student, total(before, batch))
    # As Trainer calls it.
    made.student.activation_checkpointing_enable(activation_checkpointing_kwargs=None, every_n_layers=1, offload=False)
    assert made.student.base.is_gradient_checkpointing
    after = made.student(batch, gamma=0.05)
    recomputed = gradients(made.student, total(after, batch))
    assert all(torch.equal(after[term], before[term]) for term in before)
    assert recomputed.keys() == plainly.keys()
    for n, value in plainly.items():
        # The same operations; sums of gradients may come in another order.
        torch.testing.assert_close(recomputed[n], value, atol=1e-6 * max(1.0, float(value.abs().max())), rtol=0, msg=n)


def test_checkpointing_by_its_older_name_is_not_reentrant_either(tiny_checkpoint: Checkpoints):
    made = case(tiny_checkpoint("qwen2_5_vl"))
    made.student.gradient_checkpointing_enable({"preserve_rng_state": False})
    batch = made.batch()
    assert gradients(made.student, total(made.student(batch), batch))  # reentrant mode would be refused


# --- features computed before ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "qwen3_vl"])
@pytest.mark.parametrize("name", ["token", "continuous"])
def test_cached_vision_features_give_the_same_terms_and_gradients(tiny_checkpoint: Checkpoints, kind: str, name: str):
    made = case(tiny_checkpoint(kind), **CONFIGS[name])
    batch = made.batch()
    expected = made.student(batch, gamma=0.05)
    before = gradients(made.student, total(expected, batch))
    for b, example in enumerate(made.examples):
        kept = {n: v for n, v in example.encoded.inputs.items() if n != "pixel_values"}
        features = vision_features(made.loaded, example.encoded).clone()
        encoded = replace(example.encoded, inputs=kept | {"image_features": features})
        made.examples[b] = replace(example, encoded=encoded)
    batch = made.batch()
    assert "pixel_values" not in batch["inputs"]
    found = made.student(batch, gamma=0.05)
    for term, values in expected.items():
        # The tower saw one picture at a time here, two there.
        torch.testing.assert_close(found[term], values, atol=1e-3, rtol=0, msg=term)
    for n, value in gradients(made.student, total(found, batch)).items():
        torch.testing.assert_close(value, before[n], atol=1e-3 * max(1.0, float(before[n].abs().max())), rtol=0, msg=n)
    assert batch["inputs"].keys() == made.batch()["inputs"].keys(), "the batch itself is left as it was"


# --- the embedded student, and what is refused -----------------------------------------------------------------------


def test_a_few_steps_lower_every_term_of_the_embedded_student():
    made = case("tiny:student", closing="</v-trace>")  # type: ignore[arg-type]
    batch = made.batch()
    optimiser = torch.optim.AdamW([p for p in made.student.parameters() if p.requires_grad], lr=2e-3)
    history: list[dict[str, float]] = []
    for step in range(9):
        terms = made.student(batch, gamma=min(1.0, 0.01 + step / 8))
        history.append({name: values.sum().item() for name, values in terms.items()})
        optimiser.zero_grad()
        total(terms, batch).backward()
        optimiser.step()
    for term, share in (("ntp", 0.5), ("concept", 0.7), ("trajectory", 0.9)):
        assert history[-1][term] < share * history[0][term], history


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"supervise": "first"}, "'first': expected one of last, all"),
        ({"semantic_weight": -0.1}, "expected at least 0"),
        ({"trajectory_weight": -1.0}, "expected at least 0"),
    ],
)
def test_objectives_that_mean_nothing_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        Objective(**options)


def test_traces_without_v_sem_and_tokenizers_without_the_tokens_are_refused(tiny_checkpoint: Checkpoints):
    made = case(tiny_checkpoint("qwen2_5_vl"))
    arguments = (made.loaded.model, made.loaded.processor.tokenizer, made.student.spec)
    with pytest.raises(UsageError, match="needs traces with V_sem; these have none"):
        LavitStudent(*arguments, Objective(), None)
    assert LavitStudent(*arguments, Objective(semantic_weight=0.0), None).head is None
    naive = LavitStudent(*arguments[:2], LatentSpec(), Objective(), None)  # without latents nothing is supervised
    assert naive.head is None
    assert naive.latent_ids == []
    fresh = load(tiny_checkpoint("qwen2_5_vl"))
    with pytest.raises(UsageError, match="has no token <v-trace1>"):
        LavitStudent(fresh.model, fresh.processor.tokenizer, made.student.spec, Objective(), WIDTH)
