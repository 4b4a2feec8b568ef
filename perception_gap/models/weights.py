"""What a folder's weight files say of themselves, read before a model is built from them: some kilobytes, no tensor."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForImageTextToText

from perception_gap.errors import UsageError, one_line
from perception_gap.storage import intact

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_AGAIN = "fetch or save the checkpoint again"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_DEPTH = re.compile(r"(num_|n_)?(hidden_|encoder_|decoder_)?(layers?|blocks|depth)")
_MOST_LAYERS = 1_000  # more than the tensors that there are: parts of a model may stand in its configuration alone
_TIED = 2  # a tied output layer is counted once in the file and at most once more in the model


class Index(intact.Document):
    metadata: dict[str, Any]
    weight_map: dict[str, intact.Text]


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint folder; UsageError where there are none, or some are missing.

    Files that would have to be unpickled (pytorch_model.bin) are never opened: they can run any code.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if (folder / INDEX).is_file():
        index = intact.read_json(folder / INDEX)
        intact.require(index, Index, folder / INDEX)
        names = sorted(set(index["weight_map"].values()))
        for name in names:
            if Path(name).name != name or not (folder / name).is_file():
                raise intact.damaged(folder / INDEX, f"it names {name!r}, which is not in the folder", _AGAIN)
        return [folder / name for name in names]
    pickled = next((p.name for p in sorted(folder.iterdir()) if p.suffix in _PICKLED), None)
    if pickled is not None:
        raise UsageError(
            f"folder {str(folder)!r}: its weights are pickled ({pickled}), and opening them could run any code: "
            "convert them to safetensors (save_pretrained writes them) where you trust the file"
        )
    raise UsageError(f"folder {str(folder)!r} has no {SINGLE}: {_AGAIN}")


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Tensor → its shape, of all weight files; DamagedError for a file that is not whole."""
    by_tensor: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:  # checks that the file is as long as its header says
                by_tensor |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise intact.damaged(path, f"not a whole safetensors file: {one_line(error, 80)}", _AGAIN) from None
    return by_tensor


def check_weights(folder: Path, config: Any, trust_remote_code: bool = False) -> None:
    """UsageError where weight files are missing or damaged, or hold far less than the configuration describes.

    transformers would build the whole of it, and fill what is missing with random numbers, before it says so.
    """
    there = shapes(folder)
    for key, value in _depths(config.to_dict()):
        if value > _MOST_LAYERS + len(there):
            raise UsageError(
                f"folder {str(folder)!r}: config.json says {key} = {value:,}, its weight files hold {len(there):,} "
                f"tensors; {_AGAIN}"
            )
    try:
        with torch.device("meta"):  # from_config writes into what it is given
            model = AutoModelForImageTextToText.from_config(copy.deepcopy(config), trust_remote_code=trust_remote_code)
    except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, AttributeError) as error:
        if "meta tensor" in str(error):  # somebody's own code, which needs numbers while it builds
            return
        raise UsageError(
            f"folder {str(folder)!r}: no model can be built from its config.json ({one_line(error, 120)})"
        ) from None
    described = sum(p.numel() for p in model.parameters())
    held = sum(math.prod(shape) for shape in there.values())
    # Quantized weights are packed, several to a number.
    if getattr(config, "quantization_config", None) is None and described > _TIED * held:
        raise UsageError(
            f"folder {str(folder)!r}: config.json describes a model of {described:,} weights, its files hold {held:,}: "
            f"they do not belong together; {_AGAIN}"
        )


def _depths(config: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, int]]:
    """(dotted key, value) of every number of layers in a configuration."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _depths(value, f"{at}{key}.")
        elif isinstance(value, int) and _DEPTH.fullmatch(str(key)):
            yield f"{at}{key}", value
