"""Everything that decides a training run, and the named configurations of it, each value with its source."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from perception_gap.errors import UsageError

A1 = "LaViT, table A1"
SIGNALS = ("teacher", "shuffled", "boxes")


@dataclass(frozen=True)
class TrainSettings:
    """One complete training configuration; `train.json` keeps it. Defaults are the paper's (see SOURCES)."""

    # student
    n_latents: int = 4
    latent_names: str = "<v-trace{}>"
    latent_kind: str = "token"
    closing_token: str = ""
    system: str = "paper"  # the prompt of appendix C in our words; "": none; any other text: itself
    # loss
    semantic_weight: float = 0.3
    trajectory_weight: float = 0.3
    supervise: str = "last"
    gaze_layers: str = "all"
    ntp_on_latents: bool = False
    gaze_from: str = "teacher"
    semantics_from: str = "teacher"
    answers: str = "teacher"
    # gate
    gate: str = "cosine"
    gate_warmup: int = 400
    gate_epsilon: float = 1e-6
    # optimiser
    steps: int = 1000
    batch_size: int = 16
    accumulation: int = 1
    learning_rate: float = 5e-6
    scheduler: str = "linear"
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    max_grad_norm: float = 1.0
    seed: int = 0
    # model
    freeze_vision: bool = True
    min_pixels: int = 200704  # 0: the checkpoint's own
    max_pixels: int = 1003520
    bf16: bool = False
    checkpointing: bool = False
    lora_rank: int = 0  # 0: full training

    def __post_init__(self) -> None:
        for name in ("gaze_from", "semantics_from"):
            if getattr(self, name) not in SIGNALS or (name == "semantics_from" and self.semantics_from == "boxes"):
                raise UsageError(
                    f"{name} {getattr(self, name)!r}: expected one of {', '.join(SIGNALS[:2])} (gaze: boxes)"
                )
        choices = {
            "gate": ("cosine", "hard", "constant"),
            "supervise": ("last", "all"),
            "latent_kind": ("token", "continuous"),
            "answers": ("teacher", "reference"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name} {getattr(self, name)!r}: expected one of {', '.join(known)}")
        if not 0 <= self.gate_epsilon <= 1:
            raise UsageError(f"gate_epsilon {self.gate_epsilon}: expected 0 to 1")
        if not self.n_latents and (self.semantic_weight > 0 or self.trajectory_weight > 0):
            raise UsageError(
                "n_latents 0 with semantic_weight or trajectory_weight above 0: both terms live on the latents; "
                "expected at least one latent, or both weights 0 (preset naive-sft)"
            )
        if self.lora_rank and not self.freeze_vision:
            raise UsageError("lora_rank with freeze_vision=false: adapters stand in the language model alone; drop one")
        positive = ("steps", "batch_size", "accumulation", "learning_rate")
        if not (0 <= self.adam_beta1 < 1 and 0 <= self.adam_beta2 < 1):
            raise UsageError(f"adam_beta1 {self.adam_beta1}, adam_beta2 {self.adam_beta2}: expected 0 to below 1")
        for name, value in asdict(self).items():
            if isinstance(value, str):
                continue
            if not math.isfinite(value) or value < 0 or (name in positive and value == 0):
                raise UsageError(f"{name} {value}: expected {'more than' if name in positive else 'at least'} 0")
        if self.batch_size % self.accumulation:
            raise UsageError(
                f"batch_size {self.batch_size} with accumulation {self.accumulation}: expected a multiple (batch_size "
                "counts the samples of one optimiser step)"
            )


@dataclass(frozen=True)
class Preset:
    """A named configuration: how it differs from the paper's, and why (key → source or reason)."""

    about: str
    changes: dict[str, Any]
    why: dict[str, str]


_IN_A1 = (
    "n_latents",
    "gate_warmup",
    "gate_epsilon",
    "steps",
    "batch_size",
    "accumulation",
    "learning_rate",
    "scheduler",
    "warmup_ratio",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "freeze_vision",
    "min_pixels",
    "max_pixels",
)
SOURCES: dict[str, str] = dict.fromkeys(_IN_A1, A1) | {
    "latent_names": "LaViT, section 4.2",
    "latent_kind": "LaViT, section 4.2",
    "closing_token": "LaViT has none",
    "system": "LaViT, appendix C (the prompt in our words)",
    "semantic_weight": f"{A1} (lambda)",
    "trajectory_weight": f"{A1} (lambda)",
    "supervise": "LaViT, appendix C.2 (eq. 7 sums over all)",
    "gaze_layers": "LaViT, section 3.1 (release: last8)",
    "ntp_on_latents": "LaViT, eq. 9 (release: True)",
    "gaze_from": "LaViT, eq. 7",
    "semantics_from": "LaViT, eq. 6",
    "answers": "LaViT, section 4.1: the teacher's, which match the reference",
    "gate": "LaViT, eq. 5",
    "max_grad_norm": "transformers' default, which the release keeps",
    "seed": "ours",
    "bf16": "ours: off, so that a CPU runs it; the release trains in bf16",
    "checkpointing": "ours: off; the release has it on",
    "lora_rank": f"{A1} (the language model is trained whole)",
}

_CLOSED = "ours: without it the last latent itself predicts the first answer token, ungated"
_TABLE3, _TABLE_A2 = "LaViT, table 3", "LaViT, table A2"
_SFT = "LaViT, table 1 (naive SFT)"
_CONTROL = "ours: control"


def _preset(about: str, closing: bool = True, **changes: tuple[Any, str]) -> Preset:
    """changes: setting → (value, why)."""
    if closing:
        changes["closing_token"] = ("</v-trace>", _CLOSED)
    values = {name: value for name, (value, _) in changes.items()}
    return Preset(about, values, {name: why for name, (_, why) in changes.items()})


PRESETS: dict[str, Preset] = {
    "paper": _preset("the method as published (table A1)", closing=False),
    "released": _preset(
        "what the released scripts effectively run: no gate, no gaze loss, latents predicted",
        closing=False,
        gate=("constant", "release: the mask blocks nothing"),
        trajectory_weight=(0.0, "release: the term always raises and is 0"),
        weight_decay=(0.1, "release, scripts"),
        accumulation=(16, "release, scripts: 1 × 16"),
        max_pixels=(4194304, "release, scripts"),
        latent_names=("<lvr{}>", "release"),
        ntp_on_latents=(True, "release, labels"),
        system=("", "release: none"),
    ),
    "naive-sft": _preset(
        "the control: same data, text loss only",
        closing=False,
        n_latents=(0, _SFT),
        semantic_weight=(0.0, _SFT),
        trajectory_weight=(0.0, _SFT),
        gate=("constant", _SFT),
    ),
    "latents-only": _preset(
        "the control for extra tokens: λ = 0, the gate as in the paper",
        semantic_weight=(0.0, _CONTROL),
        trajectory_weight=(0.0, _CONTROL),
    ),
    "no-trajectory": _preset("w/o trajectory alignment", trajectory_weight=(0.0, _TABLE3)),
    "no-semantic": _preset("w/o semantic reconstruction", semantic_weight=(0.0, _TABLE3)),
    "hard-gate": _preset("w/o curriculum: γ = 0, then 1", gate=("hard", _TABLE3)),
    "single-stage": _preset("γ = 1 always", gate=("constant", _TABLE3)),
    "k6": _preset("six latents", n_latents=(6, _TABLE_A2)),
    "k8": _preset("eight latents", n_latents=(8, _TABLE_A2)),
    "shuffled-gaze": _preset(
        "negative control: the gaze of another sample of the same task and grid",
        gaze_from=("shuffled", "ours, after arXiv 2004.05704: if it helps as much, the gain is regularisation"),
    ),
    "shuffled-semantics": _preset(
        "negative control: V_sem of another sample", semantics_from=("shuffled", "as shuffled-gaze")
    ),
    "box-gaze": _preset("the oracle: the reference boxes as gaze", gaze_from=("boxes", "ours: oracle")),
    "ours": _preset(
        "the paper's with a closing token: what the ablations differ from by one thing; no better on the tiny pair"
    ),
}

# What a model of a million parameters needs: optimiser and steps, and the image size that it was built for.
TINY: dict[str, Any] = {
    "learning_rate": 1e-3,
    "steps": 400,
    "batch_size": 64,
    "accumulation": 1,
    "gate_warmup": 160,
    "max_grad_norm": 1.0,
    "system": "",
    "min_pixels": 0,
    "max_pixels": 0,
}
TINY_WHY = (
    "--scale tiny: learning rate 5e-6 moves a tiny model nowhere; the gate's warm-up stays 40 % of the steps; "
    "128 px images; no system prompt, which a tokenizer of 401 tokens spells out in a hundred and more"
)
SCALES: dict[str, dict[str, Any]] = {"full": {}, "tiny": TINY}


def settings_of(preset: str, scale: str = "full", changes: dict[str, Any] | None = None) -> TrainSettings:
    """A preset at a scale with a user's changes; UsageError names an unknown preset, scale or key."""
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}: expected one of {', '.join(PRESETS)}")
    if scale not in SCALES:
        raise UsageError(f"unknown scale {scale!r}: expected one of {', '.join(SCALES)}")
    chosen = PRESETS[preset].changes | SCALES[scale] | (changes or {})
    known = {f.name for f in fields(TrainSettings)}
    unknown = sorted(chosen.keys() - known)
    if unknown:
        raise UsageError(f"unknown setting {unknown[0]!r}: expected one of {', '.join(sorted(known))}")
    return replace(TrainSettings(), **chosen)


def parse_changes(pairs: Iterable[str]) -> dict[str, Any]:
    """`key=value` texts as settings of their types; UsageError names the pair and what was expected."""
    types = {f.name: type(getattr(TrainSettings(), f.name)) for f in fields(TrainSettings)}
    changes: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in types:
            raise UsageError(f"--set {pair!r}: expected KEY=VALUE with KEY one of {', '.join(sorted(types))}")
        changes[name] = _value(pair, text, types[name])
    return changes


def _value(pair: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UsageError(f"--set {pair!r}: expected true or false")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"--set {pair!r}: expected {'a whole number' if kind is int else 'a number'}") from None


def described(preset: str, settings: TrainSettings, scale: str = "full") -> list[tuple[str, Any, str]]:
    """(key, value, source) of every setting of a run, for `gapcheck train --show`."""
    why = SOURCES | PRESETS[preset].why
    base, scaled = settings_of(preset), settings_of(preset, scale)

    def source(key: str, value: Any) -> str:
        if value == getattr(base, key):
            return why[key]
        return f"--scale {scale}" if value == getattr(scaled, key) else "--set"

    return [(key, value, source(key, value)) for key, value in asdict(settings).items()]
