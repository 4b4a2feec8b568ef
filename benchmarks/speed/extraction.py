"""One measurement in one fresh process: a teacher over one batch of questions, with and without what a trace needs.

`python -m benchmarks.speed.extraction '{"variant": "trace", ...}'` prints one JSON object. `training.py` starts it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.speed import apart, models

QUESTION, ANSWER = 40, 8  # tokens


@dataclass(frozen=True, kw_only=True)
class Measurement(apart.Measurement):
    batch: int = 1


def run_variant(what: Measurement) -> dict[str, Any]:
    """Settings, `seconds` and `cpu_seconds` (one a batch, after a warm-up), `peak_bytes`, `positions`.

    "trace" is what `gapcheck trace` does to a batch up to its filters: pixels, vision tower, greedy answers of at most
    8 tokens, then the forward that gives map and V_sem. "answer" stops before that forward.
    """
    import torch

    from benchmarks.speed.gauges import peak_memory, timed
    from lavit.traces.look import teacher_looks
    from perception_gap.gaze.answer import encode, generate
    from perception_gap.sample import Sample

    if what.threads:
        torch.set_num_threads(what.threads)
    loaded = models.loaded(what.preset, what.layers, what.device, what.dtype, tower=True)
    image = models.picture(what.tokens)
    text = models.question(loaded.processor.tokenizer, QUESTION)
    samples = [Sample(str(b), (Path("random"),), text, "") for b in range(what.batch)]
    pictures = [[image]] * what.batch
    positions = int(encode(loaded, pictures, [text] * what.batch, None).image.numel()) + ANSWER * what.batch

    def answer() -> None:
        with torch.inference_mode():
            encoded = encode(loaded, pictures, [text] * what.batch, None)
            generate(loaded, encoded, ANSWER)

    def trace() -> None:
        teacher_looks(loaded, samples, pictures, max_new_tokens=ANSWER)

    with peak_memory(what.device) as peak:
        taken = timed({"answer": answer, "trace": trace}[what.variant], what.repeats, what.device)
        return {**asdict(what), **taken, "peak_bytes": peak(), "positions": positions}


def bytes_a_trace(image_tokens: int, width: int, samples: int = 200) -> dict[str, float]:
    """Mean bytes of one kept trace on disk, by lavit's own writer: random V_sem and maps, texts that do not compress.

    `parquet`: the row beside the image file; `v_sem`: the pooled vector's share; `full`: what --keep-full adds.
    """
    import numpy as np

    from lavit.traces.look import TeacherLook
    from lavit.traces.measure import UNTRACED, full_arrays, look_fields, signal
    from lavit.traces.merge import table_of, write_parquet
    from lavit.traces.settings import TraceSettings
    from perception_gap.geometry import TokenGeometry
    from perception_gap.runs.samples import Work, sample_row
    from perception_gap.sample import Sample

    rng = np.random.default_rng(0)
    rows_of = max(side for side in range(1, int(image_tokens**0.5) + 1) if image_tokens % side == 0)
    geometry = TokenGeometry.grid(rows_of, image_tokens // rows_of)
    rows: list[dict[str, Any]] = []
    vectors = []
    with TemporaryDirectory() as folder:
        out = Path(folder)
        for i in range(samples):
            corner = rng.random(2) * 300
            box = (*corner.tolist(), *(corner + 1 + rng.random(2) * 100).tolist())
            image = (out / "images" / f"{i}.jpg",)
            sample = Sample(f"sample-{i}", image, rng.bytes(60).hex(), rng.bytes(8).hex(), (box,), (0,), task="random")
            seen = TeacherLook(
                answer=rng.bytes(8).hex(),
                geometry=geometry,
                mass=float(rng.random()),
                attention=rng.random(image_tokens).astype(np.float32),
                v_sem=rng.normal(size=width).astype(np.float32),
            )
            key = rng.bytes(16).hex()
            fields, arrays = signal(key, seen, TraceSettings())
            verdicts = dict.fromkeys(("correct", "aligned", "kept"), True) | {"blind_correct": False, "pooling": "mean"}
            verdicts |= {"blind_answers": [rng.bytes(8).hex()], "focus": float(rng.random()), "dropped_by": None}
            work = Work(sample, rng.bytes(32).hex(), key)
            row = UNTRACED | sample_row(out, work) | {"heights": [480], "widths": [640]}
            rows.append(row | look_fields(seen) | verdicts | {"status": "ok"} | fields)
            vectors.append(arrays[f"{key}/v_sem"])
        write_parquet(out / "traces.parquet", table_of(rows, vectors))
        stored = (out / "traces.parquet").stat().st_size
        bare = [None] * samples
        write_parquet(out / "bare.parquet", table_of(rows, bare))
        without = (out / "bare.parquet").stat().st_size
    states = np.zeros((image_tokens, width), np.float32)
    full = full_arrays("", TeacherLook("", geometry, np.zeros(image_tokens, np.float32), 0.0, None, states))
    return {
        "parquet": stored / samples,
        "v_sem": (stored - without) / samples,
        "full": float(sum(array.nbytes for array in full.values())),
    }


if __name__ == "__main__":
    print(json.dumps(run_variant(Measurement(**json.loads(sys.argv[1])))))
