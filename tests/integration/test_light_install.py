"""Without the extras: what measures runs, and what needs one names it in one line."""

from __future__ import annotations

import pytest

from perception_gap.cli.extras import EXTRAS
from tests.light import PROJECT, closure, gapcheck_without, modules_outside, name_of

NOT_HERE = ", which is not installed; pip install 'perception-gap"


@pytest.fixture(scope="module")
def light() -> set[str]:
    """The modules that `pip install perception-gap` does not bring."""
    absent = modules_outside(closure(PROJECT["dependencies"]))
    assert {"lmms_eval", "peft", "statsmodels", "pytest"} <= absent
    assert not {"torch", "pandas", "accelerate", "yaml", "dateutil"} & absent
    return absent


def test_the_extras_are_those_of_the_project():
    listed = {extra: {name_of(line) for line in PROJECT["optional-dependencies"][extra]} for extra in EXTRAS}
    assert {extra: set(entry.packages.values()) for extra, entry in EXTRAS.items()} == listed
    assert PROJECT["optional-dependencies"]["all"] == [f"perception-gap[{','.join(EXTRAS)}]"]


def test_measuring_and_training_need_no_extra(light, tmp_path):
    analyze = ["analyze", "tiny:student", "--teacher", "tiny:teacher", "--limit", 4, "--out", "run"]
    trace = ["trace", "tiny:teacher", "--limit", 6, "--no-difficulty", "--no-correctness", "--out", "traces"]
    train = ["train", "tiny:student", "--traces", "traces", "--scale", "tiny", "--out", "trained"]
    train += ["--set", "steps=1", "--set", "batch_size=2"]
    report = ["report", "run", "--out", "page.html"]
    tables = ["tables", "run", "--as", "table2"]
    *measured, lora = gapcheck_without(
        light, analyze, trace, train, report, tables, [*train, "--fresh", "--set", "lora_rank=2"], cwd=tmp_path
    )
    assert [outcome for outcome in measured if outcome.status] == []
    assert all((tmp_path / path).exists() for path in ("run/figures", "page.html", "trained/model"))
    assert lora.status == 2
    assert lora.stderr.endswith(f"error: train needs peft{NOT_HERE}[train]'\n")


def test_what_needs_an_extra_names_it_in_one_line(light, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "tiny:student"}')
    bench, reproduce, adapted, doctor = gapcheck_without(
        light,
        ["bench", "tiny:student", "--limit", 1],
        ["reproduce", "table1", "--tiny"],
        ["analyze", adapter, "--limit", 1],
        ["doctor"],
        cwd=tmp_path,
    )
    assert (bench.status, reproduce.status, adapted.status, doctor.status) == (2, 2, 2, 0)
    assert bench.stderr == f"gapcheck: error: bench needs lmms-eval{NOT_HERE}[bench]'\n"
    assert reproduce.stderr == f"gapcheck: error: reproduce table1 needs lmms-eval{NOT_HERE}[bench]'\n"
    assert adapted.stderr.endswith(f"gapcheck: error: analyze needs peft{NOT_HERE}[train]'\n")
    assert "bench  missing lmms-eval, statsmodels (bench; " in doctor.stdout
    assert "train  missing peft (train with lora_rank; PEFT adapters as models); pip install" in doctor.stdout


def test_a_part_of_an_extra_is_named_too(tmp_path):
    (bench,) = gapcheck_without({"statsmodels"}, ["bench", "tiny:student", "--limit", 1], cwd=tmp_path)
    assert bench.status == 2
    assert bench.stderr.endswith(f"gapcheck: error: bench needs statsmodels{NOT_HERE}[bench]'\n")
