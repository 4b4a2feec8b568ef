"""`load`: a model, its processor and its family, from the hub, a folder or the package, or one clear line why not."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PreTrainedModel
from transformers.utils import cached_file

from perception_gap.errors import UnsupportedModelError, UsageError, one_line
from perception_gap.families import Encoded, Family, check_supported, family_for
from perception_gap.placement import choose_attention, choose_device, choose_dtype, is_host, on_cpu, quantized
from perception_gap.weights import check_weights

TINY = "tiny:"
TINY_WEIGHTS = Path(__file__).parent / "tiny" / "weights"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?")
_PROBE_SECONDS = 10


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

    The hash of a folder covers the names, sizes, times and safetensors headers of its files, so that a retrained
    checkpoint in the same place is another revision.
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

    name_or_path: a hub id, a folder, or `tiny:NAME` (embedded in the package).
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
    found = _locate(name, revision)
    config = _config(found, name, trust_remote_code)
    check_supported(config)
    processor = _processor(found, name, trust_remote_code, config)
    family = family_for(config, processor)
    if min_pixels is not None or max_pixels is not None:
        family.set_pixel_limits(min_pixels, max_pixels)
    if os.path.isdir(found.source):
        check_weights(Path(found.source), config, trust_remote_code)
    options: dict[str, Any] = {
        "dtype": choose_dtype(dtype, on_cpu(wanted, device_map)), "attn_implementation": choose_attention(config, attn),
        "trust_remote_code": trust_remote_code, **found.options,
    }  # fmt: skip
    if quantization is not None:
        options["quantization_config"] = quantized(quantization)
        device_map = (
            device_map if device_map is not None else {"": wanted}
        )  # quantized weights are placed while loading
    if device_map is not None:
        options["device_map"] = device_map
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            found.source, output_loading_info=True, use_safetensors=True, **options
        )
        if device_map is None:
            loaded[0].to(wanted)
    # Weights or kernels that are not there, or of another shape than the configuration says.
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        reason = one_line(error)
        if "ignore_mismatched_sizes" in reason:  # its table of tensors went to the log
            reason = "its weights have other shapes than its config.json says"
        raise UsageError(f"model {name!r} does not load: {reason}") from error
    model, report = loaded
    if report["missing_keys"]:  # transformers would fill them with random numbers
        some = ", ".join(sorted(report["missing_keys"])[:3])
        raise UsageError(f"model {name!r} lacks {len(report['missing_keys'])} of its weights ({some}): fetch it again")
    commit = getattr(model.config, "_commit_hash", None)
    return LoadedModel(model.eval(), processor, family, name, commit or _revision(found))


def check(name: str, revision: str | None = None, trust_remote_code: bool = False) -> Family:
    """A model's family; UsageError for what `load` would refuse before it reads weights: name, family, processor."""
    found = _locate(name, revision)
    config = _config(found, name, trust_remote_code)
    check_supported(config)
    return family_for(config, _processor(found, name, trust_remote_code, config))


def revision_of(name: str, revision: str | None = None) -> str | None:
    """The `revision` that `load` would give this model, without reading it; None where that is not known (offline)."""
    found = _locate(name, revision)
    return _revision(found) if found.commit or os.path.isdir(found.source) else None


def _revision(found: _Found) -> str:
    return found.commit or _folder_hash(Path(found.source))


def find_file(name: str, filename: str, revision: str | None = None) -> Path | None:
    """A file of a model's folder or hub repository, None where it has none; UsageError for an unknown model."""
    found = _locate(name, revision)
    if os.path.isdir(found.source):
        path = Path(found.source) / filename
        return path if path.is_file() else None
    cached = cached_file(found.source, filename, _raise_exceptions_for_missing_entries=False,
                         _raise_exceptions_for_connection_errors=False, **found.options)  # fmt: skip
    return Path(cached) if cached else None


@dataclass(frozen=True)
class _Found:
    source: str  # a folder or a hub id
    options: dict[str, Any]
    commit: str | None = None


def _locate(name: str, revision: str | None) -> _Found:
    if name.startswith(TINY):
        folder = TINY_WEIGHTS / name.removeprefix(TINY)
        if name == TINY or not (folder / "config.json").is_file():
            present = sorted(TINY + p.parent.name for p in TINY_WEIGHTS.glob("*/config.json"))
            raise UsageError(f"model {name!r} is not embedded; present: {', '.join(present) or 'none'}")
        return _Found(str(folder), {"local_files_only": True})
    if os.path.isdir(name):
        if not os.path.isfile(os.path.join(name, "config.json")):
            raise UsageError(f"folder {name!r} has no config.json: expected a checkpoint saved by save_pretrained")
        return _Found(name, {"local_files_only": True})
    if os.path.exists(name):
        raise UsageError(f"model {name!r} is a file: expected the folder that holds config.json")
    if not _HUB_ID.fullmatch(name):
        raise UsageError(f"model {name!r} does not exist: expected a folder, a hub id (owner/name) or tiny:NAME")
    return _locate_on_hub(name, revision)


def _locate_on_hub(name: str, revision: str | None) -> _Found:
    """Asks the hub once: transformers' own downloads would retry an unreachable hub for minutes."""
    from huggingface_hub import HfApi, errors

    try:
        info = HfApi().model_info(name, revision=revision, timeout=_PROBE_SECONDS)
    except errors.RevisionNotFoundError as error:
        raise UsageError(f"model {name!r} has no revision {revision!r} on the hub") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise UsageError(
            f"model {name!r} is no folder and not on the hub (or private: set HF_TOKEN): expected a folder, "
            "a hub id (owner/name) or tiny:NAME"
        ) from error
    except (errors.HTTPError, OSError):  # offline, unreachable, out of service: the cache may have it
        return _Found(name, {"local_files_only": True, "revision": revision})
    return _Found(name, {"revision": info.sha or revision}, info.sha)


def _config(found: _Found, name: str, trust_remote_code: bool) -> Any:
    try:
        return AutoConfig.from_pretrained(found.source, trust_remote_code=trust_remote_code, **found.options)
    except OSError as error:
        if os.path.isdir(found.source):
            raise UsageError(f"folder {name!r}: config.json cannot be read: {one_line(error)}") from error
        raise UsageError(
            f"model {name!r} is no folder, not in the local cache, and the hub cannot be reached: expected a folder, "
            "a cached hub id or tiny:NAME"
        ) from error
    except (ValueError, KeyError, StrictDataclassError) as error:
        raise UnsupportedModelError(
            f"model {name!r} has a config.json that transformers does not understand: {one_line(error)}"
        ) from error


def _processor(found: _Found, name: str, trust_remote_code: bool, config: Any) -> Any:
    try:
        processor = AutoProcessor.from_pretrained(found.source, trust_remote_code=trust_remote_code, **found.options)
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        # Each incomplete folder fails in its own way inside transformers; the remedy is the same.
        raise UsageError(_no_processor(name) + f" ({one_line(error)})") from error
    # Without an image processor AutoProcessor falls back to the tokenizer alone.
    if getattr(processor, "image_processor", None) is None or getattr(processor, "tokenizer", None) is None:
        raise UsageError(_no_processor(name))
    # Without tokenizer files transformers makes a tokenizer of nothing but special tokens.
    image_token = getattr(config, "image_token_id", None)
    if isinstance(image_token, int) and image_token >= len(processor.tokenizer):
        raise UsageError(_no_processor(name) + f" (its tokenizer has only {len(processor.tokenizer)} tokens)")
    return processor


def _no_processor(name: str) -> str:
    return (
        f"model {name!r} has no complete processor: expected tokenizer files and preprocessor_config.json (or "
        "processor_config.json) beside config.json; copy them from the base checkpoint"
    )


def _folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    # What decides the model lies at the top; cards, and runs written into a subfolder, do not.
    decides = (".safetensors", ".bin", ".json", ".jinja", ".txt", ".model", ".py")
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in decides):
        stat = path.stat()
        digest.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        if path.suffix == ".safetensors":
            with path.open("rb") as file:
                start = file.read(8)  # length of the JSON header: names, dtypes, shapes and offsets of all tensors
                digest.update(file.read(struct.unpack("<Q", start)[0]) if len(start) == 8 else start)
    return f"sha256:{digest.hexdigest()[:16]}"
