"""Presets are complete, sourced, and refuse what they do not know."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import pandas as pd
import pytest
from transformers import TrainingArguments

from lavit.settings import PRESETS, SOURCES, TINY, TrainSettings, described, parse_changes, settings_of
from perception_gap.errors import UsageError

PAPER = Path(__file__).parents[4] / "shared" / "paper" / "tableA1_hyperparameters.csv"


def test_every_setting_has_a_source_and_every_change_of_a_preset_a_reason():
    assert SOURCES.keys() == {f.name for f in fields(TrainSettings)}
    for name, preset in PRESETS.items():
        base = asdict(TrainSettings())
        changed = {key for key, value in asdict(settings_of(name)).items() if value != base[key]}
        assert changed <= preset.why.keys(), name


@pytest.mark.skipif(not PAPER.exists(), reason="the paper's tables are not beside this checkout")
def test_the_paper_preset_is_table_a1():
    table = pd.read_csv(PAPER).set_index("parameter")["value"]
    settings = settings_of("paper")
    names = {
        "learning_rate": "learning_rate", "lr_scheduler": "scheduler", "warmup_ratio": "warmup_ratio",
        "adam_beta1": "adam_beta1", "adam_beta2": "adam_beta2", "weight_decay": "weight_decay",
        "total_steps": "steps", "batch_size": "batch_size", "gradient_accumulation": "accumulation",
        "num_latent_tokens": "n_latents", "max_pixels": "max_pixels", "min_pixels": "min_pixels",
        "lambda": "trajectory_weight", "warmup_steps": "gate_warmup", "epsilon": "gate_epsilon",
    }  # fmt: skip
    for parameter, name in names.items():
        value = getattr(settings, name)
        assert value == type(value)(table[parameter] if isinstance(value, str) else float(table[parameter])), name
    assert settings.freeze_vision
    assert settings.semantic_weight == settings.trajectory_weight


def test_the_tiny_scale_changes_optimiser_steps_and_image_size_only():
    for name in PRESETS:
        full, tiny = asdict(settings_of(name)), asdict(settings_of(name, "tiny"))
        assert {key for key in full if full[key] != tiny[key]} <= TINY.keys()
        assert tiny["gate_warmup"] / tiny["steps"] == pytest.approx(0.4)


def test_changes_take_the_type_of_their_setting():
    found = parse_changes(["steps=7", "learning_rate=1e-4", "bf16=true", "closing_token=", "gate=hard"])
    assert found == {"steps": 7, "learning_rate": 1e-4, "bf16": True, "closing_token": "", "gate": "hard"}
    assert settings_of("paper", changes=found) == replace(settings_of("paper"), **found)


@pytest.mark.parametrize(
    ("pair", "said"),
    [("step=7", "KEY one of"), ("steps", "KEY=VALUE"), ("steps=1.5", "whole number"), ("bf16=yes", "true or false"),
     ("learning_rate=fast", "a number")],
)  # fmt: skip
def test_what_is_no_change_is_refused(pair, said):
    with pytest.raises(UsageError, match=said):
        parse_changes([pair])


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"learning_rate": float("nan")}, {"weight_decay": -0.1}, {"gate": "soft"}, {"gaze_from": "box"},
     {"semantics_from": "boxes"}, {"batch_size": 6, "accumulation": 4}, {"n_latents": -1}],
)  # fmt: skip
def test_values_out_of_range_are_refused(change):
    with pytest.raises(UsageError, match=next(iter(change))):
        settings_of("paper", changes=change)


def test_a_change_is_shown_as_this_runs():
    rows = {key: source for key, _, source in described("ours", settings_of("ours", changes={"steps": 5}))}
    assert rows["steps"] == "--set"
    assert "table A1" in rows["learning_rate"]
    assert "ungated" in rows["closing_token"]


def test_the_shipped_fsdp_configuration_is_one_that_trainer_takes(tmp_path):
    shipped = json.loads((Path(__file__).parents[3] / "lavit" / "configs" / "fsdp.json").read_text())
    found = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, **shipped | {"bf16": False})
    assert found.fsdp_plugin_args["fsdp_version"] == 2
    assert found.fsdp_plugin_args["transformer_cls_names_to_wrap"] == "Qwen2_5_VLDecoderLayer"
