"""Prompts and vision features of every trace, computed once: a frozen tower gives the same ones at every step.

A folder of safetensors files, one a batch of traces, and the manifest that lists them with their checksums. Nothing is
unpickled: such a folder may lie where others write.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from tqdm import tqdm

from lavit import manifest
from lavit.data import prompt_of
from lavit.traces import Traces
from perception_gap.attention.capture import find_decoder
from perception_gap.errors import DamagedError, UnsupportedModelError, one_line
from perception_gap.gaze.answer import vision
from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.encoded import Encoded
from perception_gap.models.loading import LoadedModel
from perception_gap.runs.key import versions
from perception_gap.storage import intact
from perception_gap.storage.files import write_arrays

BATCH = 32  # traces a file
_LAYOUT = 2  # counts in the key: another layout is another folder
_REMEDY = "delete the folder, it is computed anew"
_FEATURES = "image_features"


class VisionCache:
    """Encoded prompts whose pixels are replaced by `image_features`, float32 [N, D], as the model computes them.

    They stay on disk; a file is held against its checksum when it is first read. Two processes that build the same
    cache do not meet, the first to finish wins.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._checked = folder, set[str]()
        try:
            self._listed = manifest.read(folder)["files"]
        except DamagedError as error:
            raise DamagedError(f"{one_line(error).partition(';')[0]}; {_REMEDY}") from None

    def __getitem__(self, index: int) -> Encoded:
        """DamagedError where the file is damaged."""
        path = self.folder / _file_of(index)
        try:
            if path.name not in self._checked:
                if manifest.file_hash(path) != self._listed[path.name]["sha256"]:
                    raise intact.damaged(path, "its checksum differs", _REMEDY)
                self._checked.add(path.name)
            with safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if name.startswith(f"{index}/")]  # noqa: SIM118 (no mapping)
                return _decoded({name.partition("/")[2]: file.get_tensor(name) for name in names})
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise intact.damaged(path, one_line(error, 80), _REMEDY) from None

    @classmethod
    def build(
        cls, work: Path, loaded: LoadedModel, traces: Traces, instruction: str, system: str | None
    ) -> VisionCache:
        """The cache of these traces for this tower and prompt, from `work` or computed now.

        UnsupportedModelError for a model whose vision side gives more than one vector a token (Qwen3-VL's deepstack).
        """
        folder = work / cache_key(loaded, traces, instruction, system)
        if not folder.exists():
            aside = work / f"{folder.name}.{os.getpid()}.tmp"
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            try:
                _fill(aside, loaded, traces, instruction, system)
                manifest.write(aside, folder.name)
                with suppress(OSError):  # another process was first
                    os.rename(aside, folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return cls(folder)


def _file_of(index: int) -> str:
    return f"{index - index % BATCH:06d}.safetensors"


def _fill(folder: Path, loaded: LoadedModel, traces: Traces, instruction: str, system: str | None) -> None:
    for start in tqdm(range(0, len(traces), BATCH), desc="vision features", unit="batch"):
        some = range(start, min(start + BATCH, len(traces)))
        chunk = [prompt_of(loaded.family, traces[i], instruction, system) for i in some]
        features = vision_features(loaded, Encoded.join(chunk, 0)).float().cpu()
        each = features.split([int(encoded.image.sum()) for encoded in chunk])
        arrays: dict[str, np.ndarray] = {}
        for i, encoded, seen in zip(some, chunk, each, strict=True):
            arrays |= {f"{i}/{name}": array for name, array in _arrays(encoded, seen).items()}
        write_arrays(folder / _file_of(start), arrays)


def _arrays(encoded: Encoded, features: torch.Tensor) -> dict[str, np.ndarray]:
    """One prompt without its pixels as named arrays; `_decoded` reads them."""
    inputs = {name: value for name, value in encoded.inputs.items() if name != "pixel_values"}
    geometry = encoded.geometry[0]
    rows, cols = geometry.grid_shape or (0, 0)
    arrays = {f"inputs/{name}": value.numpy() for name, value in (inputs | {_FEATURES: features}).items()}
    arrays |= {f"mask/{name}": getattr(encoded, name).numpy() for name in ("image", "question")}
    arrays |= {"geometry/boxes": geometry.boxes, "geometry/image": geometry.image}
    return arrays | {"numbers": np.array([rows, cols, encoded.appended_type], dtype=np.int64)}


def _decoded(arrays: dict[str, torch.Tensor]) -> Encoded:
    rows, cols, appended_type = arrays["numbers"].tolist()
    inputs = {name.removeprefix("inputs/"): a for name, a in arrays.items() if name.startswith("inputs/")}
    boxes, image = arrays["geometry/boxes"].numpy(), arrays["geometry/image"].numpy()
    geometry = TokenGeometry(boxes, image, (rows, cols) if rows else None)
    return Encoded(inputs, arrays["mask/image"], arrays["mask/question"], [geometry], appended_type=appended_type)


def vision_features(loaded: LoadedModel, encoded: Encoded) -> torch.Tensor:
    """[image tokens of the batch, D]: what the model puts in the place of its image tokens."""
    output = vision(loaded, encoded.to(loaded.device, loaded.dtype))
    if output is None or getattr(output, "deepstack_features", None) is not None:
        raise UnsupportedModelError(
            f"{loaded.name}: its language model takes more from the vision tower than a vector a token, which a cache "
            "cannot give; leave --cache-vision out"
        )
    features = output.pooler_output
    return features if isinstance(features, torch.Tensor) else torch.cat(list(features))


def cache_key(loaded: LoadedModel, traces: Traces, instruction: str, system: str | None) -> str:
    """Hash of what decides prompts and features: the frozen weights, the processor, the pictures and questions."""
    digest = hashlib.sha256()
    language = {id(p) for p in find_decoder(loaded.model).parameters()}
    for name, parameter in loaded.model.named_parameters():
        if id(parameter) not in language and not name.startswith("lm_head"):
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    for i in range(len(traces)):
        trace = traces[i]
        digest.update(json.dumps([trace.image_hash, trace.sample.question, trace.sample.options]).encode())
    image_processor = str(loaded.processor.image_processor.to_dict())
    tokenizer = [len(loaded.processor.tokenizer), loaded.processor.chat_template]
    digest.update(json.dumps([_LAYOUT, image_processor, tokenizer, instruction, system, versions()]).encode())
    return digest.hexdigest()[:16]
