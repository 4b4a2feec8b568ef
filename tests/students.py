"""Students for the tests of `lavit`: real tiny checkpoints with latent tokens, two samples, and a teacher's signals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lavit import losses
from lavit.data import Example, collate
from lavit.latents import LatentSpec, LatentTokens, add_tokens
from lavit.student import LavitStudent, Objective
from perception_gap.models.families.encoded import Encoded
from perception_gap.models.loading import LoadedModel, load
from tests.proofs import QUESTIONS, SIZES, picture

ANSWERS = ("the small star is red", "B.")
WIDTH = 12  # of the teacher
WEIGHTS = {"ntp": 1.0, "concept": 0.3, "trajectory": 0.3}


def with_latents(folder: Path, spec: LatentSpec, attn: str = "sdpa", seed: int = 0, **options: Any) -> LoadedModel:
    """A checkpoint that knows the latent tokens of the spec; with one seed always the same weights."""
    loaded = load(folder, attn=attn, **options)
    add_tokens(loaded.model, loaded.processor.tokenizer, spec, seed)
    return loaded


def prompts(loaded: LoadedModel, which: tuple[int, ...] = (0, 1)) -> Encoded:
    """Questions of different length over pictures of different size, left-padded."""
    pictures = [picture(SIZES["landscape"]), picture(SIZES["portrait"], seed=1)]
    return loaded.family.encode([[pictures[i]] for i in which], [QUESTIONS[i] for i in which])


def answer_ids(loaded: LoadedModel, index: int) -> list[int]:
    tokenizer = loaded.processor.tokenizer
    return [*tokenizer.encode(ANSWERS[index], add_special_tokens=False), tokenizer.eos_token_id]


def examples(loaded: LoadedModel, spec: LatentSpec) -> list[Example]:
    """Two samples with a gaze on eight tokens, as traces have it, and a V_sem."""
    latents, rng, found = LatentTokens(spec, loaded.processor.tokenizer), np.random.default_rng(0), []
    for i in range(2):
        encoded = prompts(loaded, (i,))
        target = np.zeros(len(encoded.geometry[0]), np.float32)
        target[rng.choice(len(target), 8, replace=False)] = rng.dirichlet(np.ones(8))
        v_sem = rng.standard_normal(WIDTH).astype(np.float16)
        found.append(Example(f"sample-{i}", latents.extend(encoded), answer_ids(loaded, i), target, v_sem))
    return found


@dataclass
class Case:
    loaded: LoadedModel
    student: LavitStudent
    examples: list[Example]

    def batch(self, *which: int) -> dict[str, Any]:
        """Both examples, or those of the given indices."""
        pad = self.loaded.processor.tokenizer.pad_token_id
        return collate([self.examples[i] for i in which or (0, 1)], pad)

    @torch.no_grad()
    def terms(self, *which: int, gamma: float = 1.0) -> dict[str, Tensor]:
        """The terms of such a batch, in evaluation: without gradient."""
        self.student.eval()
        found = self.student(self.batch(*which), gamma=gamma)
        self.student.train()
        return found


def case(
    folder: Path, *, count: int = 3, kind: str = "token", closing: str = "</v-trace>", attn: str = "sdpa",
    freeze_vision: bool = True, **objective: Any,
) -> Case:  # fmt: skip
    """A student in training mode with `count` latents; `objective`: as in Objective."""
    spec = LatentSpec.numbered(count, kind=kind, closing=closing)
    loaded = with_latents(folder, spec, attn)
    torch.manual_seed(0)
    student = LavitStudent(
        loaded.model, loaded.processor.tokenizer, spec, Objective(**objective), WIDTH, freeze_vision=freeze_vision
    )
    return Case(loaded, student.train(), examples(loaded, spec))


def total(terms: dict[str, Tensor], batch: dict[str, Any]) -> Tensor:
    """The loss of one batch as a whole step, λ = 0.3."""
    counts = {
        "ntp": float(batch["answer"].sum()), "concept": float(batch["has_v_sem"].sum()),
        "trajectory": float(batch["has_gaze"].sum()),
    }  # fmt: skip
    return losses.total(terms, WEIGHTS, counts)


def gradients(student: LavitStudent, loss: Tensor) -> dict[str, Tensor]:
    """Parameter → its gradient, of those that got one."""
    student.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
