"""Training data: a trace becomes a prompt, latents, an answer and the teacher's signals on the student's own tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lavit.latents import LatentTokens
from lavit.traces import Target, Trace, Traces, resample
from perception_gap.data.images import open_image
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.models.families.base import Family
from perception_gap.models.families.encoded import Encoded
from perception_gap.sample import prompt_text

ANSWERS = ("teacher", "reference")


@dataclass(frozen=True)
class Example:
    """One sample: the prompt with its latents (a batch of one), and what is to be learned behind and inside it.

    target: float32 [N] over the student's image tokens, sum 1; None where the trace has no gaze. v_sem: [D] or None.
    """

    id: str
    encoded: Encoded
    answer: list[int]
    target: np.ndarray | None
    v_sem: np.ndarray | None


class TraceDataset(Dataset[Example]):
    """The kept traces as examples.

    prompt: encodes a trace's prompt without latents; by default the family does it from the pictures, a VisionCache
        has it ready. gaze, semantics: traces whose signals are used, index by index: the same, or shuffled ones.
    answers: which text is learned, the "teacher"'s or the "reference".
    """

    def __init__(
        self,
        traces: Traces,
        prompt: Callable[[int], Encoded],
        latents: LatentTokens,
        tokenizer: Any,
        end_id: int,
        *,
        answers: str = "teacher",
        gaze: Callable[[int], Trace] | None = None,
        semantics: Callable[[int], Trace] | None = None,
    ) -> None:
        if answers not in ANSWERS:
            raise UsageError(f"answers {answers!r}: expected one of {', '.join(ANSWERS)}")
        self.traces, self.prompt, self.latents, self.tokenizer, self.end_id = traces, prompt, latents, tokenizer, end_id
        self.answers, self.gaze, self.semantics = answers, gaze or traces.__getitem__, semantics or traces.__getitem__

    def __len__(self) -> int:
        return len(self.traces)

    def __getitem__(self, index: int) -> Example:
        trace = self.traces[index]
        encoded = self.prompt(index)
        text = trace.answer if self.answers == "teacher" else trace.sample.answer
        written = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        ids = [*written.input_ids, self.end_id]
        gaze = self.gaze(index).gaze
        target = None
        if gaze is not None:
            target = target_on(encoded, gaze, trace.sample.id)
        return Example(trace.sample.id, self.latents.extend(encoded), ids, target, self.semantics(index).v_sem)


def target_on(encoded: Encoded, gaze: Target, sample_id: str) -> np.ndarray | None:
    """A trace's target on the student's image tokens, float32 [N], sum 1 even where the student's processor crops.

    None where it crops away all of it (the sample then counts as missing its gaze); GapcheckError for a trace whose
    images are not those of the prompt.
    """
    try:
        values = resample(gaze, encoded.geometry[0])
    except ValueError as error:
        raise GapcheckError(
            f"sample {sample_id}: the trace's gaze does not fit the student's image tokens ({error}); extract the "
            "traces again from the same pictures"
        ) from None
    return (values / values.sum()).astype(np.float32) if values.sum() > 0 else None


def prompt_of(family: Family, trace: Trace, instruction: str, system: str | None) -> Encoded:
    """The prompt of one trace from its pictures; GapcheckError for a picture of another size than the trace's."""
    pictures = [open_image(path) for path in trace.sample.images]
    sizes = [(p.height, p.width) for p in pictures]
    if sizes != [tuple(size) for size in trace.sizes]:
        raise GapcheckError(
            f"sample {trace.sample.id}: images of (height, width) {sizes}, the trace was made from {trace.sizes}; "
            "extract the traces again"
        )
    text = prompt_text(trace.sample.question, trace.sample.options, instruction)
    return family.encode([pictures], [text], system)


def collate(examples: Sequence[Example], pad_id: int) -> dict[str, Any]:
    """A batch of B examples, S positions, N image tokens at most.

    inputs: of the model, prompts left-padded and answers right-padded; bool [B, S]: image, question, latent,
    answer (the answer tokens' OWN positions, its end of turn included) and gated (closing and answer rows);
    target [B, N], v_sem [B, D] with has_gaze, has_v_sem bool [B]; ids: the samples' ids.
    """
    prompts = Encoded.join([e.encoded for e in examples], pad_id)
    whole, answer = prompts.with_answers([e.answer for e in examples], pad_id)
    latent = torch.zeros_like(answer) if whole.latent is None else whole.latent
    gated = answer | (whole.after_latents & whole.inputs["attention_mask"].bool())
    semantics = [e.v_sem for e in examples if e.v_sem is not None]
    width = max(int(whole.image.sum(1).max()), 1)
    return {
        "inputs": whole.inputs,
        "image": whole.image,
        "question": whole.question,
        "latent": latent,
        "answer": answer,
        "gated": gated,
        "target": _stacked([e.target for e in examples], width),
        "has_gaze": torch.tensor([e.target is not None for e in examples]),
        "v_sem": _stacked([e.v_sem for e in examples], max([len(v) for v in semantics], default=1)),
        "has_v_sem": torch.tensor([e.v_sem is not None for e in examples]),
        "ids": [e.id for e in examples],
    }


def _stacked(values: Sequence[np.ndarray | None], width: int) -> Tensor:
    """float32 [B, width], zeros where there is nothing; `has_` says where that is."""
    out = torch.zeros(len(values), width)
    for b, value in enumerate(values):
        if value is not None:
            out[b, : len(value)] = torch.from_numpy(np.asarray(value, dtype=np.float32))
    return out


def shuffled(traces: Traces, seed: int) -> Callable[[int], Trace]:
    """For each trace one of another picture, of the same task and grid (seeded): a teacher's signal that is wrong.

    A trace without such a partner comes back without signals, and is counted as missing them.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    pictures = []
    for i in range(len(traces)):
        trace = traces[i]
        # As many pictures too: without a grid, a gaze on a second one fits no sample of one.
        groups.setdefault((trace.sample.task, trace.grid, len(trace.sizes)), []).append(i)
        pictures.append(trace.image_hash)
    partner: dict[int, int] = {}
    for number, key in enumerate(sorted(groups, key=str)):
        order = [groups[key][j] for j in np.random.default_rng([seed, number]).permutation(len(groups[key]))]
        for at, mine in enumerate(order):
            others = (order[(at + step) % len(order)] for step in range(1, len(order)))
            other = next((o for o in others if pictures[o] != pictures[mine]), None)
            if other is not None:
                partner[mine] = other

    def signal(index: int) -> Trace:
        trace = traces[partner.get(index, index)]
        return trace if index in partner else replace(trace, gaze=None, v_sem=None)

    return signal


def boxed(traces: Traces) -> Callable[[int], Trace]:
    """The traces with the reference boxes as their gaze, by area: the oracle. Without boxes there is no gaze."""

    def signal(index: int) -> Trace:
        trace = traces[index]
        boxes = trace.sample.unit_boxes(trace.sizes)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        if not len(boxes) or areas.sum() == 0:
            return replace(trace, gaze=None)
        images = np.asarray(trace.sample.box_images, dtype=np.int64)
        nowhere = np.full(len(boxes), -1)  # no token of the teacher's
        return replace(trace, gaze=Target(nowhere, areas / areas.sum(), boxes, images))

    return signal
