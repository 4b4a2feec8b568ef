"""What a step needs: data and how to fetch them, memory, hours. ESTIMATES by the formulas below, nothing measured.

    memory to ask      2 bytes a parameter (bfloat16) + the KV cache of a batch, and a fifth for activations
    memory to train    4 bytes a parameter (float32), 4 + 8 more of each trained one (gradient, AdamW's two moments),
                       the inputs of the layers (activations are recomputed, --set checkpointing=true), and a fifth
    hours              2 FLOP a parameter and token forward, 8 in training (forward twice, backward), at 40 % of the
                       card's peak; and a decoding step of a batch for each word, which reads every weight once

The card assumed is one H100 (NVIDIA's data sheet): 80 GB, 989 TFLOP/s in bfloat16, 3.35 TB/s.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perception_gap.cli.reproduction.plan import PIXELS, Step

GB = 1e9
CARD_BYTES, CARD_FLOPS, CARD_BANDWIDTH = 80e9, 0.4 * 989e12, 0.5 * 3.35e12
LAUNCHES = 0.03  # seconds: what launching the kernels of one decoding step takes at least, assumed
ALLOWANCE = 1.2
PATCH = 28 * 28  # pixels of one image token of Qwen2.5-VL: patches of 14, merged 2 x 2
TEXT_TOKENS, WORDS = 150, 16  # of a question with its template, and of an answer, assumed
VISCOT = 363_000  # samples of viscot_363k.json, by its name


@dataclass(frozen=True)
class Size:
    """parameters, of which vision; layers, width of the residual stream and of keys (or values) in one layer."""

    parameters: int
    vision: int
    layers: int
    width: int
    keys: int


# Counted on Qwen2_5_VLForConditionalGeneration built from the published configurations.
SIZES = {
    "Qwen2.5-VL-3B-Instruct": Size(3_754_622_976, 668_684_288, 36, 2048, 256),
    "Qwen2.5-VL-7B-Instruct": Size(8_292_166_656, 676_550_144, 28, 3584, 512),
    "Qwen2.5-VL-32B-Instruct": Size(33_452_718_336, 688_841_984, 64, 5120, 1024),
}
VISCOT_FETCH = (
    "hf download deepcs233/Visual-CoT --repo-type dataset --local-dir DATA/Visual-CoT; the image archive there "
    "(cot_images_tar_split, about 130 GB by others' accounts) is joined with cat and unpacked to IMAGE_ROOT/cot"
)
RELEASED = (
    "or, without a teacher: gapcheck trace LABEL --data lavit15k:FILE.json --out TRACES converts the traces that the "
    "authors released; then --traces TRACES"
)


def needs(step: Step) -> list[str]:
    """Lines about one step of real models."""
    data = _data(step)
    unknown = [model for model in step.loads if Path(model).name not in SIZES]
    if unknown:
        how = "`gapcheck analyze MODEL --dry-run` measures one batch" if step.command != "train" else "see its card"
        return [*data, f"memory, hours: unknown for {', '.join(unknown)}; {how}"]
    sizes = {model: SIZES[Path(model).name] for model in step.loads}
    lines = _training(step, sizes) if step.command == "train" else _asking(step, sizes)
    measured = [f"measure instead: {step.line} --dry-run"] if step.command in ("analyze", "trace") else []
    return [*data, *lines, *measured]


def _data(step: Step) -> list[str]:
    if step.command == "train":
        return [f"data: {step.options['traces']}, and the pictures that it names"]
    if step.command == "bench":
        return [f"data: {step.options['suite']} (fetched from the hub without --data-root; by hand: see below)"]
    what = step.options["data"].partition(":")[2]
    lines = [f"data: {what} and its pictures below {step.options.get('image-root')}: {VISCOT_FETCH}"]
    return [*lines, RELEASED] if step.command == "trace" else lines


def image_tokens(largest: int | None) -> int:
    """Of a picture of the most pixels that the options let pass."""
    return (largest or PIXELS["max-pixels"]) // PATCH


def _asking(step: Step, sizes: dict[str, Size]) -> list[str]:
    pictures = image_tokens(step.options.get("max-pixels"))
    tokens = pictures + TEXT_TOKENS + WORDS
    batch = step.options.get("batch-size") or 8
    largest = max(sizes, key=lambda model: sizes[model].parameters)
    size = sizes[largest]
    weights = 2 * size.parameters
    cache = batch * tokens * size.layers * 2 * size.keys * 2
    memory = ALLOWANCE * (weights + cache)
    more = "" if memory < CARD_BYTES else "; more than one card of 80 GB: --device-map auto, or --quantization 8bit"
    n = _questions(step)
    hours = sum(ask_hours(each, n, tokens, batch, passes=_passes(step)) for each in sizes.values())
    return [
        f"memory: about {memory / GB:.0f} GB for {largest} ({weights / GB:.0f} GB of weights in bfloat16, "
        f"{cache / GB:.1f} GB of keys and values for a batch of {batch}, and a fifth){more} (estimated)",
        f"hours: {_about(hours)} for {n:,} questions a model of at most {pictures:,} image tokens, on one "
        "H100 (estimated)",
    ]


def _about(hours: float) -> str:
    return f"about {hours:.1f}" if hours >= 0.1 else "under 0.1"


def _passes(step: Step) -> int:
    """Forwards over the whole prompt: to answer; to read the maps; to read them on the teacher's text, or blind."""
    if step.command == "bench":
        return 1 + bool(step.options.get("gaze"))
    return 3 if step.command == "trace" or step.options.get("teacher") else 2


def _questions(step: Step) -> int:
    """Questions a model."""
    limit: int | None = step.options.get("limit")
    return questions_of(step.options["suite"], limit) if step.command == "bench" else limit or VISCOT


def ask_hours(size: Size, n: int, tokens: int, batch: int, *, passes: int) -> float:
    """Of n questions of so many tokens, WORDS decoding steps a batch."""
    reading = passes * 2 * size.parameters * tokens / CARD_FLOPS
    writing = WORDS * max(LAUNCHES, 2 * size.parameters / CARD_BANDWIDTH) / batch
    return n * (reading + writing) / 3600


def _training(step: Step, sizes: dict[str, Size]) -> list[str]:
    from lavit.settings import parse_changes, settings_of

    (size,) = sizes.values()
    training = settings_of(step.options["preset"], changes=parse_changes(step.options["set"]))
    tokens = image_tokens(training.max_pixels) + TEXT_TOKENS + WORDS
    batch, steps = training.batch_size, training.steps
    trained = size.parameters - size.vision
    states = 4 * size.parameters + 12 * trained
    inputs = size.layers * batch * tokens * size.width * 4
    memory = ALLOWANCE * (states + inputs)
    hours = steps * batch * tokens * 8 * size.parameters / CARD_FLOPS / 3600
    return [
        f"memory: about {memory / GB:.0f} GB on one card ({4 * size.parameters / GB:.0f} GB of weights in float32, "
        f"{12 * trained / GB:.0f} GB of gradients and AdamW's moments, {inputs / GB:.0f} GB of layer inputs for "
        f"{batch} samples, and a fifth); torchrun divides the inputs, --fsdp all of it (docs/training.md) (estimated)",
        f"hours: {_about(hours)} for {steps:,} steps of {batch} on one H100 (estimated)",
    ]


def fetches(suite: str) -> list[str]:
    """The commands that fetch a suite's data sets, by lmms-eval's own definitions; each data set once."""
    from benchmarks.suites.sources import fetch

    configs = definitions(suite).values()
    return list(dict.fromkeys(fetch(config, f"DATA/{config['dataset_path']}") for config in configs))


def definitions(suite: str) -> dict[str, dict[str, Any]]:
    """Task -> lmms-eval's definition, without what its log says about other tasks."""
    from loguru import logger

    from benchmarks.suites.catalog import choose, definition

    logger.disable("lmms_eval")
    try:
        return {task: definition(task) for task in choose(suite.split(","))}
    finally:
        logger.enable("lmms_eval")


def questions_of(suite: str, limit: int | None) -> int:
    """How many questions of a suite's tasks are asked, by the sizes in the published tables."""
    from benchmarks.published import load

    counts = {column.task: column.n for table in load("lavit").tables for column in table.columns if column.n}
    sizes = [next(iter(counts[task].values())) for task in definitions(suite) if task in counts]
    return sum(min(size, limit or size) for size in sizes)
