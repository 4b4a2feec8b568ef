"""Prompts and vision features of every trace, computed once: a frozen tower gives the same ones at every step."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from lavit.data import prompt_of
from lavit.traces import Traces
from perception_gap.capture import find_decoder
from perception_gap.errors import UnsupportedModelError
from perception_gap.families.base import Encoded
from perception_gap.forward import vision
from perception_gap.loading import LoadedModel

PIXELS = ("pixel_values", "image_features")


class VisionCache:
    """Encoded prompts whose pixels are replaced by `image_features`, float32 [N, D], as the model computes them."""

    def __init__(self, folder: Path) -> None:
        self.features = np.load(folder / "features.npy", mmap_mode="r")
        with (folder / "prompts.pkl").open("rb") as file:
            self.prompts: list[tuple[Encoded, int]] = pickle.load(file)

    def __getitem__(self, index: int) -> Encoded:
        encoded, start = self.prompts[index]
        rows = self.features[start : start + int(encoded.image.sum())]
        inputs = encoded.inputs | {"image_features": torch.from_numpy(np.array(rows))}
        return Encoded(inputs, encoded.image, encoded.question, encoded.geometry)

    @classmethod
    def build(
        cls, work: Path, loaded: LoadedModel, traces: Traces, instruction: str, system: str | None, batch: int = 32
    ) -> VisionCache:
        """The cache of these traces for this tower and prompt, from `work` or computed now.

        UnsupportedModelError for a model whose vision side gives more than one vector a token (Qwen3-VL's deepstack).
        """
        key = cache_key(loaded, traces, instruction, system)
        folder = work / key
        if (folder / "done").exists():
            return cls(folder)
        folder.mkdir(parents=True, exist_ok=True)
        prompts: list[tuple[Encoded, int]] = []
        found: list[np.ndarray] = []
        start = 0
        for i in tqdm(range(0, len(traces), batch), desc="vision features", unit="batch"):
            chunk = [prompt_of(loaded.family, traces[j], instruction, system)
                     for j in range(i, min(i + batch, len(traces)))]  # fmt: skip
            features = vision_features(loaded, Encoded.join(chunk, 0))
            found.append(features.float().cpu().numpy())
            for encoded in chunk:
                kept = {n: v for n, v in encoded.inputs.items() if n not in PIXELS}
                prompts.append((Encoded(kept, encoded.image, encoded.question, encoded.geometry), start))
                start += int(encoded.image.sum())
        np.save(folder / "features.npy", np.concatenate(found))
        with (folder / "prompts.pkl").open("wb") as file:
            pickle.dump(prompts, file)
        (folder / f"done.{os.getpid()}").touch()
        os.replace(folder / f"done.{os.getpid()}", folder / "done")
        return cls(folder)


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
    digest.update(json.dumps([image_processor, loaded.processor.chat_template, instruction, system]).encode())
    return digest.hexdigest()[:16]
