"""One batch of an analysis: from samples to rows and arrays."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from perception_gap.data.images import shrink
from perception_gap.gaze.answer import decode_answer, encode, encode_text, generate
from perception_gap.gaze.look import Gaze, look
from perception_gap.geometry import TokenGeometry
from perception_gap.knockout.batch import read_under_cuts
from perception_gap.measure import per_layer
from perception_gap.measure.settings import Analysis
from perception_gap.measure.teacher import DEFAULT_RASTER
from perception_gap.models.loading import LoadedModel
from perception_gap.runs.engine import Arrays, in_memory
from perception_gap.runs.key import model_facts
from perception_gap.runs.rows import geometry_fields
from perception_gap.runs.samples import Opened, Work, failed, open_samples
from perception_gap.sample import Sample, prompt_text
from perception_gap.text.scoring import score


def measure_batch(loaded: LoadedModel, job: Analysis, items: Sequence[Work]) -> tuple[list[dict[str, Any]], Arrays]:
    """A row for each item, in order, and the arrays; a sample that cannot be measured is a row with the reason."""
    rekeyed = partial(job.work_of, model_facts(loaded))
    # A reference that names no option is refused here.
    rows, ready = open_samples(job.out, items, rekeyed, lambda sample: verdict(sample.answer, sample))
    for row in rows.values():
        row |= _unseen(row)
    arrays: Arrays = {}
    for group, outcome in in_memory(partial(_read, loaded, job), ready):
        for i, item in enumerate(group):
            row = rows[item.key]
            if isinstance(outcome, str):
                row |= failed(outcome)
                continue
            fields, read = outcome[i]
            row |= fields
            against = per_layer.reference(job.teacher, job.settings.text, item.sample, item.work.images)
            kept = per_layer.with_head_measures(row, read, against, job.raster or DEFAULT_RASTER)
            arrays |= {f"{item.key}/{kind}": array for kind, array in kept.items()}
    return list(rows.values()), arrays


def _unseen(row: dict[str, Any]) -> dict[str, Any]:
    """What an analysis keeps of a sample before the model sees it, beside `sample_row`."""
    lists = ("token_boxes", "token_images", "own_words", "own_categories", "shared_words", "shared_categories")
    return {"cluster": row["pair"] or row["image_hash"][:16], **{name: [] for name in lists}}


def _read(loaded: LoadedModel, job: Analysis, ready: list[Opened]) -> list[tuple[dict[str, Any], Arrays]]:
    """Generate, then capture the own text and the shared one: (row fields, arrays) of each sample."""
    began = time.perf_counter()
    settings = job.settings
    samples = [item.sample for item in ready]
    pictures = [item.pictures for item in ready]
    prompts = [prompt_text(s.question, s.options, settings.instruction) for s in samples]
    shrunk = [[shrink(picture, settings.most_pixels) for picture in opened] for opened in pictures]
    encoded = encode(loaded, shrunk, prompts, settings.system)
    answers = generate(loaded, encoded, settings.max_new_tokens)
    of_question = settings.rows == "question"
    seen = partial(look, loaded, encoded, layers=settings.layers, rows=settings.rows, per_head=settings.per_layer)
    own = seen(None if of_question else answers, sinks=True)
    texts = [item.work.text for item in ready]
    read = own
    if not of_question and any(text is not None for text in texts):
        read = seen([encode_text(loaded, text or "") for text in texts])
    shared = [None if text is None else gaze for text, gaze in zip(texts, read, strict=True)]
    seconds = (time.perf_counter() - began) / len(ready)
    results = []
    for b, sample in enumerate(samples):
        answer = decode_answer(loaded, answers[b])
        results.append(_result(sample, answer, encoded.geometry[b], own[b], shared[b], seconds))
    if settings.knockout is not None:
        maps = [gaze.map for gaze in own]
        cuts = read_under_cuts(
            loaded, settings.knockout, settings.prompting, samples, pictures, encoded, answers, maps, verdict
        )
        for (fields, arrays), cut in zip(results, cuts, strict=True):
            fields["knockout_answers"], arrays["knockout"] = cut.answers, cut.values
    return results


def verdict(answer: str, sample: Sample) -> bool | None:
    """Whether an answer is right; None for a question of one's own, which has no reference (an empty one)."""
    return score(answer, sample.answer, sample.options) if sample.answer else None


def _result(
    sample: Sample, answer: str, geometry: TokenGeometry, own: Gaze, shared: Gaze | None, seconds: float
) -> tuple[dict[str, Any], Arrays]:
    compared = shared or own
    fields = {
        "status": "ok",
        "answer": answer,
        "correct": verdict(answer, sample),
        "shared_text": shared.text if shared else None,
        "n_image_tokens": len(geometry),
        "own_words": [w.text for w in own.words],
        "own_categories": [w.category for w in own.words],
        "shared_words": [w.text for w in compared.words],
        "shared_categories": [w.category for w in compared.words],
        "text_image_mass": own.mass,
        "seconds": seconds,
    } | geometry_fields(geometry)
    arrays = {"own": own.map, "own_words": own.word_maps, "hidden": compared.hidden}
    if shared:
        arrays |= {"shared": shared.map, "shared_words": shared.word_maps}
    if len(own.latent_maps):
        arrays["latents"] = own.latent_maps  # they precede the text, so they are the same for both
    if own.sinks is not None:
        arrays["sinks"] = own.sinks.astype(np.uint8)
    if own.heads is not None:
        arrays["own_heads"] = own.heads
        if shared and shared.heads is not None:
            arrays["shared_heads"] = shared.heads
    return fields, arrays
