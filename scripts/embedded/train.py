"""Train the embedded models from scratch: `python -m scripts.embedded.train STAGE --work runs/tiny`.

Stages: `tower` (vision tower on dense labels), then `teacher`, `unguided`, `student` (language models on the
frozen tower's features; real models start from a trained tower too). Seeded; a killed stage resumes from its
last checkpoint and ends as if it had not been killed.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perception_gap.attention.capture import AttentionCapture
from perception_gap.sample import prompt_text
from scripts.embedded import build
from scripts.embedded.loop import loop
from scripts.embedded.render import GRID, render
from scripts.embedded.tower import N_TOKENS, patches, see, train_tower


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
    """Rendered scenes on disk (see `render`), with their texts tokenised once."""

    def __init__(self, folder: Path, text_tokenizer: Any) -> None:
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


@torch.no_grad()
def features(work: Path, name: str, data: Data, visual: Any, image_processor: Any) -> np.ndarray:
    """Image tokens of every rendered scene, half precision, [n, 64, hidden], computed once."""
    tower = hashlib.sha256((work / "tower.pt").read_bytes()).hexdigest()[:8]
    path = work / f"features-{name}-{tower}.npy"
    if not path.exists():
        batches = (data.images[i : i + 250] for i in range(0, len(data.tasks), 250))
        out = np.concatenate([see(visual, patches(batch, image_processor)).half().numpy() for batch in batches])
        np.save(path.with_suffix(".tmp.npy"), out)
        os.replace(path.with_suffix(".tmp.npy"), path)
    return np.load(path, mmap_mode="r")


def train_language(work: Path, name: str, data: Data, heldout: Data, text_tokenizer: Any, image_processor: Any) -> None:
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
        return {"text": F.cross_entropy(logits, target), "guide": -recipe.guide * focus.clamp_min(1e-6).log().mean()}

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        right = np.zeros(len(heldout.tasks), bool)
        for i in range(0, len(right), 100):
            index = np.arange(i, min(i + 100, len(right)))
            logits, target, answer = forward(heldout, seen_heldout, index)
            hit = torch.ones_like(answer[:, 1:])
            hit[answer[:, 1:]] = logits.argmax(-1) == target
            right[index] = hit.all(1).numpy()
        return {t: round(float(right[heldout.tasks == t].mean()), 3) for t in dict.fromkeys(heldout.tasks.tolist())}

    parts = nn.ModuleDict({"language": language})
    loop(work / name, parts, recipe.steps, recipe.lr, loss_of, evaluate, made_by=asdict(recipe))
    export(work, name, full, text_tokenizer, recipe)


def export(work: Path, name: str, full: Any, text_tokenizer, recipe: Recipe) -> None:
    """A plain checkpoint folder in half precision, with its processor and the recipe that made it."""
    folder = work / "weights" / name
    full.half().save_pretrained(folder)
    build.processor(text_tokenizer).save_pretrained(folder)
    rows = [json.loads(line) for line in (work / name / "log.jsonl").read_text().splitlines()]
    tower = [json.loads(line) for line in (work / "tower" / "log.jsonl").read_text().splitlines()]
    facts = {
        "name": name,
        "recipe": asdict(recipe),
        "hours": round(rows[-1]["seconds"] / 3600, 2),
        "tower_hours": round(tower[-1]["seconds"] / 3600, 2),
        "tower_steps": tower[-1]["step"],
        "scenes": len(np.load(work / "train" / "labels.npy", mmap_mode="r")),
        "parameters": sum(p.numel() for p in full.parameters()),
    }
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
