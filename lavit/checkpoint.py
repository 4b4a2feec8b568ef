"""Checkpoints: a plain `save_pretrained` folder, and beside it what only LaViT needs.

    config.json  model.safetensors  tokenizer and processor files   (plain transformers opens these)
    lavit.json  lavit_heads.safetensors

The layout that the authors released (class LaViTQwen2VL, heads among the weights, `<lvr1>`..) opens the same way.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from lavit.heads import ProjectionHead
from lavit.latents import LatentSpec, LatentTokens
from lavit.student import LavitStudent
from perception_gap import loading
from perception_gap.analysis import Settings
from perception_gap.errors import UsageError
from perception_gap.loading import LoadedModel
from perception_gap.store import write_json

SCHEMA_VERSION = 1
RELEASED_CLASS = "LaViTQwen2VL"
RELEASED_TOKENS = "<lvr{}>"
# Names of the released projection head → ours.
_RELEASED_HEAD = {f"v_top_head.mlp.{i}.{kind}": f"layers.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}


def save(
    folder: Path, student: LavitStudent, processor: Any, facts: dict, state_dict: dict[str, Tensor] | None = None
) -> None:
    """Write a checkpoint; `facts` (JSON) goes into lavit.json. state_dict: of the student, where it is sharded."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = student.state_dict() if state_dict is None else state_dict
    base = {name.removeprefix("base."): value for name, value in weights.items() if name.startswith("base.")}
    head = {name.removeprefix("head."): value for name, value in weights.items() if name.startswith("head.")}
    student.base.save_pretrained(folder, state_dict=base)
    processor.save_pretrained(folder)
    if head:
        save_file({name: value.contiguous() for name, value in head.items()}, folder / "lavit_heads.safetensors")
    written = {"schema_version": SCHEMA_VERSION, "latents": student.spec.as_dict(), "head": bool(head)} | facts
    write_json(folder / "lavit.json", written)  # last: a folder without it is not whole


def facts_of(name: str, revision: str | None = None) -> dict | None:
    """lavit.json of a model (folder, hub id or tiny:NAME); None for a model that has none, and is not the release's."""
    path = loading.find_file(name, "lavit.json", revision)
    if path is None:
        return _released_facts(name, revision)
    try:
        facts = json.loads(path.read_text())
    except ValueError:
        raise UsageError(f"{path}: is not valid JSON; save the checkpoint again") from None
    if not isinstance(facts, dict) or facts.get("schema_version") != SCHEMA_VERSION or "latents" not in facts:
        version = facts.get("schema_version") if isinstance(facts, dict) else None
        raise UsageError(f"{path}: written in schema {version}, this gapcheck reads {SCHEMA_VERSION}; train it again")
    return facts


def _released_facts(name: str, revision: str | None) -> dict | None:
    """What lavit.json would say of a checkpoint in the authors' layout: the tokens stand in its tokenizer alone."""
    config = loading.find_file(name, "config.json", revision)
    if config is None or RELEASED_CLASS not in (json.loads(config.read_text()).get("architectures") or ()):
        return None
    from transformers import AutoTokenizer

    known = AutoTokenizer.from_pretrained(config.parent).get_vocab()
    count = next(k for k in range(len(known) + 1) if RELEASED_TOKENS.format(k + 1) not in known)
    spec = LatentSpec.numbered(count, RELEASED_TOKENS)
    return {"schema_version": SCHEMA_VERSION, "latents": spec.as_dict(), "head": True, "layout": "released"}


def spec_of(facts: dict) -> LatentSpec:
    return LatentSpec(**(facts["latents"] | {"tokens": tuple(facts["latents"]["tokens"])}))


def load(name: str, latents: str = "force", **options: Any) -> LoadedModel:
    """`perception_gap.load`, with the latent tokens of a LaViT checkpoint in force (see LatentTokens for `latents`).

    A plain model loads as ever; UsageError for `latents` other than "force" where there are none.
    """
    facts = facts_of(name, options.get("revision"))
    loaded = loading.load(name, **options)
    if facts is None:
        if latents != "force":
            raise UsageError(f"latents {latents!r}: {name} has no latent tokens; leave --latents out")
        return loaded
    loaded.latents = LatentTokens(spec_of(facts), loaded.processor.tokenizer, latents)
    return loaded


def opener(name: str, settings: Settings) -> LoadedModel:
    """Opens models for `perception_gap.pipeline.analyze`; a plain one (a teacher, say) has no latents to treat."""
    plain = facts_of(name, settings.load.get("revision")) is None
    return loading.load(name, **settings.load) if plain else load(name, settings.latents, **settings.load)


def load_head(name: str, revision: str | None = None) -> ProjectionHead | None:
    """The projection head of a LaViT checkpoint in either layout; None where it was trained without."""
    path = loading.find_file(name, "lavit_heads.safetensors", revision)
    if path is not None:
        weights = _tensors(path, {})
    else:
        path = loading.find_file(name, "config.json", revision)
        if path is None or (facts_of(name, revision) or {}).get("layout") != "released":
            return None
        weights = {}
        for part in sorted(path.parent.glob("*.safetensors")):
            weights |= _tensors(part, _RELEASED_HEAD)
    if not weights:
        return None
    width, hidden = weights["layers.2.weight"].shape
    head = ProjectionHead(hidden, width)
    head.load_state_dict({key: value.float() for key, value in weights.items()})
    return head


def _tensors(path: Path, names: dict[str, str]) -> dict[str, Tensor]:
    """The tensors of a file, or with `names` those of them that it has, renamed."""
    with safe_open(path, framework="pt") as file:
        present = set(file.keys())
        wanted = {name: new for name, new in names.items() if name in present} or (
            {} if names else {n: n for n in present}
        )
        return {new: file.get_tensor(name) for name, new in wanted.items()}
