"""The training benchmark runs at tiny size and prints its tables; how long anything takes is never tested."""

from __future__ import annotations

import importlib
import json

import pytest
from click.testing import CliRunner

from benchmarks.speed import apart, training
from benchmarks.speed.extraction import bytes_a_trace


@pytest.fixture
def here(monkeypatch):
    """Measurements in this process: a process of its own for each would take most of a minute."""

    def run_here(module: str, settings: dict) -> dict:
        worker = importlib.import_module(module)
        return json.loads(json.dumps(worker.run_variant(worker.Measurement(**settings))))

    monkeypatch.setattr(apart, "run_apart", run_here)


def run(*arguments: str) -> str:
    tiny = ["--preset", "tiny", "--tokens", "16", "--batch", "2", "--repeats", "1", "--rounds", "1"]
    result = CliRunner().invoke(training.main, [*tiny, *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_each_loss_and_each_kind_of_checkpointing_has_a_line_and_the_bars_a_verdict(here, tmp_path):
    out = tmp_path / "results.json"
    lines = run("--out", str(out)).splitlines()
    assert lines[0].startswith("image tokens")
    titles = ("plain SFT", "full loss") * 2
    assert all(title in line for title, line in zip(titles, lines[2:6], strict=True))
    assert sum(line.startswith("16 image tokens, batch 2") and "bar 1.25" in line for line in lines) == 2, lines
    results = json.loads(out.read_text())["results"]
    assert [(r["variant"], r["checkpointing"]) for r in results] == [
        ("sft", False), ("full", False), ("sft", True), ("full", True),
    ]  # fmt: skip
    for result in results:
        terms = {"ntp", "concept", "trajectory"} if result["variant"] == "full" else {"ntp"}
        assert result["terms"].keys() == terms
        assert all(value > 0 for value in result["terms"].values())
    # Checkpointing recomputes the same step; the full batch has 4 latents and the closing token more a sample.
    assert results[3]["terms"] == pytest.approx(results[1]["terms"], rel=1e-4)
    assert results[1]["positions"] - results[0]["positions"] == 2 * 5


def test_a_teacher_is_measured_and_a_trace_weighed(here):
    lines = run("--traces", "--markdown").splitlines()
    assert [line.split("|")[4].strip() for line in lines[2:4]] == ["answers alone", "answers and traces"]
    assert lines[-1].startswith("bytes of one trace beside its image, V_sem of width 5120, 16 image tokens: ")


def test_a_trace_of_the_papers_teacher_takes_at_most_twelve_kilobytes():
    found = bytes_a_trace(1200, 5120, samples=50)
    assert 0.8 * 2 * 5120 < found["v_sem"] < found["parquet"] <= 12_000
    assert found["full"] == 1200 * (2 * 5120 + 4 + 16 + 8)


def test_a_measurement_that_fails_is_a_line_with_its_reason():
    good = {"seconds": 1.0, "seconds_min": 1.0, "peak_bytes": 10**9, "positions": 10}
    bad = {"failed": "CUDA out of memory"}
    for markdown in (False, True):
        text = training.table({(16, 1, False): {"sft": good, "full": bad}}, markdown)
        assert "full loss" in text
        assert "not run: CUDA out of memory" in text
    assert training.bars({(16, 1, False): {"sft": good, "full": bad}}) == []
