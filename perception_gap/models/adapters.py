"""PEFT adapters (LoRA and its kin) as models: the base that an adapter names, with the adapter merged into it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from perception_gap.errors import UsageError, one_line

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
REMEDY = f"set base_model_name_or_path in {CONFIG} to its folder or hub id, or merge the adapter first"


def is_adapter_folder(folder: Path) -> bool:
    """Whether a folder holds an adapter without the weights of its base (with them transformers opens it as it is)."""
    return (folder / CONFIG).is_file() and not [*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")]


def base_of(config: Path, name: str) -> tuple[str, str | None]:
    """(folder, hub id or tiny:NAME; revision) of the base that an adapter_config.json names.

    A relative folder is looked for beside the adapter first. UsageError for a file that names none.
    """
    try:
        fields = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"adapter {name!r}: {CONFIG} cannot be read ({one_line(error)}): fetch it again") from error
    base = fields.get("base_model_name_or_path") if isinstance(fields, dict) else None
    if not isinstance(base, str) or not base:
        raise UsageError(f"adapter {name!r}: {CONFIG} names no base model (base_model_name_or_path): {REMEDY}")
    beside = config.parent / base
    return (str(beside) if beside.is_dir() else base), fields.get("revision")


def merged(model: Any, source: str, name: str, options: dict[str, Any]) -> Any:
    """The base model with the adapter in `source` (folder or hub id) merged into its weights.

    UsageError for an adapter that does not fit the base, that PEFT does not know, or that has no weights to merge.
    """
    from peft import PeftModel, get_peft_model_state_dict

    pickled = os.path.join(source, "adapter_model.bin")
    if os.path.isfile(pickled) and not os.path.isfile(os.path.join(source, WEIGHTS)):
        raise UsageError(f"adapter {name!r}: {pickled} is pickled, which is not opened; save it as {WEIGHTS}")
    try:
        adapted: Any = PeftModel.from_pretrained(model, source, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UsageError(f"adapter {name!r} does not fit its base: {one_line(error)}") from error
    if not hasattr(adapted.base_model, "merge_and_unload"):
        kind = adapted.peft_config["default"].peft_type.value
        raise UsageError(f"adapter {name!r} is of type {kind}, which no weights can take in: expected LoRA or its kin")
    weights = os.path.join(source, WEIGHTS)
    if os.path.isfile(weights):  # PEFT only warns, and leaves what is missing at its beginning
        with safe_open(weights, "pt") as file:
            stored = set(file.keys())
        wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
        apart = sorted(wanted - stored) or sorted(key for key in stored - wanted if ".lora_" in key)
        if apart:
            raise UsageError(
                f"adapter {name!r} does not fit its base: {len(apart)} tensors of one are not in the other "
                f"({', '.join(apart[:2])}): was it trained on this base?"
            )
    return adapted.merge_and_unload()
