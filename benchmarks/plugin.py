"""gapcheck's models for lmms-eval: `gapcheck_hf` is whatever `perception_gap.load` opens, `lavit` adds latent tokens.

Found through the entry point group `lmms_eval.models` (`benchmarks.manifests`), so lmms-eval's command line has them:
`python -m lmms_eval --model lavit --model_args pretrained=FOLDER,latents=mask --tasks mmvp`.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import Instance, TokenCounts
from lmms_eval.api.model import lmms
from loguru import logger
from tqdm import tqdm

from benchmarks.answers import Answer, AnswerStore, Prompt, prompt_of
from perception_gap.attention.capture import choose_layers, find_decoder
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.gaze.answer import decode_answer, encode, generate, pad_id
from perception_gap.gaze.look import look
from perception_gap.models.context import check_fits
from perception_gap.models.loading import LoadedModel, load
from perception_gap.runs.engine import in_memory
from perception_gap.runs.key import model_facts, versions
from perception_gap.runs.rows import geometry_fields
from perception_gap.storage.files import write_json

DEFAULT_TOKENS = 128  # most tokens of an answer where a task's definition says nothing (MMStar, HR-Bench)
_DECIDING = ("gapcheck", "torch", "torchvision", "transformers", "accelerate")  # packages whose version is in the key
_OPTIONS = ("pretrained", "batch_size", "device", "system", "store", "gaze", "layers")
_LOADING = ("dtype", "device_map", "attn", "quantization", "revision", "trust_remote_code", "min_pixels", "max_pixels")


class GapcheckHF(lmms):
    """A Hugging Face vision-language model, answering greedily, one user turn with its pictures first.

    pretrained: hub id, folder or `tiny:NAME`. batch_size: answers are those of batch size 1 (float32). system: a system
    prompt for every question. store: a folder that keeps every batch's answers as they come; a killed run repeated with
    it asks for the rest alone. gaze: also read the attention map of every answer (`layers`). The other options are
    those of `perception_gap.load`; unknown ones are refused.

    As with lmms-eval's own chat models, a task's stop strings (`until`) are not applied, and a temperature is not
    either: decoding is greedy.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        batch_size: int | str = 8,
        device: str | None = None,
        system: str | None = None,
        store: str | None = None,
        gaze: bool = False,
        layers: str = "all",
        max_batch_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        unknown = sorted(options.keys() - {*_LOADING, *self._own_options()})
        if unknown:
            known = ", ".join((*_OPTIONS, *self._own_options(), *_LOADING))
            raise UsageError(f"model argument {unknown[0]!r}: expected one of {known}")
        self._kernel = [options.get("attn"), options.get("quantization")]
        if device is None or device == "auto":
            device = str(self.accelerator.device) if self._world_size > 1 else "auto"
        self.loaded = self._open(pretrained, device, options)
        self.batch_size = int(batch_size) if str(batch_size).isdigit() else 8  # lmms-eval may say "auto"
        self.system, self.gaze, self.layers = system, gaze, layers
        if gaze:
            choose_layers(layers, find_decoder(self.loaded.model))  # said before the first answer
        self.progress = True
        self.store = None
        if store:
            with self.accelerator.main_process_first():
                self.store = AnswerStore(Path(store), self.identity())
                if self.accelerator.is_main_process:
                    write_json(
                        Path(store) / "answers.json", {"model": model_facts(self.loaded), "versions": versions()}
                    )

    def _own_options(self) -> tuple[str, ...]:
        return ()

    def _open(self, name: str, device: str, options: dict[str, Any]) -> LoadedModel:
        return load(name, device=device, **options)

    @property
    def device(self) -> torch.device:
        return self.loaded.device

    def identity(self) -> list[Any]:
        """Everything about this model that decides an answer."""
        size = getattr(self.loaded.processor.image_processor, "size", None)
        return [
            self.loaded.revision,
            str(self.loaded.model.dtype),
            self.loaded.device.type,
            self._kernel,
            str(size),
            self.system,
            [self.gaze, self.layers] if self.gaze else None,
            {name: v for name, v in versions().items() if name in _DECIDING},
        ]

    def clean(self) -> None:
        """Nothing: the base class would delete the model, which the next task needs."""

    def generate_until(self, requests: list[Instance]) -> list[Answer]:
        """One Answer a request, in their order; requests of one generation setting go in batches."""
        answers: dict[int, Answer] = {}
        groups: dict[int, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(int(request.args[2].get("max_new_tokens", DEFAULT_TOKENS)), []).append(i)
        with tqdm(total=len(requests), desc=self.loaded.name, disable=not self.progress or self._rank > 0) as bar:
            for max_new_tokens, group in groups.items():
                for start in range(0, len(group), self.batch_size):
                    batch = group[start : start + self.batch_size]
                    kept = self._kept([requests[i] for i in batch], max_new_tokens)
                    answers |= dict(zip(batch, kept, strict=True))
                    bar.update(len(batch))
        if self.progress:  # under lmms-eval, which sees an empty answer; the bench says it itself
            for i, answer in sorted(answers.items()):
                if answer.error is not None:
                    logger.error(f"{requests[i].task_name} {requests[i].doc_id}: no answer: {answer.error}")
        return [answers[i] for i in range(len(requests))]

    def _kept(self, requests: list[Instance], max_new_tokens: int) -> list[Answer]:
        """Answers of one batch, from the store where it has them."""
        if self.store is None:
            return self._answer(requests, max_new_tokens)
        store = self.store
        keys = [store.key(self._messages(request), {"max_new_tokens": max_new_tokens}) for request in requests]
        reasons = store.through(keys, requests, lambda todo: self._answer(todo, max_new_tokens))
        return [
            Answer("", error=reasons[key])
            if key in reasons
            else Answer(store.rows[key]["answer"], _counts(store.rows[key]))
            for key in keys
        ]

    def _messages(self, request: Instance) -> list[dict[str, Any]]:
        _, doc_to_messages, _, doc_id, task, split = request.args
        return doc_to_messages(self.task_dict[task][split][doc_id])

    def _answer(self, requests: list[Instance], max_new_tokens: int) -> list[Answer]:
        answers: dict[int, Answer] = {}
        ready = []
        for i, request in enumerate(requests):
            try:
                ready.append((i, prompt_of(self._messages(request))))
            except GapcheckError as error:
                answers[i] = Answer("", error=str(error))
        for group, outcome in in_memory(partial(self._forwards, max_new_tokens), ready):
            for n, (i, _) in enumerate(group):
                answers[i] = Answer("", error=outcome) if isinstance(outcome, str) else outcome[n]
        return [answers[i] for i in range(len(requests))]

    def _forwards(self, max_new_tokens: int, ready: list[tuple[int, Prompt]]) -> list[Answer]:
        """One batch through the model; prompts with different system prompts go one by one."""
        prompts = [prompt for _, prompt in ready]
        systems = {prompt.system for prompt in prompts}
        if len(systems) > 1:
            return [answer for item in ready for answer in self._forwards(max_new_tokens, [item])]
        began = time.perf_counter()
        system = systems.pop()
        images = [list(prompt.images) for prompt in prompts]
        encoded = encode(self.loaded, images, [p.text for p in prompts], self.system if system is None else system)
        ids = generate(self.loaded, encoded, max_new_tokens)
        lengths = encoded.inputs["attention_mask"].sum(1).tolist()
        whole, _ = encoded.with_answers(ids, pad_id(self.loaded))
        check_fits(self.loaded.model.config, whole.inputs["attention_mask"], "prompt and answer are too long together")
        gazes = look(self.loaded, encoded, ids, self.layers, by_word=False) if self.gaze else [None] * len(prompts)
        seconds = (time.perf_counter() - began) / len(prompts)
        answers = []
        for b, gaze in enumerate(gazes):
            text = decode_answer(self.loaded, ids[b])
            fields = {
                "seconds": seconds,
                "n_image_tokens": int(encoded.image[b].sum()),
                "heights": [image.height for image in images[b]],
                "widths": [image.width for image in images[b]],
            }
            if gaze is not None:
                fields |= {"text_image_mass": gaze.mass} | geometry_fields(encoded.geometry[b])
            counts = TokenCounts(input_tokens=int(lengths[b]), output_tokens=len(ids[b]))
            answers.append(Answer(text, counts, fields=fields, arrays={} if gaze is None else {"own": gaze.map}))
        return answers

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise UsageError("loglikelihood: gapcheck's models answer in text; choose tasks of output type generate_until")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise UsageError("several rounds: gapcheck's models answer one turn; choose tasks of type generate_until")


class Lavit(GapcheckHF):
    """`gapcheck_hf` with the latent tokens of a LaViT checkpoint; `latents` as in `gapcheck analyze`."""

    def _own_options(self) -> tuple[str, ...]:
        return ("latents",)

    def _open(self, name: str, device: str, options: dict[str, Any]) -> LoadedModel:
        from lavit import checkpoint

        self.latents_mode = options.pop("latents", "force")
        return checkpoint.load(name, self.latents_mode, device=device, **options)

    def identity(self) -> list[Any]:
        return [*super().identity(), self.latents_mode]


def _counts(row: dict[str, Any]) -> TokenCounts:
    return TokenCounts(input_tokens=row["n_prompt_tokens"], output_tokens=row["n_tokens"])
