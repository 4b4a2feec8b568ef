"""`gapcheck analyze`: samples through one model into a run directory, resumable, one model in memory at a time."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import perception_gap
from perception_gap import forward, per_layer
from perception_gap.capture import choose_layers, find_decoder
from perception_gap.categories import tagger_name
from perception_gap.datasets import Dataset, check_boxes, open_image, shrink
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.files import write_json
from perception_gap.knockout import Knockout
from perception_gap.knockout.measure import measure as knocked_out
from perception_gap.loading import LoadedModel
from perception_gap.sample import Sample, prompt_text
from perception_gap.scoring import score
from perception_gap.store import KEYS, SCHEMA_VERSION, Parts, Run, answered, geometry_fields
from perception_gap.summary import finish


@dataclass(frozen=True)
class Settings:
    """What decides a row, beside the model, the sample and the teacher's text.

    text: which text the shared capture reads: "own" (none: the model's own answer only), "teacher" or "reference".
    most_pixels: a larger picture is shrunk to so many pixels before the model's own processor sees it (`shrink`).
    latents: what becomes of the latent tokens of a model that has them: "force", "none", "mask", "template" or
        "blind" (see `lavit.latents`).
    per_layer: whether every layer and head is measured apart (see `per_layer`).
    knockout: what is asked of it, None for none (see `knockout`).
    """

    rows: str = "answer"
    layers: str = "all"
    text: str = "own"
    max_new_tokens: int = 32
    most_pixels: int | None = None
    instruction: str = ""
    system: str | None = None
    latents: str = "force"
    per_layer: bool = False
    knockout: Knockout | None = None
    load: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One model over one dataset into one folder; `teacher` is the finished run to compare with, if any."""

    model: str
    dataset: Dataset
    out: Path
    settings: Settings
    teacher: Run | None = None
    batch_size: int = 8
    seed: int = 0
    raster: tuple[int, int] = (16, 16)
    fresh: bool = False
    command: str = ""


def image_hash(sample: Sample) -> str:
    """sha256 over the bytes of the sample's images; a file that cannot be read counts by its absence."""
    digest = hashlib.sha256()
    for path in sample.images:
        try:
            digest.update(path.read_bytes() if path.is_file() else b"missing")
        except (OSError, ValueError):
            digest.update(b"missing")
    return digest.hexdigest()


def row_key(job: Job, facts: dict, sample: Sample, images: str, shared: str | None) -> str:
    """Hash of everything that decides a row; two runs share a row only if all of it is equal. facts: `model_facts`."""
    content = asdict(sample) | {"images": [*stored_paths(job.out, sample), images]}
    # "auto" is another dtype on another machine.
    machine = [facts["dtype"], facts["device"].split(":")[0], versions()]
    decided = [SCHEMA_VERSION, content, facts["revision"], machine, asdict(job.settings), shared]
    if job.settings.per_layer:  # its divergences are measured with the row, unlike those of whole maps
        against = per_layer.reference(job.teacher, job.settings.text, sample, images)
        decided += [job.raster, against and hashlib.sha256(against.map.tobytes()).hexdigest()]
    return hashlib.sha256(json.dumps(decided, sort_keys=True, default=str).encode()).hexdigest()[:32]


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "gapcheck": perception_gap.__version__, "tagger": tagger_name()}
    for name in ("torch", "torchvision", "transformers", "accelerate"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def run(job: Job, loaded: LoadedModel, *, progress: bool = True) -> Run:
    """Answer, score and capture every sample that the folder does not hold yet, then merge and summarise."""
    forward.check_rows(job.settings.rows, loaded.latents is not None and loaded.latents.count > 0)
    for asked in (job.settings, job.settings.knockout):  # said before the folder is touched
        choose_layers(asked.layers if asked else "all", find_decoder(loaded.model))
    if loaded.family.assumed and progress:
        tqdm.write(f"{loaded.name}: {loaded.family.assumed}")
    parts = Parts(job.out, fresh=job.fresh)
    hashes = [image_hash(s) for s in job.dataset.samples]
    shared = [shared_text(job, s, h) for s, h in zip(job.dataset.samples, hashes, strict=True)]
    if job.teacher is not None and not any(
        same_sample(job.teacher, s, h) for s, h in zip(job.dataset.samples, hashes, strict=True)
    ):
        raise UsageError(
            f"teacher run {job.teacher.path}: none of these {len(shared)} samples is in it (same id, question, image); "
            "analyze the teacher on the same --data, or name its model instead"
        )
    info = describe(job, loaded)
    keys = [row_key(job, info["model"], s, h, t) for s, h, t in zip(job.dataset.samples, hashes, shared, strict=True)]
    done = set(parts.done())
    (job.out / "summary.json").unlink(missing_ok=True)  # an unfinished run must not show an older summary
    shutil.rmtree(job.out / "figures", ignore_errors=True)
    write_json(job.out / "run.json", info)
    write_json(parts.folder / KEYS, keys)
    work = list(zip(job.dataset.samples, hashes, shared, keys, strict=True))
    stored = sum(key in done for key in keys)
    if stored and progress:
        tqdm.write(f"{loaded.name}: {stored} of {len(keys)} samples are there already")
    with tqdm(total=len(keys) - stored, unit="sample", desc=loaded.name, disable=not progress) as bar:
        for start in range(0, len(work), job.batch_size):
            batch = work[start : start + job.batch_size]
            todo = [item for item in batch if item[3] not in done]
            if todo:
                parts.write(*measure(loaded, job, todo))
            bar.update(len(todo))
    return finish(job.out, keys, parts, info, job.teacher, seed=job.seed, raster=job.raster)


def shared_text(job: Job, sample: Sample, images: str) -> str | None:
    """The text that teacher and student are both read on; None where there is none (the teacher failed, say)."""
    if job.settings.text == "reference":
        return sample.answer
    if job.settings.text == "own" or job.teacher is None or not same_sample(job.teacher, sample, images):
        return None
    return job.teacher.row(sample.id)["answer"]


def same_sample(teacher: Run, sample: Sample, images: str) -> bool:
    """Whether the teacher's run holds this question, with these options, about this picture, and answered it."""
    return sample.id in teacher and answered(teacher.row(sample.id), sample.question, images, sample.options)


def model_facts(loaded: LoadedModel) -> dict:
    """Which model it was: name, revision, classes, precision, device, size."""
    return {
        "name": loaded.name,
        "revision": loaded.revision,
        "family": type(loaded.family).__name__,
        "class": type(loaded.model).__name__,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "device": str(loaded.device),
        "parameters": loaded.model.num_parameters(),
        "assumed": loaded.family.assumed,
    }


def describe(job: Job, loaded: LoadedModel) -> dict:
    """run.json: everything that made the run."""
    teacher = job.teacher and {
        "name": job.teacher.info["model"]["name"],
        "revision": job.teacher.info["model"]["revision"],
        "path": os.path.relpath(job.teacher.path, job.out),
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "command": job.command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model_facts(loaded),
        "layers": choose_layers(job.settings.layers, find_decoder(loaded.model)),
        "teacher": teacher,
        "settings": asdict(job.settings) | {"batch_size": job.batch_size, "seed": job.seed},
        "data": {"spec": job.dataset.spec, "hash": job.dataset.hash, "n": len(job.dataset.samples)},
        "versions": versions(),
    }


Work = tuple[Sample, str, str | None, str]


def measure(loaded: LoadedModel, job: Job, work: Sequence[Work]) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Rows and arrays of one batch; a sample that cannot be measured is a row with the reason."""
    rows: dict[str, dict] = {}
    arrays: dict[str, np.ndarray] = {}
    ready = []
    for item in work:
        sample, images, _, key = item
        rows[key] = base_row(job, sample, images, key)
        try:
            pictures = [open_image(path) for path in sample.images]
            sizes = [(p.height, p.width) for p in pictures]
            rows[key] |= {"heights": [h for h, _ in sizes], "widths": [w for _, w in sizes]}
            check_boxes(sample, sizes)
            verdict(sample.answer, sample)  # a reference that names no option is said here
            ready.append((item, [shrink(picture, job.settings.most_pixels) for picture in pictures]))
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
            found = per_layer.measured(rows[item[3]], found, against, job.raster)
            arrays |= {f"{item[3]}/{kind}": a for kind, a in found.items()}
    return list(rows.values()), arrays


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
    encoded = forward.encode(loaded, [pictures for _, pictures in ready], prompts, settings.system)
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
        cuts = knocked_out(loaded, settings, samples, encoded, answers, maps, verdict)
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


def stored_paths(out: Path, sample: Sample) -> list[str]:
    """Image paths as a row keeps them: relative to the run folder when they lie beside or in it, else absolute."""
    out = Path(os.path.abspath(out))  # not resolve(), which raises on a loop of links
    paths = [Path(os.path.abspath(path)) for path in sample.images]
    return [os.path.relpath(p, out) if p.is_relative_to(out.parent) else str(p) for p in paths]


def base_row(job: Job, sample: Sample, images: str, key: str) -> dict:
    """What is known of a sample before any model sees it."""
    return {
        "key": key, "sample_id": sample.id, "task": sample.task, "pair": sample.pair,
        "cluster": sample.pair or images[:16], "images": stored_paths(job.out, sample), "image_hash": images,
        "heights": [], "widths": [],
        "question": sample.question, "reference": sample.answer, "options": list(sample.options),
        "boxes": [float(v) for box in sample.boxes for v in box], "box_images": list(sample.box_images),
        "token_boxes": [], "token_images": [],
        "own_words": [], "own_categories": [], "shared_words": [], "shared_categories": [],
    }  # fmt: skip
