"""Checkpoints: a plain `save_pretrained` folder, and beside it what only LaViT needs.

    config.json  model.safetensors  tokenizer and processor files   (plain transformers opens these)
    lavit.json  lavit_heads.safetensors  manifest.json

The layout that the authors released (class LaViTQwen2VL, heads among the weights, `<lvr1>`..) opens the same way.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeGuard

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lavit import manifest
from lavit.heads import ProjectionHead
from lavit.latents import LatentSpec, LatentTokens
from lavit.student import LavitStudent
from perception_gap.errors import UsageError, one_line
from perception_gap.measure.settings import Settings
from perception_gap.models import loading
from perception_gap.models.files import locate
from perception_gap.models.loading import LoadedModel
from perception_gap.storage.files import write_json

SCHEMA_VERSION = 1
ADAPTED = "lavit_trainable.safetensors"
RELEASED_CLASS = "LaViTQwen2VL"
RELEASED_TOKENS = "<lvr{}>"
# Names of the released projection head → ours.
_RELEASED_HEAD = {f"v_top_head.mlp.{i}.{kind}": f"layers.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}


def save(
    folder: Path,
    student: LavitStudent,
    processor: Any,
    facts: dict[str, Any],
    state_dict: dict[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint; `facts` (JSON) goes into lavit.json. state_dict: of the student, where it is sharded."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = student.state_dict() if state_dict is None else state_dict
    if student.adapted:  # a step of a LoRA training, to go on from; the finished one is merged and plain
        moving = {name for name, parameter in student.named_parameters() if parameter.requires_grad}
        save_file({n: v.contiguous() for n, v in weights.items() if n in moving}, folder / ADAPTED)
        return
    base = {name.removeprefix("base."): value for name, value in weights.items() if name.startswith("base.")}
    head = {name.removeprefix("head."): value for name, value in weights.items() if name.startswith("head.")}
    student.base.save_pretrained(folder, state_dict=base)
    processor.save_pretrained(folder)
    if head:
        save_file({name: value.contiguous() for name, value in head.items()}, folder / "lavit_heads.safetensors")
    written = {"schema_version": SCHEMA_VERSION, "latents": student.spec.as_dict(), "head": bool(head)} | facts
    write_json(folder / "lavit.json", written)  # last: a folder without it is not whole


def facts_of(name: str, revision: str | None = None) -> dict[str, Any] | None:
    """lavit.json of a model (folder, hub id or tiny:NAME); None for a model that has none, and is not the release's."""
    path = loading.find_file(name, "lavit.json", revision)
    if path is None:
        return _released_facts(name, revision)
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: is not valid JSON; save the checkpoint again") from None
    if not isinstance(facts, dict) or facts.get("schema_version") != SCHEMA_VERSION or "latents" not in facts:
        version = facts.get("schema_version") if isinstance(facts, dict) else None
        raise UsageError(f"{path}: written in schema {version}, this gapcheck reads {SCHEMA_VERSION}; train it again")
    try:
        spec_of(facts)
    except (TypeError, KeyError, UsageError) as error:
        raise UsageError(f"{path}: its latents are damaged ({error}); save the checkpoint again") from None
    return facts


def _released_facts(name: str, revision: str | None) -> dict[str, Any] | None:
    """What lavit.json would say of a checkpoint in the authors' layout: the tokens stand in its tokenizer alone."""
    config = loading.find_file(name, "config.json", revision)
    try:
        written = {} if config is None else json.loads(config.read_text())
    except ValueError:
        return None  # whoever loads the model says it
    if not isinstance(written, dict) or RELEASED_CLASS not in (written.get("architectures") or ()):
        return None
    from transformers import AutoTokenizer

    # The authors' Trainer saves the tokenizer with every checkpoint and the rest of the processor with the last alone.
    if not any(loading.find_file(name, f"{kind}_config.json", revision) for kind in ("preprocessor", "processor")):
        raise UsageError(
            f"model {name!r} has no preprocessor_config.json: copy it from the base model (Qwen2.5-VL); keep the "
            "tokenizer, which has the latent tokens"
        )
    place = locate(name, revision)
    try:
        known = AutoTokenizer.from_pretrained(place.source, **place.options).get_vocab()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"model {name!r}: its tokenizer does not load: {one_line(error)}") from error
    count = next(k for k in range(len(known) + 1) if RELEASED_TOKENS.format(k + 1) not in known)
    if not count:
        raise UsageError(
            f"model {name!r} is a {RELEASED_CLASS}, but its tokenizer has no {RELEASED_TOKENS.format(1)}: take the "
            "tokenizer files of its training, not the base model's"
        )
    spec = LatentSpec.numbered(count, RELEASED_TOKENS)
    return {"schema_version": SCHEMA_VERSION, "latents": spec.as_dict(), "head": True, "layout": "released"}


def spec_of(facts: dict[str, Any]) -> LatentSpec:
    return LatentSpec(**(facts["latents"] | {"tokens": tuple(facts["latents"]["tokens"])}))


def has_latents(facts: dict[str, Any] | None) -> TypeGuard[dict[str, Any]]:
    """False for a plain model, and for one that was trained without latent tokens."""
    return bool(facts and facts["latents"]["tokens"])


def load(name: str, latents: str = "force", **options: Any) -> LoadedModel:
    """`perception_gap.load`, with the latent tokens of a LaViT checkpoint in force (see LatentTokens for `latents`).

    A plain model loads as ever; UsageError for `latents` other than "force" where there are none.
    """
    facts = facts_of(name, options.get("revision"))
    check_whole(name)
    if latents != "force" and not has_latents(facts):
        raise UsageError(f"latents {latents!r}: {name} has no latent tokens; leave --latents out")
    loaded = loading.load(name, **options)
    if facts is not None:
        loaded.latents = LatentTokens(spec_of(facts), loaded.processor.tokenizer, latents)
    return loaded


def check_whole(name: str) -> None:
    """UsageError where a folder of a training (it has a manifest) is not as it was written."""
    folder = Path(name)
    reason = manifest.fault(folder) if (folder / manifest.MANIFEST).is_file() else None
    if reason is not None:
        raise UsageError(
            f"model {name!r}: damaged ({reason}); put back what was written or train it again, or delete its "
            f"{manifest.MANIFEST} if the change is yours"
        )


def opener(name: str, settings: Settings) -> LoadedModel:
    """Opens models for `measure.analyze.analyze`; a plain one (a teacher, say) has no latents to treat."""
    there = has_latents(facts_of(name, settings.load.get("revision")))
    return load(name, settings.latents if there else "force", **settings.load)


def load_head(name: str, revision: str | None = None) -> ProjectionHead | None:
    """The projection head of a LaViT checkpoint in either layout; None where it was trained without.

    UsageError where it should be there and is not, or is damaged.
    """
    facts = facts_of(name, revision)
    if facts is None or not facts.get("head"):
        return None
    released = facts.get("layout") == "released"
    weights: dict[str, Tensor] = {}
    try:
        for file in _released_files(name, revision) if released else ["lavit_heads.safetensors"]:
            path = loading.find_file(name, file, revision)
            if path is None:
                raise FileNotFoundError(f"{file} is missing")
            weights |= _tensors(path, _RELEASED_HEAD if released else {n: n for n in _RELEASED_HEAD.values()})
        width, hidden = weights["layers.2.weight"].shape
        head = ProjectionHead(hidden, width)
        head.load_state_dict({key: value.float() for key, value in weights.items()})
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UsageError(
            f"model {name!r}: its projection head does not load: {one_line(error)}; fetch or train it again"
        ) from error
    return head


def _released_files(name: str, revision: str | None) -> list[str]:
    """The weight files that hold the head in the authors' layout."""
    index = loading.find_file(name, "model.safetensors.index.json", revision)
    if index is None:
        return ["model.safetensors"]
    places = json.loads(index.read_text())["weight_map"]
    return sorted({places[key] for key in _RELEASED_HEAD})


def _tensors(path: Path, names: dict[str, str]) -> dict[str, Tensor]:
    """Those of `names` that a file has, renamed."""
    with safe_open(path, framework="pt") as file:
        present = set(file.keys())
        return {new: file.get_tensor(name) for name, new in names.items() if name in present}
