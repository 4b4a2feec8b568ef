"""One measurement in one fresh process: a forward with one way of reading attention, its time and its peak memory.

`python -m benchmarks.speed.variants '{"variant": "rows", ...}'` prints one JSON object. `capture.py` starts it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

from benchmarks.speed import apart
from benchmarks.speed.gauges import bytes_available, peak_memory, timed
from benchmarks.speed.models import TEXT
from perception_gap.attention.capture import AttentionCapture

VARIANTS = ("plain", "rows", "eager", "hooks")


@dataclass(frozen=True, kw_only=True)
class Measurement(apart.Measurement):
    rows: int = 64
    repeats: int = 5


def build(preset: str, layers: int, attention: str, device: str, dtype: str) -> Any:
    """Text decoder with random weights and without a language head, whose logits would hide what is measured."""
    shape = dict(TEXT[preset])
    if layers:
        shape["num_hidden_layers"] = layers
    torch.manual_seed(0)
    config = Qwen2_5_VLTextConfig(vocab_size=32, max_position_embeddings=32768, pad_token_id=0, **shape)
    config._attn_implementation = attention
    with torch.device(device):
        return Qwen2_5_VLTextModel(config).to(getattr(torch, dtype)).eval()


def masks(tokens: int, rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Image tokens first, text tokens last: (queries, keys), bool [1, tokens + rows]."""
    queries = torch.zeros(1, tokens + rows, dtype=torch.bool, device=device)
    queries[:, tokens:] = True
    return queries, ~queries


def embeddings(model: Any, length: int) -> Tensor:
    parameter = next(model.parameters())
    generator = torch.Generator(parameter.device).manual_seed(1)
    width = model.config.hidden_size
    return torch.randn(1, length, width, generator=generator, device=parameter.device, dtype=parameter.dtype)


def bytes_needed(model: Any, variant: str, length: int) -> int:
    """A low estimate of what the attention matrices of the variant take beside the model."""
    size = next(model.parameters()).element_size()
    matrix = model.config.num_attention_heads * length**2
    kept = {"eager": model.config.num_hidden_layers, "hooks": 0}.get(variant)
    # In a layer at once: the scores, their float32 softmax and its copy in the model's precision.
    return 0 if kept is None else matrix * (size * (kept + 2) + 4)


def runner(model: Any, variant: str, tokens: int, rows: int) -> Callable[[], Any]:
    """A function that runs one forward and returns the wanted rows [rows, tokens] (None for "plain")."""
    given = embeddings(model, tokens + rows)
    inputs: dict[str, Any] = {"inputs_embeds": given, "use_cache": False}
    queries, keys = masks(tokens, rows, given.device)

    def plain() -> None:
        model(**inputs)

    def ours() -> Tensor:
        with AttentionCapture(model, queries, keys) as capture:
            model(**inputs)
        return capture.attention[0]

    def eager() -> Tensor:
        layers = model(**inputs, output_attentions=True).attentions
        return torch.stack([layer[0, :, tokens:, :tokens].float().mean(0) for layer in layers]).mean(0)

    def hooks() -> Tensor:
        wanted: list[Tensor] = []

        def reduce(module: Any, arguments: Any, output: Any) -> Any:
            wanted.append(output[1][0].mean(0)[tokens:, :tokens].float())
            return output[0], None

        handles = [layer.self_attn.register_forward_hook(reduce) for layer in model.layers]
        try:
            model(**inputs)
        finally:
            for handle in handles:
                handle.remove()
        return torch.stack(wanted).mean(0)

    return {"plain": plain, "rows": ours, "eager": eager, "hooks": hooks}[variant]


def run_variant(what: Measurement) -> dict[str, Any]:
    """Settings, `seconds` and `cpu_seconds` (one a repeat, after a warm-up), `peak_bytes`; or `skipped`: reason."""
    if what.threads:
        torch.set_num_threads(what.threads)
    attention = "sdpa" if what.variant in ("plain", "rows") else "eager"
    model = build(what.preset, what.layers, attention, what.device, what.dtype)
    needed = bytes_needed(model, what.variant, what.tokens + what.rows)
    available = bytes_available(what.device)
    if needed > 0.9 * available:
        return {**asdict(what), "skipped": f"needs over {needed / 1e9:.0f} GB, {available / 1e9:.0f} GB are free"}
    run = runner(model, what.variant, what.tokens, what.rows)
    with torch.inference_mode(), peak_memory(what.device) as peak:
        return {**asdict(what), **timed(run, what.repeats, what.device), "peak_bytes": peak()}


if __name__ == "__main__":
    print(json.dumps(run_variant(Measurement(**json.loads(sys.argv[1])))))
