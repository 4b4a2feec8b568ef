"""`load`: a model, its processor and its family, from the hub, a folder or the package, or one clear line why not."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

from perception_gap.errors import UnsupportedModelError, UsageError, one_line
from perception_gap.models import adapters
from perception_gap.models.endings import end_ids
from perception_gap.models.families import check_supported, family_for
from perception_gap.models.families.base import Family
from perception_gap.models.families.encoded import Encoded
from perception_gap.models.files import ModelFiles, file_of, locate
from perception_gap.models.fingerprint import folder_hash
from perception_gap.models.placement import choose_attention, choose_device, choose_dtype, is_host, on_cpu, quantized
from perception_gap.models.processors import check_reads, open_processor
from perception_gap.models.weights import check_weights


class Latents(Protocol):
    """Latent tokens of a model that thinks before it answers (`lavit` has them; a plain model has none).

    system: the system prompt that it was trained with, if any. count: how many latent tokens it inserts.
    """

    system: str | None
    count: int

    def extend(self, encoded: Encoded) -> Encoded:
        """The prompts followed by the latent tokens."""

    def reading(self, model: PreTrainedModel, encoded: Encoded) -> AbstractContextManager[object]:
        """What must be in force while the model reads the extended prompts, or writes behind them."""


@dataclass
class LoadedModel:
    """model: in eval mode; name: as it was asked for; revision: hub commit, or `sha256:` and 16 hex digits.

    latents: what inserts latent tokens behind every prompt, None for a model without them.

    The hash of a folder is of the contents that decide the model (`fingerprint`): copies have the same one, and a
    retrained checkpoint in the same place, or an adapter on another base, has another.
    """

    model: PreTrainedModel
    processor: Any
    family: Family
    name: str
    revision: str
    latents: Latents | None = None

    def reading(self, encoded: Encoded) -> AbstractContextManager[object]:
        """The context in which the model reads extended prompts (see `Latents.reading`)."""
        return nullcontext() if self.latents is None else self.latents.reading(self.model, encoded)

    @property
    def device(self) -> torch.device:
        """Where inputs go: the accelerator, even when layers are offloaded to the CPU or the disk."""
        places = list(getattr(self.model, "hf_device_map", {}).values())
        if not places:
            return self.model.device
        return next((torch.device(place) for place in places if not is_host(place)), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of floating inputs (pixels)."""
        return self.model.dtype


def load(
    name_or_path: str | os.PathLike[str],
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    device_map: Any = None,
    attn: str = "sdpa",
    quantization: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
) -> LoadedModel:
    """A vision-language model ready to be measured.

    name_or_path: a hub id, a folder, or `tiny:NAME` (embedded in the package); also a PEFT adapter, which is merged
        into the base that its adapter_config.json names.
    device: "auto" is cuda, else mps, else cpu; ignored where `device_map` (accelerate's) places the layers.
    dtype: "auto" is the checkpoint's own on an accelerator and float32 on a CPU, where half precision is slower and
        less exact; or "float32", "bfloat16", "float16".
    quantization: None, "4bit" or "8bit" (bitsandbytes).
    min_pixels, max_pixels: the smallest and largest image area of families that resize to an area (Qwen).

    Raises UsageError (UnsupportedModelError for a text-only model or an unknown family): one line that names the value
    and what was expected. Without a network a hub id that is not cached fails at once.
    """
    name = os.fspath(name_or_path)
    if quantization not in (None, "4bit", "8bit"):
        raise UsageError(f'quantization {quantization!r}: expected "4bit", "8bit" or none')
    wanted = choose_device(device)
    files = locate(name, revision)
    whole = files.base or files
    config = _config(files, name, trust_remote_code)
    check_supported(config)
    family = _family(files, name, trust_remote_code, config)
    processor = family.processor
    if min_pixels is not None or max_pixels is not None:
        family.set_pixel_limits(min_pixels, max_pixels)
    if os.path.isdir(whole.source):
        check_weights(Path(whole.source), config, trust_remote_code)
    options: dict[str, Any] = {
        "dtype": choose_dtype(dtype, on_cpu(wanted, device_map)),
        "attn_implementation": choose_attention(config, attn),
        "trust_remote_code": trust_remote_code,
        **whole.options,
    }
    if quantization is not None:
        options["quantization_config"] = quantized(quantization)
        # Quantized weights are placed while loading.
        device_map = device_map if device_map is not None else {"": wanted}
    if device_map is not None:
        options["device_map"] = device_map
    model = _with_weights(whole.source, name, options, wanted if device_map is None else None)
    if files.base is not None:
        model = adapters.merged(model, files.source, name, files.options)
    model.generation_config.eos_token_id = end_ids(model, processor) or None
    commit = getattr(model.config, "_commit_hash", None)
    return LoadedModel(model.eval(), processor, family, name, _revision(files, commit) or str(commit))


def _with_weights(source: str, name: str, options: dict[str, Any], device: torch.device | None) -> Any:
    """The model with all of its weights, on `device` unless `options` place it. UsageError where some are missing."""
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            source, output_loading_info=True, use_safetensors=True, **options
        )
        if device is not None:
            loaded[0].to(device)
    # Weights or kernels that are not there, or of another shape than the configuration says; a generation_config.json
    # with values of other types.
    except (OSError, ValueError, TypeError, AttributeError, ImportError, RuntimeError, SafetensorError) as error:
        reason = one_line(error)
        if "ignore_mismatched_sizes" in reason:  # its table of tensors went to the log
            reason = "its weights have other shapes than its config.json says"
        raise UsageError(f"model {name!r} does not load: {reason}") from error
    model, report = loaded
    if report["missing_keys"]:  # transformers would fill them with random numbers
        some = ", ".join(sorted(report["missing_keys"])[:3])
        raise UsageError(f"model {name!r} lacks {len(report['missing_keys'])} of its weights ({some}): fetch it again")
    return model


def require_supported(name: str, revision: str | None = None, trust_remote_code: bool = False) -> Family:
    """A model's family; UsageError for what `load` would refuse before it reads weights: name, family, processor."""
    files = locate(name, revision)
    config = _config(files, name, trust_remote_code)
    check_supported(config)
    return _family(files, name, trust_remote_code, config)


def revision_of(name: str, revision: str | None = None) -> str | None:
    """The `revision` that `load` would give this model, without reading it; None where that is not known (offline)."""
    return _revision(locate(name, revision))


def _revision(files: ModelFiles, commit: str | None = None) -> str | None:
    """The commit, or the hash of the folder, with the base's behind that of an adapter; None where it is not known.

    commit: what the loaded model's configuration says, for what is on the hub and was asked for offline.
    """
    own = folder_hash(Path(files.source)) if os.path.isdir(files.source) else files.commit
    if files.base is None:
        return own or commit
    base = _revision(files.base, commit)
    return f"{own} on {base}" if own and base else None


def find_file(name: str, filename: str, revision: str | None = None) -> Path | None:
    """A file of a model's folder or hub repository, None where it has none; UsageError for an unknown model.

    Of an adapter its base's file where it has none of its own.
    """
    files = locate(name, revision)
    return file_of(files, filename) or (file_of(files.base, filename) if files.base else None)


def _config(files: ModelFiles, name: str, trust_remote_code: bool) -> Any:
    if files.base is not None:
        try:
            return _config(files.base, files.base.source, trust_remote_code)
        except UsageError as error:
            raise type(error)(f"adapter {name!r}: its base: {error}; {adapters.REMEDY}") from error
    try:
        return AutoConfig.from_pretrained(files.source, trust_remote_code=trust_remote_code, **files.options)
    except OSError as error:
        if os.path.isdir(files.source):
            raise UsageError(f"folder {name!r}: config.json cannot be read: {one_line(error)}") from error
        raise UsageError(
            f"model {name!r} is no folder, not in the local cache, and the hub cannot be reached: expected a folder, "
            "a cached hub id or tiny:NAME"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, StrictDataclassError) as error:
        raise UnsupportedModelError(
            f"model {name!r} has a config.json that transformers does not understand: {one_line(error)}"
        ) from error


def _family(files: ModelFiles, name: str, trust_remote_code: bool, config: Any) -> Family:
    processor = open_processor(files, name, trust_remote_code, config)
    family = family_for(config, processor)
    check_reads(family, name)
    return family
