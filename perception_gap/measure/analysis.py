"""`gapcheck analyze`: samples through one model into a run directory, resumable, one model in memory at a time."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from perception_gap.attention.capture import choose_layers, find_decoder
from perception_gap.data import Contents, check_boxes, open_pictures, shrink
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.gaze import forward
from perception_gap.knockout.measure import measure as knocked_out
from perception_gap.measure import per_layer
from perception_gap.measure.finish import finish
from perception_gap.measure.job import (
    Job,
    check_teacher,
    describe,
    image_hash,
    model_facts,
    row_key,
    shared_text,
    stored_paths,
)
from perception_gap.measure.teacher import DEFAULT_RASTER
from perception_gap.models.loading import LoadedModel
from perception_gap.runs.store import KEYS, Parts, Run, claim_run, geometry_fields
from perception_gap.sample import Sample, prompt_text
from perception_gap.storage.files import write_json
from perception_gap.storage.locks import locked
from perception_gap.text.scoring import score


def run(job: Job, loaded: LoadedModel, *, progress: bool = True) -> Run:
    """Answer, score and capture every sample that the folder does not hold yet, then merge and summarise.

    GapcheckError where another command writes into the folder.
    """
    forward.check_rows(job.settings.rows, loaded.latents is not None and loaded.latents.count > 0)
    for asked in (job.settings, job.settings.knockout):  # said before the folder is touched
        choose_layers(asked.layers if asked else "all", find_decoder(loaded.model))
    if loaded.family.assumed and progress:
        tqdm.write(f"{loaded.name}: {loaded.family.assumed}")
    claim_run(job.out)
    with locked(job.out):
        return _run(job, loaded, progress)


def _run(job: Job, loaded: LoadedModel, progress: bool) -> Run:
    parts = Parts(job.out, fresh=job.fresh)
    hashes = [image_hash(s) for s in job.dataset.samples]
    shared = [shared_text(job, s, h) for s, h in zip(job.dataset.samples, hashes, strict=True)]
    if job.teacher is not None:
        check_teacher(job.teacher, job.dataset, hashes)
    info = describe(job, loaded)
    keys = [row_key(job, info["model"], s, h, t) for s, h, t in zip(job.dataset.samples, hashes, shared, strict=True)]
    if line := parts.mend():
        tqdm.write(line, file=sys.stderr)
    done = set(parts.done())
    (job.out / "summary.json").unlink(missing_ok=True)  # an unfinished run must not show an older summary
    write_json(job.out / "run.json", info)
    write_json(parts.folder / KEYS, {"keys": keys})
    work = list(zip(job.dataset.samples, hashes, shared, keys, strict=True))
    stored = sum(key in done for key in keys)
    if stored and progress:
        tqdm.write(f"{loaded.name}: {stored} of {len(keys)} samples are there already")
    with tqdm(total=len(keys) - stored, unit="sample", desc=loaded.name, disable=not progress) as bar:
        for start in range(0, len(work), job.batch_size):
            batch = work[start : start + job.batch_size]
            todo = [item for item in batch if item[3] not in done]
            if todo:
                rows, arrays = measure(loaded, job, todo)
                parts.write(rows, arrays)
                if changed := {
                    item[3]: row["key"] for item, row in zip(todo, rows, strict=True) if item[3] != row["key"]
                }:
                    keys = [changed.get(key, key) for key in keys]
                    write_json(parts.folder / KEYS, {"keys": keys})
            bar.update(len(todo))
    return finish(job.out, keys, parts, info, job.teacher, seed=job.seed, raster=job.raster)


Work = tuple[Sample, str, str | None, str]


def measure(loaded: LoadedModel, job: Job, work: Sequence[Work]) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Rows and arrays of one batch; a sample that cannot be measured is a row with the reason.

    A picture that is another one by now is measured as it is now, under the key of that.
    """
    rows: dict[str, dict] = {}
    arrays: dict[str, np.ndarray] = {}
    ready = []
    for listed in work:
        contents = Contents.of(listed[0].images)
        item = listed if contents.hash == listed[1] else keyed_anew(loaded, job, listed, contents.hash)
        sample, images, _, key = item
        rows[key] = base_row(job, sample, images, key)
        try:
            pictures = open_pictures(sample, contents)
            sizes = [(p.height, p.width) for p in pictures]
            sample = sample.in_pixels(sizes)
            rows[key] |= {"heights": [h for h, _ in sizes], "widths": [w for _, w in sizes]} | sample.box_fields()
            check_boxes(sample, sizes)
            verdict(sample.answer, sample)  # a reference that names no option is said here
            ready.append(((sample, *item[1:]), pictures))
        except GapcheckError as error:
            rows[key] |= {"status": "failed", "error": str(error)}
        except MemoryError as error:
            rows[key] |= {"status": "failed", "error": failure(error)}
    for group, outcome in in_memory(partial(forwards, loaded, job), ready):
        if isinstance(outcome, str):
            rows[group[0][0][3]] |= {"status": "failed", "error": outcome}
            continue
        for (item, _), (fields, found) in zip(group, outcome, strict=True):
            rows[item[3]] |= fields
            against = per_layer.reference(job.teacher, job.settings.text, *item[:2])
            found = per_layer.measured(rows[item[3]], found, against, job.raster or DEFAULT_RASTER)
            arrays |= {f"{item[3]}/{kind}": a for kind, a in found.items()}
    return list(rows.values()), arrays


def keyed_anew(loaded: LoadedModel, job: Job, item: Work, images: str) -> Work:
    """The same sample whose pictures have the hash `images` by now."""
    sample = item[0]
    shared = shared_text(job, sample, images)
    return sample, images, shared, row_key(job, model_facts(loaded), sample, images, shared)


def in_memory(work: Callable[[list], Any], ready: list) -> Iterator[tuple[list, Any]]:
    """(samples, `work` of them or the reason of failure): the whole batch, or one by one if that fails."""
    if not ready:
        return
    try:
        yield ready, work(ready)
        return
    except (GapcheckError, MemoryError, RuntimeError) as error:
        reason = failure(error)
    if len(ready) == 1:
        yield ready, reason
        return
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    for single in ready:
        yield from in_memory(work, [single])


def failure(error: Exception) -> str:
    """The reason of a failed sample; re-raises what is neither the sample's fault nor a lack of memory."""
    if isinstance(error, UsageError):
        raise error
    if isinstance(error, GapcheckError):
        return str(error)
    text = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        return "out of memory: lower --max-pixels, or use a device with more memory"
    raise error


def forwards(loaded: LoadedModel, job: Job, ready: list) -> list[tuple[dict, dict[str, np.ndarray]]]:
    """Generate, then capture the own text and the shared one: (row fields, arrays) of each sample."""
    began = time.perf_counter()
    settings = job.settings
    samples = [item[0] for item, _ in ready]
    prompts = [prompt_text(s.question, s.options, settings.instruction) for s in samples]
    pictures = [opened for _, opened in ready]
    shown = [[shrink(picture, settings.most_pixels) for picture in opened] for opened in pictures]
    encoded = forward.encode(loaded, shown, prompts, settings.system)
    answers = forward.generate(loaded, encoded, settings.max_new_tokens)
    asked = settings.rows == "question"
    own = forward.gaze(
        loaded, encoded, None if asked else answers, settings.layers, settings.rows,
        sinks=True, per_head=settings.per_layer,
    )  # fmt: skip
    texts = [item[2] for item, _ in ready]
    shared: list[forward.Gaze | None] = [None] * len(ready)
    if asked:
        shared = [own[b] if t is not None else None for b, t in enumerate(texts)]
    elif any(t is not None for t in texts):
        ids = [forward.encode_text(loaded, t or "") for t in texts]
        read = forward.gaze(loaded, encoded, ids, settings.layers, settings.rows, per_head=settings.per_layer)
        shared = [read[b] if t is not None else None for b, t in enumerate(texts)]
    decode = loaded.processor.tokenizer.decode
    seconds = (time.perf_counter() - began) / len(ready)
    results = []
    for b, sample in enumerate(samples):
        answer = decode(answers[b], skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
        results.append(result(sample, answer, encoded.geometry[b], own[b], shared[b], seconds))
    if settings.knockout is not None:
        maps = [gaze.map for gaze in own]
        cuts = knocked_out(
            loaded, settings.knockout, settings.prompting, samples, pictures, encoded, answers, maps, verdict
        )
        for (fields, arrays), cut in zip(results, cuts, strict=True):
            fields["knockout_answers"], arrays["knockout"] = cut.answers, cut.values
    return results


def verdict(answer: str, sample: Sample) -> bool | None:
    """Whether an answer is right; None for a question of one's own, which has no reference (an empty one)."""
    return score(answer, sample.answer, sample.options) if sample.answer else None


def result(sample, answer, geometry, own, shared, seconds) -> tuple[dict, dict[str, np.ndarray]]:
    compared = shared or own
    fields = {
        "status": "ok", "answer": answer, "correct": verdict(answer, sample),
        "shared_text": shared.text if shared else None, "n_image_tokens": len(geometry),
        "own_words": [w.text for w in own.words], "own_categories": [w.category for w in own.words],
        "shared_words": [w.text for w in compared.words], "shared_categories": [w.category for w in compared.words],
        "text_image_mass": own.mass, "seconds": seconds,
    } | geometry_fields(geometry)  # fmt: skip
    arrays = {"own": own.map, "own_words": own.word_maps, "hidden": compared.hidden}
    if shared:
        arrays |= {"shared": shared.map, "shared_words": shared.word_maps}
    if len(own.latent_maps):
        arrays["latents"] = own.latent_maps  # they precede the text, so they are the same for both
    if own.sinks is not None:
        arrays["sinks"] = own.sinks.astype(np.uint8)
    if own.heads is not None:
        arrays |= {"own_heads": own.heads} | ({"shared_heads": shared.heads} if shared else {})
    return fields, arrays


def base_row(job: Job, sample: Sample, images: str, key: str) -> dict:
    """What is known of a sample before any model sees it."""
    return {
        "key": key, "sample_id": sample.id, "task": sample.task, "pair": sample.pair,
        "cluster": sample.pair or images[:16], "images": stored_paths(job.out, sample), "image_hash": images,
        "heights": [], "widths": [],
        "question": sample.question, "reference": sample.answer, "options": list(sample.options),
        **sample.box_fields(),
        "token_boxes": [], "token_images": [],
        "own_words": [], "own_categories": [], "shared_words": [], "shared_categories": [],
    }  # fmt: skip
