"""One batch under every cut: the probability of the own answer, and the answer that is given instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from perception_gap.attention.gate import Gate
from perception_gap.data.images import shrink
from perception_gap.data.redrawn import without_boxed
from perception_gap.gaze.answer import decode_answer, encode, generate, pad_id
from perception_gap.gaze.prompting import Prompting
from perception_gap.geometry import TokenGeometry
from perception_gap.knockout.conditions import CONDITIONS, CUTS, FIELDS, Knockout
from perception_gap.knockout.reading import Reading, plain_greedy, read, remembering
from perception_gap.knockout.rows import rows_of, written_under
from perception_gap.knockout.tokens import shares, token_sets
from perception_gap.models.families.encoded import Encoded
from perception_gap.models.loading import LoadedModel
from perception_gap.sample import Sample, prompt_text

NOTHING = float("nan")


@dataclass(frozen=True)
class Cuts:
    """Of one sample. values: float32 [1 + C, F], FIELDS of the uncut answer, then of CONDITIONS; undefined is NaN.

    answers: C texts, None where the condition is undefined or the answer the uncut one.
    """

    values: np.ndarray
    answers: list[str | None]


@dataclass(frozen=True)
class Batch:
    """B prompts and their own answers, as token ids, with what the uncut model makes of them.

    settled: bool [B], whether the answer is plainly the greedy one, so that a cut which leaves it that need not
    generate.
    """

    loaded: LoadedModel
    encoded: Encoded
    answers: list[list[int]]
    max_new_tokens: int
    base: Reading
    settled: np.ndarray

    @classmethod
    def of(cls, loaded: LoadedModel, encoded: Encoded, answers: list[list[int]], max_new_tokens: int) -> Batch:
        base = read(loaded, encoded, answers, max_new_tokens)
        settled = base.greedy if plain_greedy(loaded) else np.zeros(len(answers), dtype=bool)
        return cls(loaded, encoded, answers, max_new_tokens, base, settled)


def read_under_cuts(
    loaded: LoadedModel,
    knockout: Knockout,
    prompting: Prompting,
    samples: Sequence[Sample],
    pictures: Sequence[Sequence[Image.Image]],
    encoded: Encoded,
    answers: list[list[int]],
    maps: Sequence[np.ndarray],
    verdict: Callable[[str, Sample], bool | None],
) -> list[Cuts]:
    """Every condition of a batch.

    pictures: of each sample, as they were opened. answers: the model's own, as token ids; maps: raw [N], its own as
    well.
    """
    batch = Batch.of(loaded, encoded, answers, prompting.max_new_tokens)
    sets = [_sets(knockout, *each) for each in zip(samples, pictures, encoded.geometry, maps, strict=True)]
    first = [decode_answer(loaded, ids) for ids in answers]
    values = np.full((len(samples), 1 + len(CONDITIONS), len(FIELDS)), NOTHING)
    texts: list[list[str | None]] = [[None] * len(CONDITIONS) for _ in samples]

    def keep(b: int, row: int, answer: str, value: float, n_cut: float, mass: float) -> None:
        right, changed = verdict(answer, samples[b]), answer != first[b]
        values[b, row] = [n_cut, mass, value, len(answers[b]), changed, NOTHING if right is None else right]
        if changed:
            texts[b][row - 1] = answer

    for b in range(len(samples)):
        keep(b, 0, first[b], batch.base.log_probability[b], 0, 0)
    for c, (rows, tokens) in enumerate(CUTS):
        chosen = [of_sample.get(tokens) for of_sample in sets]
        defined, reading, new = under_cut(batch, rows, chosen, knockout.layers)
        for b in np.flatnonzero(defined).tolist():
            mask = chosen[b]
            assert mask is not None
            text = decode_answer(loaded, new[b])
            keep(b, 1 + c, text, reading.log_probability[b], mask.sum(), shares(maps[b])[mask].sum())
    for b, (value, ids) in _redrawn(batch, prompting, samples, pictures).items():
        keep(b, len(CONDITIONS), decode_answer(loaded, ids), value, NOTHING, NOTHING)
    return [Cuts(v.astype(np.float32), t) for v, t in zip(values, texts, strict=True)]


def _sets(
    knockout: Knockout,
    sample: Sample,
    pictures: Sequence[Image.Image],
    geometry: TokenGeometry,
    attention: np.ndarray,
) -> dict[str, np.ndarray]:
    boxes = sample.unit_boxes([(p.height, p.width) for p in pictures])
    images = np.asarray(sample.box_images) if len(boxes) else None
    return token_sets(geometry, boxes, images, attention, knockout.k, knockout.seed, sample.id)


def key_mask(encoded: Encoded, chosen: Sequence[np.ndarray | None]) -> Tensor:
    """bool [B, S]: the chosen image tokens (bool [N_b] each, None: none) at their positions."""
    keys = torch.zeros_like(encoded.image)
    for b, mask in enumerate(chosen):
        if mask is not None:
            places = encoded.image[b].nonzero().flatten()
            keys[b, places[torch.as_tensor(mask, device=places.device)]] = True
    return keys


def under_cut(
    batch: Batch, rows: str, chosen: Sequence[np.ndarray | None], layers: str, *, shortcut: bool = True
) -> tuple[np.ndarray, Reading, list[list[int]]]:
    """(defined [B], the own answers as read under the cut, the answers given under it) of one condition.

    Undefined are samples without the set or without such rows; what is given for them is the uncut answer. shortcut:
    do not generate where the cut leaves each token of the answer, and its end, the most probable one.
    """
    loaded, encoded = batch.loaded, batch.encoded
    start, own = encoded.image.shape[1], rows_of(rows, encoded, encoded.image.shape[1]).any(1).tolist()
    defined = np.array([mask is not None and some for mask, some in zip(chosen, own, strict=True)], dtype=bool)
    if not defined.any():
        return defined, batch.base, batch.answers
    keys = key_mask(encoded, [mask if here else None for mask, here in zip(chosen, defined, strict=True)])

    def gate(read_in: Encoded) -> Gate:
        wide = functional.pad(keys, (0, read_in.image.shape[1] - start), value=False)
        return Gate(
            loaded.model, rows_of(rows, read_in, start), wide, 0.0, layers, behind=written_under(rows), beginnings=True
        )

    whole, _ = encoded.with_answers(batch.answers, pad_id(loaded))
    with gate(whole):
        reading = read(loaded, encoded, batch.answers, batch.max_new_tokens)
    doubtful = defined & ~(batch.settled & reading.greedy) if shortcut else defined
    given = batch.answers
    if doubtful.any():
        with gate(encoded), remembering(loaded, start + batch.max_new_tokens):
            given = generate(loaded, encoded, batch.max_new_tokens)
    return defined, reading, [new if d else old for new, old, d in zip(given, batch.answers, doubtful, strict=True)]


def _redrawn(
    batch: Batch, prompting: Prompting, samples: Sequence[Sample], pictures: Sequence[Sequence[Image.Image]]
) -> dict[int, tuple[float, list[int]]]:
    """Index of a sample → (log-probability of the own answer, the answer) on the scene without what is in its boxes."""
    redrawn: dict[int, Image.Image] = {}
    for b, (sample, own_pictures) in enumerate(zip(samples, pictures, strict=True)):
        scene = without_boxed(sample.id, np.asarray(own_pictures[0])) if len(own_pictures) == 1 else None
        if scene is not None:
            redrawn[b] = Image.fromarray(scene)
    if not redrawn:
        return {}
    which = list(redrawn)
    drawn = [[shrink(picture, prompting.most_pixels)] for picture in redrawn.values()]
    texts = [prompt_text(samples[b].question, samples[b].options, prompting.instruction) for b in which]
    encoded, own = encode(batch.loaded, drawn, texts, prompting.system), [batch.answers[b] for b in which]
    reading = read(batch.loaded, encoded, own, batch.max_new_tokens)
    given = own
    doubtful = ~(batch.settled[which] & reading.greedy)
    if doubtful.any():
        given = generate(batch.loaded, encoded, batch.max_new_tokens)
    answers = [new if d else old for new, old, d in zip(given, own, doubtful, strict=True)]
    return dict(zip(which, zip(reading.log_probability.tolist(), answers, strict=True), strict=True))
