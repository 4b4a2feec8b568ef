"""Prompts and vision features of every trace, computed once: a frozen tower gives the same ones at every step."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from lavit.data import prompt_of
from lavit.traces import Traces
from perception_gap.capture import find_decoder
from perception_gap.errors import UnsupportedModelError
from perception_gap.families.encoded import Encoded
from perception_gap.forward import vision
from perception_gap.job import versions
from perception_gap.loading import LoadedModel


class VisionCache:
    """Encoded prompts whose pixels are replaced by `image_features`, float32 [N, D], as the model computes them.

    The features stay on disk; two processes that build the same cache do not meet, the first to finish wins.
    """

    def __init__(self, folder: Path) -> None:
        with (folder / "prompts.pkl").open("rb") as file:
            width, self.prompts = pickle.load(file)
        self.features = np.memmap(folder / "features.f32", np.float32, "r").reshape(-1, width)

    def __getitem__(self, index: int) -> Encoded:
        encoded, start = self.prompts[index]
        rows = self.features[start : start + int(encoded.image.sum())]
        return replace(encoded, inputs=encoded.inputs | {"image_features": torch.from_numpy(np.array(rows))})

    @classmethod
    def build(
        cls, work: Path, loaded: LoadedModel, traces: Traces, instruction: str, system: str | None, batch: int = 32
    ) -> VisionCache:
        """The cache of these traces for this tower and prompt, from `work` or computed now.

        UnsupportedModelError for a model whose vision side gives more than one vector a token (Qwen3-VL's deepstack).
        """
        folder = work / cache_key(loaded, traces, instruction, system)
        if not folder.exists():
            aside = work / f"{folder.name}.{os.getpid()}.tmp"
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            _fill(aside, loaded, traces, instruction, system, batch)
            try:
                os.rename(aside, folder)
            except OSError:  # another process was first
                shutil.rmtree(aside)
        return cls(folder)


def _fill(folder: Path, loaded: LoadedModel, traces: Traces, instruction: str, system: str | None, batch: int) -> None:
    prompts: list[tuple[Encoded, int]] = []
    start = width = 0
    with (folder / "features.f32").open("wb") as file:
        for i in tqdm(range(0, len(traces), batch), desc="vision features", unit="batch"):
            some = range(i, min(i + batch, len(traces)))
            chunk = [prompt_of(loaded.family, traces[j], instruction, system) for j in some]
            features = vision_features(loaded, Encoded.join(chunk, 0)).float().cpu().numpy()
            width = features.shape[1]
            file.write(features.tobytes())
            for encoded in chunk:
                kept = {name: value for name, value in encoded.inputs.items() if name != "pixel_values"}
                prompts.append((replace(encoded, inputs=kept), start))
                start += int(encoded.image.sum())
    with (folder / "prompts.pkl").open("wb") as file:
        pickle.dump((width, prompts), file)


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
    digest.update(json.dumps([image_processor, tokenizer, instruction, system, versions()]).encode())
    return digest.hexdigest()[:16]
