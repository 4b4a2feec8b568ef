"""One measurement in one fresh process: optimiser steps of one loss, their time and peak memory.

`python -m benchmarks.speed.steps '{"variant": "full", ...}'` prints one JSON object. `training.py` starts it.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from accelerate.utils import send_to_device

from benchmarks.speed import apart, models
from benchmarks.speed.gauges import peak_memory, timed
from perception_gap.gaze.answer import pad_id
from perception_gap.models.loading import LoadedModel

TEACHER_WIDTH = 5120  # Qwen2.5-VL-32B, the paper's teacher
QUESTION, ANSWER = 40, 8  # tokens


@dataclass(frozen=True)
class Parts:
    """Which parts of the method a variant trains with."""

    latents: int = 4
    semantic: float = 0.0
    trajectory: float = 0.0
    gated: bool = False


VARIANTS = {
    "sft": Parts(latents=0),
    "latents": Parts(),
    "gate": Parts(gated=True),
    "concept": Parts(semantic=0.3),
    "trajectory": Parts(trajectory=0.3),
    "full": Parts(semantic=0.3, trajectory=0.3, gated=True),
}


@dataclass(frozen=True, kw_only=True)
class Measurement(apart.Measurement):
    """dtype: as in `training.py`."""

    batch: int = 1
    checkpointing: bool = False
    gamma: float = 0.5


def batch_of(loaded: LoadedModel, spec: Any, what: Measurement) -> dict[str, Any]:
    """B samples as lavit's own collator joins them; the later ones are longer, so that a batch has padding.

    Vision features stand in for pixels, as `gapcheck train --cache-vision` has them: the tower is frozen.
    """
    from lavit.data import Example, collate, target_on
    from lavit.latents import LatentTokens
    from lavit.traces import target

    generator = torch.Generator().manual_seed(1)
    latents, width = LatentTokens(spec, loaded.processor.tokenizer), loaded.model.config.get_text_config().hidden_size
    examples = []
    for b in range(what.batch):
        encoded = models.prompt(loaded, what.tokens, QUESTION + 4 * b)
        features = torch.randn(what.tokens, width, generator=generator)
        inputs = {n: v for n, v in encoded.inputs.items() if n != "pixel_values"} | {"image_features": features}
        encoded = latents.extend(replace(encoded, inputs=inputs))
        gaze = target(torch.rand(what.tokens, generator=generator).numpy(), encoded.geometry[0])
        aim = None if gaze is None else target_on(encoded, gaze, str(b))
        answer = torch.randint(20, 300, (ANSWER + b,), generator=generator).tolist()
        v_sem = torch.randn(TEACHER_WIDTH, generator=generator).half().numpy()
        examples.append(Example(str(b), encoded, answer, aim, v_sem))
    return send_to_device(collate(examples, pad_id(loaded)), what.device)


def stepper(loaded: LoadedModel, what: Measurement) -> tuple[Callable[[], None], dict[str, float], int]:
    """(a function that takes one optimiser step, the terms of the last one, positions of the batch).

    A step is what Trainer's is: forward, backward, gradients clipped to norm 1, fused AdamW.
    """
    from lavit import losses
    from lavit.latents import LatentSpec, add_tokens
    from lavit.student import LavitStudent, Objective

    parts = VARIANTS[what.variant]
    spec = LatentSpec.numbered(parts.latents, closing="</v-trace>")
    tokenizer = loaded.processor.tokenizer
    add_tokens(loaded.model, tokenizer, spec, seed=0)
    objective = Objective(parts.semantic, parts.trajectory)
    student = LavitStudent(loaded.model, tokenizer, spec, objective, TEACHER_WIDTH).to(what.device)
    student.to(next(loaded.model.parameters()).dtype).train()
    if what.checkpointing:
        student.gradient_checkpointing_enable()
    batch = batch_of(loaded, spec, what)
    weights = {"ntp": 1.0, "concept": parts.semantic, "trajectory": parts.trajectory}
    counts = {"ntp": float(batch["answer"].sum()), "concept": what.batch, "trajectory": what.batch}
    moving = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(moving, lr=5e-6, weight_decay=0.0, fused=True)
    last_terms: dict[str, float] = {}
    mixed = torch.autocast(what.device.split(":")[0], torch.bfloat16, enabled=what.dtype == "mixed")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with mixed:
            terms = student(batch, gamma=what.gamma if parts.gated else 1.0)
            loss = losses.total(terms, weights, counts)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(moving, 1.0)
        optimizer.step()
        last_terms.update({name: values.detach().sum().item() / counts[name] for name, values in terms.items()})

    return step, last_terms, int(batch["inputs"]["attention_mask"].sum())


def run_variant(what: Measurement) -> dict[str, Any]:
    """Settings, `seconds` and `cpu_seconds` (one a step, after a warm-up), `peak_bytes`, `positions`, `terms`.

    The peak counts from the loaded model on: head, gradients and the optimiser's state are in it.
    """
    if what.threads:
        torch.set_num_threads(what.threads)
    dtype = "float32" if what.dtype == "mixed" else what.dtype
    loaded = models.loaded(what.preset, what.layers, what.device, dtype, tower=False)
    with peak_memory(what.device) as peak:
        step, terms, positions = stepper(loaded, what)
        taken = timed(step, what.repeats, what.device)
        highest = peak()
    if not all(math.isfinite(value) for value in terms.values()):
        raise FloatingPointError(f"terms {terms}: not finite")
    return {**asdict(what), **taken, "peak_bytes": highest, "positions": positions, "terms": terms}


if __name__ == "__main__":
    print(json.dumps(run_variant(Measurement(**json.loads(sys.argv[1])))))
