"""Train the embedded models from scratch: `python -m perception_gap.tiny.train STAGE --work runs/tiny`.

Stages: `tower` (vision tower on dense labels), then `teacher`, `unguided`, `student` (language models on the
frozen tower's features; real models start from a trained tower too). Seeded; a killed stage resumes from its
last checkpoint and ends as if it had not been killed.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from perception_gap.capture import AttentionCapture
from perception_gap.sample import prompt_text
from perception_gap.tiny import build
from perception_gap.tiny.cache import ABSENT, GRID, HEADS, render

N_TOKENS = GRID * GRID


@dataclass(frozen=True)
class Recipe:
    """One language model: `guide` weighs −log of the map's mass inside the boxes (0 = the model never sees boxes)."""

    layers: int
    steps: int
    guide: float = 0.0
    batch: int = 64
    lr: float = 1.5e-3
    seed: int = 0


RECIPES = {
    "teacher": Recipe(layers=4, steps=2500, guide=0.3),
    "unguided": Recipe(layers=4, steps=2500),
    "student": Recipe(layers=2, steps=1000, seed=1),
}


class Data:
    """Rendered scenes on disk (see `cache`), with their texts tokenised once."""

    def __init__(self, folder: Path, text_tokenizer) -> None:
        self.images = np.load(folder / "images.npy", mmap_mode="r")
        self.labels = np.load(folder / "labels.npy")
        self.inside = np.load(folder / "inside.npy")
        records = [json.loads(line) for line in (folder / "texts.jsonl").read_text().splitlines()]
        self.tasks = np.array([r["task"] for r in records])
        head, tail = build_prompt_parts()
        self.prefix = text_tokenizer(head + "<|image_pad|>" * N_TOKENS).input_ids
        prompts = [prompt_text(r["question"], r.get("options", ())) for r in records]
        self.prompts = text_tokenizer([f"<|vision_end|>{p}{tail}" for p in prompts]).input_ids
        self.answers = text_tokenizer([r["answer"] + "<|im_end|>" for r in records]).input_ids
        lettered = np.array([bool(r.get("options")) for r in records])
        self.groups = [np.flatnonzero(~lettered), np.flatnonzero(lettered)]

    def batch(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Indices of one batch, of samples with or without listed options (they differ in length)."""
        group = self.groups[int(rng.random() < len(self.groups[1]) / len(self.tasks))]
        return rng.choice(group, size, replace=False)

    def texts(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """(ids, answer mask) [B, S], padded right; the mask marks the answer's own tokens."""
        rows = [self.prefix + self.prompts[i] + self.answers[i] for i in index]
        length = max(map(len, rows))
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        answer = torch.zeros(len(rows), length, dtype=torch.bool)
        for b, (row, i) in enumerate(zip(rows, index, strict=True)):
            ids[b, : len(row)] = torch.tensor(row)
            answer[b, len(row) - len(self.answers[i]) : len(row)] = True
        return ids, answer


def build_prompt_parts() -> tuple[str, str]:
    """The chat template's text before the image tokens and after the question."""
    return "<|im_start|>user\n<|vision_start|>", "<|im_end|>\n<|im_start|>assistant\n"


def patches(images: np.ndarray, image_processor) -> Tensor:
    """uint8 [B, 128, 128, 3] → pixel_values [B · 64, 1536] exactly as the processor lays them out."""
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (image_processor.image_mean, image_processor.image_std))
    p = build.PATCH
    cells = ((pixels - mean) / std).view(len(images), 3, GRID, p, GRID, p).permute(0, 2, 4, 1, 3, 5)
    return cells[:, :, :, :, None].expand(-1, -1, -1, -1, 2, -1, -1).reshape(len(images) * N_TOKENS, -1)


def see(visual: Any, pixel_values: Tensor) -> Tensor:
    """Image tokens [B, 64, hidden]: the tower's forward for equal square images, as one batch that compiles.

    The model's own forward splits attention image by image in Python, which costs half the time of a small tower;
    `train_tower` checks that both give the same numbers.
    """
    batch = len(pixel_values) // N_TOKENS
    where = torch.arange(N_TOKENS).repeat(batch)
    cos, sin = visual.rotary_pos_emb(pixel_values, torch.stack([where // GRID, where % GRID], dim=1))
    hidden = visual.patch_embed(pixel_values)
    for block in visual.blocks:
        qkv = block.attn.qkv(block.norm1(hidden)).view(len(hidden), 3, block.attn.num_heads, -1)
        q, k, v = qkv.unbind(1)
        q, k = apply_rotary_pos_emb_vision(q, k, cos, sin)
        q, k, v = (t.view(batch, N_TOKENS, block.attn.num_heads, -1).transpose(1, 2) for t in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(len(hidden), -1)
        hidden = hidden + block.attn.proj(mixed)
        hidden = hidden + block.mlp(block.norm2(hidden))
    return visual.merger(hidden).view(batch, N_TOKENS, -1)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 100 steps, then half a cosine to 2 % of the peak."""
    if step < 100:
        return peak * (step + 1) / 100
    return peak * (0.02 + 0.98 * (1 + math.cos(math.pi * (step - 100) / max(1, steps - 100))) / 2)


def optimizer_for(parameters, lr: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)


def loop(folder: Path, module: nn.Module, steps: int, lr: float, loss_of, check, every: int = 250) -> None:
    """`steps` updates of `module` by `loss_of(step)`; logs, evaluates by `check()` and resumes from `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = optimizer_for(module.parameters(), lr)
    state_file, first, spent = folder / "checkpoint.pt", 0, 0.0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        first, spent = state["step"], state["seconds"]
    began = time.time() - spent
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, lr)
        losses = loss_of(step)
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 50 == 0 or step + 1 == steps:
            row = {"step": step + 1, "seconds": round(time.time() - began, 1)}
            row |= {k: round(float(v.detach()), 4) for k, v in losses.items()}
            if (step + 1) % every == 0 or step + 1 == steps:
                row |= check()
                torch.save(
                    {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1,
                     "seconds": time.time() - began}, state_file.with_suffix(".tmp"),
                )  # fmt: skip
                os.replace(state_file.with_suffix(".tmp"), state_file)
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            print(row, flush=True)


def dense_heads(width: int) -> nn.ModuleDict:
    sizes = HEADS | {"row": GRID, "column": GRID}
    return nn.ModuleDict({name: nn.Linear(width, n) for name, n in sizes.items()})


def dense_targets(labels: np.ndarray) -> dict[str, Tensor]:
    """name → int64 [B · 64] targets of every dense head."""
    flat = torch.from_numpy(labels.astype(np.int64)).view(-1, len(HEADS))
    where = torch.arange(N_TOKENS).repeat(len(labels))
    return {name: flat[:, i] for i, name in enumerate(HEADS)} | {"row": where // GRID, "column": where % GRID}


def train_tower(work: Path, data: Data, heldout: Data, steps: int, image_processor, configuration) -> None:
    torch.manual_seed(0)
    visual: Any = build.model(configuration).model.visual
    module: Any = nn.ModuleDict({"visual": visual, "heads": dense_heads(visual.config.out_hidden_size)})
    look = torch.compile(see)
    with torch.no_grad():
        pixels = patches(data.images[:4], image_processor)
        real = visual(pixels, grid_thw=torch.tensor([[1, GRID, GRID]] * 4)).pooler_output
        torch.testing.assert_close(see(visual, pixels).flatten(0, 1), real, atol=1e-5, rtol=1e-4)
    # Most tokens are empty wall; weigh the things so that they are not learned last.
    weights = {n: torch.tensor([0.1] + [1.0] * (HEADS[n] - 1)) for n in ("shape", "color", "size", "look")}

    def loss_of(step: int) -> dict[str, Tensor]:
        index = np.sort(np.random.default_rng([7, step]).choice(len(data.tasks), 64, replace=False))
        seen = look(visual, patches(data.images[index], image_processor)).flatten(0, 1)
        return {
            name: F.cross_entropy(module["heads"][name](seen), target, weight=weights.get(name), ignore_index=ABSENT)
            for name, target in dense_targets(data.labels[index]).items()
        }

    @torch.no_grad()
    def check() -> dict[str, float]:
        seen = torch.cat(
            [see(visual, patches(heldout.images[i : i + 100], image_processor)) for i in range(0, 600, 100)]
        )
        accuracy = {}
        for name, target in dense_targets(heldout.labels[:600]).items():
            guess = module["heads"][name](seen.flatten(0, 1)).argmax(-1)
            counts = (target > 0) if name in weights else (target != ABSENT)
            accuracy[f"acc_{name}"] = round(float((guess == target)[counts].float().mean()), 3)
        return accuracy

    loop(work / "tower", module, steps, 1.5e-3, loss_of, check)
    torch.save(visual.state_dict(), work / "tower.pt")


@torch.no_grad()
def features(work: Path, name: str, data: Data, visual: Any, image_processor) -> np.ndarray:
    """Image tokens of every rendered scene, half precision, [n, 64, hidden], computed once."""
    path = work / f"features-{name}.npy"
    if not path.exists():
        out = np.concatenate([
            see(visual, patches(data.images[i : i + 250], image_processor)).half().numpy()
            for i in range(0, len(data.tasks), 250)
        ])  # fmt: skip
        np.save(path.with_suffix(".tmp.npy"), out)
        os.replace(path.with_suffix(".tmp.npy"), path)
    return np.load(path, mmap_mode="r")


def train_language(work: Path, name: str, data: Data, heldout: Data, text_tokenizer, image_processor) -> None:
    recipe = RECIPES[name]
    torch.manual_seed(recipe.seed)
    full: Any = build.model(build.config(text_tokenizer, layers=recipe.layers))
    full.model.visual.load_state_dict(torch.load(work / "tower.pt", weights_only=True))
    visual = full.model.visual.requires_grad_(False).eval()
    seen, seen_heldout = (
        features(work, n, d, visual, image_processor) for n, d in (("train", data), ("heldout", heldout))
    )
    language, embed = full.model.language_model, full.get_input_embeddings()
    start = len(data.prefix) - N_TOKENS
    longest = torch.zeros(1, 256, dtype=torch.long)
    longest[0, start : start + N_TOKENS] = 1
    positions, _ = full.model.get_rope_index(
        longest, mm_token_type_ids=longest.int(), image_grid_thw=torch.tensor([[1, GRID, GRID]])
    )

    def forward(source: Data, tokens: np.ndarray, index: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        ids, answer = source.texts(index)
        embedded = embed(ids)
        images = torch.from_numpy(tokens[index]).float()
        embedded = torch.cat([embedded[:, :start], images, embedded[:, start + N_TOKENS :]], dim=1)
        place = positions[:, :, : ids.shape[1]].expand(-1, len(ids), -1)
        # Padding lies right of everything that is read, so the causal pattern alone hides it.
        hidden = language(inputs_embeds=embedded, position_ids=place, use_cache=False).last_hidden_state
        predicts = answer[:, 1:]
        return full.lm_head(hidden[:, :-1][predicts]), ids[:, 1:][predicts], answer

    def loss_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([11, recipe.seed, step])
        index = np.sort(data.batch(rng, recipe.batch))
        if not recipe.guide:
            logits, target, _ = forward(data, seen, index)
            return {"text": F.cross_entropy(logits, target)}
        _, answer = data.texts(index)
        queries = F.pad(answer[:, 1:], (0, 1))
        keys = torch.zeros_like(queries)
        keys[:, start : start + N_TOKENS] = True
        with AttentionCapture(full, queries, keys) as capture:
            logits, target, _ = forward(data, seen, index)
        maps = torch.stack([rows.mean(0) for rows in capture.attention])
        inside = torch.from_numpy(data.inside[index]).float()
        focus = (maps * inside).sum(1) / maps.sum(1)
        return {
            "text": F.cross_entropy(logits, target),
            "guide": -recipe.guide * focus.clamp_min(1e-6).log().mean(),
        }

    @torch.no_grad()
    def check() -> dict[str, float]:
        right = np.zeros(len(heldout.tasks), bool)
        for i in range(0, len(right), 100):
            index = np.arange(i, min(i + 100, len(right)))
            logits, target, answer = forward(heldout, seen_heldout, index)
            hit = torch.ones_like(answer[:, 1:])
            hit[answer[:, 1:]] = logits.argmax(-1) == target
            right[index] = hit.all(1).numpy()
        return {t: round(float(right[heldout.tasks == t].mean()), 3) for t in dict.fromkeys(heldout.tasks.tolist())}

    parts = nn.ModuleDict({"language": language})
    loop(work / name, parts, recipe.steps, recipe.lr, loss_of, check)
    export(work, name, full, text_tokenizer, recipe)


def export(work: Path, name: str, full: Any, text_tokenizer, recipe: Recipe) -> None:
    """A plain checkpoint folder in half precision, with its processor and the recipe that made it."""
    folder = work / "weights" / name
    full.half().save_pretrained(folder)
    build.processor(text_tokenizer).save_pretrained(folder)
    rows = [json.loads(line) for line in (work / name / "log.jsonl").read_text().splitlines()]
    tower = [json.loads(line) for line in (work / "tower" / "log.jsonl").read_text().splitlines()]
    facts = {"name": name, "recipe": asdict(recipe), "hours": round(rows[-1]["seconds"] / 3600, 2),
             "tower_hours": round(tower[-1]["seconds"] / 3600, 2), "tower_steps": tower[-1]["step"],
             "scenes": len(np.load(work / "train" / "labels.npy", mmap_mode="r")),
             "parameters": sum(p.numel() for p in full.parameters())}  # fmt: skip
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n")


@click.command(help=__doc__)
@click.argument("stage", type=click.Choice(["tower", *RECIPES]))
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/tiny"), show_default=True)
@click.option("--scenes", "per_task", default=10_000, show_default=True, help="training scenes of each task")
@click.option("--tower-steps", default=2500, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(stage: str, work: Path, per_task: int, tower_steps: int, threads: int) -> None:
    torch.set_num_threads(threads)
    render(work / "train", per_task)
    render(work / "heldout", 100, split="heldout")
    records = [json.loads(line) for line in (work / "train" / "texts.jsonl").read_text().splitlines()]
    texts = [prompt_text(r["question"], r.get("options", ())) + "\n" + r["answer"] for r in records]
    text_tokenizer = build.tokenizer(texts)
    image_processor = build.processor(text_tokenizer).image_processor
    data, heldout = (Data(work / split, text_tokenizer) for split in ("train", "heldout"))
    if stage == "tower":
        train_tower(work, data, heldout, tower_steps, image_processor, build.config(text_tokenizer, layers=1))
    else:
        train_language(work, stage, data, heldout, text_tokenizer, image_processor)


if __name__ == "__main__":
    main()
