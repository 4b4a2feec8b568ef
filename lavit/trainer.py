"""transformers' Trainer for the three-term loss: counts of the whole optimiser step, the gate, atomic checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import ProgressCallback, Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from lavit import checkpoint, losses, manifest
from lavit.gating import gamma
from lavit.resume import LOG, WRITING, checkpoints, log_row, step_of
from lavit.settings import TrainSettings
from lavit.student import LavitStudent
from perception_gap.errors import GapcheckError, one_line

TERMS = ("ntp", "concept", "trajectory")


class LavitTrainer(Trainer):
    """`processor` and `facts` go into every checkpoint, `key` (see `lavit.checks.key_of`) into its manifest.

    Each term of each step becomes a line of log.jsonl in the training folder.
    """

    def __init__(
        self,
        student: LavitStudent,
        settings: TrainSettings,
        processor: Any,
        facts: dict[str, Any],
        key: str,
        **options: Any,
    ) -> None:
        super().__init__(model=student, **options)
        self.student, self.settings, self.processor = student, settings, processor
        self.facts, self.key, self.out = facts, key, Path(str(self.args.output_dir))
        self.weights = {"ntp": 1.0, "concept": settings.semantic_weight, "trajectory": settings.trajectory_weight}
        self.loss_is_scaled_for_ga = True  # by the counts of the whole step
        self.model_accepts_loss_kwargs = True  # the same, for older versions of transformers
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, float] = {}

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor:
        """[3]: answer tokens, samples with V_sem, samples with gaze, over all processes and accumulated batches.

        They, not the local ones, divide the terms: means of means would weigh a short batch's tokens more.
        """
        predicted = "ntp_on_latents" if self.settings.ntp_on_latents else ""
        counts = torch.zeros(4, dtype=torch.float64)
        for batch in batch_samples:
            tokens = batch["answer"] | batch["latent"] if predicted else batch["answer"]
            of_batch = [float(flags.sum()) for flags in (tokens, batch["has_v_sem"], batch["has_gaze"])]
            counts += torch.tensor([*of_batch, len(batch["ids"])])
        self._sums = {}
        whole = self.accelerator.reduce(counts.to(device, torch.float32), reduction="sum")
        self._counts = dict(zip((*TERMS, "samples"), whole.tolist(), strict=True))
        return whole

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        terms = model(inputs, gamma=self.gamma())
        for name, values in terms.items():
            if not torch.isfinite(values).all():
                bad = [inputs["ids"][b] for b in (~torch.isfinite(values)).nonzero().flatten().tolist()]
                raise GapcheckError(
                    f"step {self.state.global_step}: {name} is not finite for sample {', '.join(bad)}; lower the "
                    "learning rate (--set learning_rate=..), or look at that sample; the last checkpoint stays valid"
                )
            self._sums[name] = self._sums.get(name, 0) + values.detach().sum()
        # DDP averages gradients over processes; the counts are already those of all of them.
        loss = losses.total(terms, self.weights, self._counts) * self.accelerator.num_processes
        return (loss, terms) if return_outputs else loss

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """As Trainer; under LoRA without the embeddings, whose old rows must not decay."""
        names = super().get_decay_parameter_names(model)
        return [n for n in names if "lora_" in n or n.startswith("head.")] if self.student.adapted else names

    def gamma(self) -> float:
        """γ of the step that is being taken."""
        s = self.settings
        return gamma(self.state.global_step, s.gate_warmup, s.gate_epsilon, s.gate)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As Trainer, with the terms of the step beside its loss; the main process also writes them to log.jsonl."""
        norm = logs.get("grad_norm")
        if norm is not None and not math.isfinite(norm):  # said before a checkpoint could hold the broken weights
            raise GapcheckError(
                f"step {self.state.global_step}: the gradient is not finite; lower the learning rate "
                "(--set learning_rate=..); the last checkpoint stays valid"
            )
        if "loss" in logs and self._sums:
            names = sorted(self._sums)
            sums = self.accelerator.reduce(torch.stack([self._sums[n].float() for n in names]), reduction="sum")
            for name, value in zip(names, sums.tolist(), strict=True):
                count = self._counts[name]
                logs[name] = value / count if count else math.nan
                if name != "ntp":
                    logs[f"{name}_missing"] = self._counts["samples"] - count
            s = self.settings
            logs["gamma"] = gamma(self.state.global_step - 1, s.gate_warmup, s.gate_epsilon, s.gate)
            # Trainer averages what each process multiplied by their number.
            logs["loss"] = sum(self.weights[n] * logs[n] for n in names if not math.isnan(logs[n]))
            if self.is_world_process_zero():
                with (self.out / LOG).open("a") as file:
                    file.write(log_row(self.state.global_step, logs))
        super().log(logs, start_time)

    def _run_epoch(self, *arguments: Any, **options: Any) -> None:
        """As Trainer, but no step beyond the last: killed behind that, a training has only its model to write."""
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*arguments, **options)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not self.args.should_save:
            return
        facts = self.facts | {"step": self.state.global_step}
        student = self.accelerator.unwrap_model(self.model)
        checkpoint.save(Path(output_dir or self.out), student, self.processor, facts, state_dict)

    def _save_checkpoint(self, model, trial) -> None:
        """Written aside and moved when whole, so that a full disk leaves the checkpoint before it valid."""
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        self._writing = self.out / WRITING
        try:
            with self.written_whole(self._writing / name):
                super()._save_checkpoint(model, trial)
        finally:
            self._writing = None
        if self.is_world_process_zero():
            manifest.move(self.out / WRITING / name, self.out / name)
            manifest.delete(self.out / WRITING)
            self.forget_old()
        self.accelerator.wait_for_everyone()

    def forget_old(self) -> None:
        """Delete all but the newest checkpoints; damaged ones of later steps do not count."""
        earlier = [c for c in checkpoints(self.out) if step_of(c) <= self.state.global_step]
        for old in earlier[: -max(1, self.args.save_total_limit or 1)]:
            manifest.delete(old)

    @contextmanager
    def written_whole(self, folder: Path) -> Iterator[None]:
        """Writes the manifest behind a folder's files. GapcheckError where they cannot be written (a full disk)."""
        try:
            yield
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                manifest.write(folder, self.key)
        except (OSError, SafetensorError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not is_write_error(error):
                raise
            if folder.is_dir():
                manifest.delete(folder)
            raise GapcheckError(
                f"the weights of step {self.state.global_step} cannot be written to {folder} "
                f"({one_line(str(error).splitlines()[0])}); the last whole checkpoint stays valid: make room, repeat "
                "the command"
            ) from None

    _writing: Path | None = None

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._writing) if self._writing else super()._get_output_dir(trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """The weights of a checkpoint folder of ours; sharded ones are the library's own."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        load_weights(Path(resume_from_checkpoint), self.accelerator.unwrap_model(model or self.model))


def is_write_error(error: RuntimeError) -> bool:
    """Whether torch.save's zip writer failed: a full disk is a RuntimeError to it, in one of several wordings."""
    return any(words in str(error) for words in ("PytorchStreamWriter", "inline_container", "iostream error"))


def load_weights(folder: Path, student: LavitStudent) -> None:
    """Put the weights of a saved checkpoint into a student of the same make."""
    if student.adapted:
        student.load_state_dict(load_file(folder / checkpoint.ADAPTED), strict=False)
        return
    weights = type(student.base).from_pretrained(folder, dtype="auto", use_safetensors=True).state_dict()
    student.base.load_state_dict(weights)
    if student.head is not None:
        student.head.load_state_dict(load_file(folder / "lavit_heads.safetensors"))


class Bar(ProgressCallback):
    """One line that moves, with the terms behind it, instead of a line a step."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Terms of the step just taken."""
        if self.training_bar is not None and logs:
            shown = {n: f"{logs[n]:.3f}" for n in (*TERMS, "gamma") if n in logs}
            self.training_bar.set_postfix(shown, refresh=False)
