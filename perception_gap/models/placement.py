"""Where and how exactly a model runs: device, dtype, attention kernel, quantization."""

from __future__ import annotations

import gc
import resource
from importlib.util import find_spec
from typing import Any

import torch

from perception_gap.errors import UsageError

_FLOAT32, _BFLOAT16, _FLOAT16 = torch.float32, torch.bfloat16, torch.float16
_DTYPES = {"float32": _FLOAT32, "bfloat16": _BFLOAT16, "float16": _FLOAT16} | {
    "fp32": _FLOAT32,
    "bf16": _BFLOAT16,
    "fp16": _FLOAT16,
}


def choose_device(device: str) -> torch.device:
    """ "auto" is cuda, else mps, else cpu. UsageError for one that is unknown or not here."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"device {device!r}: expected auto, cpu, mps, cuda or cuda:0") from error
    if wanted.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"device {device!r}: expected auto, cpu, mps, cuda or cuda:0")
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {device!r}: torch sees no CUDA device here; use auto or cpu")
    if wanted.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"device {device!r}: torch sees no MPS device here; use auto or cpu")
    return wanted


def is_host(place: Any) -> bool:
    return str(place) in ("cpu", "disk", "meta")


def on_cpu(device: torch.device, device_map: Any) -> bool:
    if isinstance(device_map, dict):
        return all(is_host(place) for place in device_map.values())
    if device_map is None:
        return device.type == "cpu"
    return is_host(device_map) or not (torch.cuda.is_available() or torch.backends.mps.is_available())


def choose_dtype(dtype: str | torch.dtype, cpu: bool) -> str | torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return torch.float32 if cpu else "auto"
    if dtype not in _DTYPES:
        raise UsageError(f"dtype {dtype!r}: expected auto, {', '.join(_DTYPES)}")
    return _DTYPES[dtype]


def choose_attention(config: Any, attn: str) -> str | dict[str, str]:
    """What transformers takes for `attn`: its Gemma 2 (PaliGemma 2's text model) has no sdpa, for its softcap."""
    text = getattr(config, "text_config", None)
    return {"": attn, "text_config": "eager"} if getattr(text, "model_type", None) == "gemma2" else attn


def quantized(bits: str) -> Any:
    if find_spec("bitsandbytes") is None:
        raise UsageError(f"quantization {bits!r} needs bitsandbytes: pip install bitsandbytes, or leave it out")
    from transformers import BitsAndBytesConfig

    # bfloat16 compute: the default float32 is several times slower on the GPUs that quantization is meant for.
    if bits == "4bit":
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
    return BitsAndBytesConfig(load_in_8bit=True)


def peak_bytes() -> int:
    """Peak memory so far: of the GPU if there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def release_memory() -> None:
    """Free what nobody refers to any more, on the accelerator too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
