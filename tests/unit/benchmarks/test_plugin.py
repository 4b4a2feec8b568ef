"""Our models as lmms-eval's own evaluator uses them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.models import get_model, list_available_models
from lmms_eval.tasks import TaskManager

from benchmarks.plugin import GapcheckHF, Lavit
from benchmarks.suites.catalog import SCENES_FOLDER
from benchmarks.suites.tasks import open_suites
from perception_gap.errors import UsageError

ALONE = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def evaluate(arguments: str, folder: Path, model: str = "lavit") -> list[str]:
    """Answers to seven scenes by lmms-eval's evaluator, in the order of the questions."""
    tasks = TaskManager(include_path=str(SCENES_FOLDER), include_defaults=False)
    here = Path.cwd()
    os.chdir(folder)  # the definition draws into runs/scenes
    try:
        found = simple_evaluate(model=model, model_args=arguments, tasks=["scenes_relative_depth"], limit=7,
                                task_manager=tasks, batch_size=2, device="cpu")  # fmt: skip
    finally:
        os.chdir(here)
    assert found is not None
    rows = sorted(found["samples"]["scenes_relative_depth"], key=lambda row: row["doc_id"])
    return [row["filtered_resps"][0] for row in rows]


def asked(model: GapcheckHF, folder: Path) -> list[str]:
    """The same questions put to the model directly."""
    (suite,) = open_suites(["scenes_relative_depth"], None, folder, limit=7)
    model.task_dict = {suite.name: {suite.split: suite.docs}}
    return [answer.text for answer in model.generate_until([suite.request(i) for i in range(7)])]


def test_lmms_eval_knows_both_models():
    assert {"gapcheck_hf", "lavit"} <= set(list_available_models())
    assert get_model("lavit") is Lavit


def test_lmms_evals_evaluator_gets_the_same_answers(tmp_path):
    direct = asked(Lavit("tiny:lavit"), tmp_path / "drawn")
    assert evaluate("pretrained=tiny:lavit", tmp_path) == direct
    assert len(set(direct)) > 1


def test_a_store_answers_a_second_evaluation(tmp_path):
    first = evaluate(f"pretrained=tiny:lavit,store={tmp_path / 'store'}", tmp_path)
    parts = {p: p.stat().st_mtime_ns for p in (tmp_path / "store" / "parts").iterdir()}
    assert len([p for p in parts if p.suffix == ".parquet"]) == 4  # a batch each: 2, 2, 2, 1
    assert evaluate(f"pretrained=tiny:lavit,store={tmp_path / 'store'}", tmp_path) == first
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "store" / "parts").iterdir()} == parts
    evaluate(f"pretrained=tiny:lavit,latents=none,store={tmp_path / 'store'}", tmp_path)
    assert len(list((tmp_path / "store" / "parts").glob("*.parquet"))) == 8  # another treatment is another answer


def test_latents_are_inserted_by_lavit_alone(tmp_path):
    (suite,) = open_suites(["scenes_iq"], None, tmp_path, limit=1)
    lengths = {}
    for name, model in (("plain", GapcheckHF("tiny:lavit")), ("force", Lavit("tiny:lavit")),
                        ("none", Lavit("tiny:lavit", latents="none"))):  # fmt: skip
        model.task_dict = {suite.name: {suite.split: suite.docs}}
        (answer,) = model.generate_until([suite.request(0)])
        assert answer.token_counts is not None
        lengths[name] = answer.token_counts.input_tokens
    assert lengths["force"] - lengths["none"] >= 4
    assert lengths["plain"] <= lengths["none"]


def test_unknown_model_arguments_are_refused():
    with pytest.raises(UsageError, match="'pretrainedd': expected one of pretrained, batch_size"):
        GapcheckHF("tiny:student", pretrainedd="x")
    with pytest.raises(UsageError, match="'latents'"):
        GapcheckHF("tiny:student", latents="mask")
    with pytest.raises(UsageError, match="layers"):
        GapcheckHF("tiny:student", gaze=True, layers="last99")


def test_the_kernel_and_what_was_asked_are_part_of_the_identity():
    plain = GapcheckHF("tiny:student").identity()
    others = [
        GapcheckHF("tiny:student", **more).identity()
        for more in ({"attn": "eager"}, {"system": "s"}, {"gaze": True}, {"max_pixels": 256**2}, {"dtype": "bfloat16"})
    ]
    assert len({str(identity) for identity in (plain, *others)}) == 6
    assert GapcheckHF("tiny:student", batch_size=2).identity() == plain


def test_clean_keeps_the_model(tmp_path):
    model = GapcheckHF("tiny:student")
    before = asked(model, tmp_path)
    model.clean()
    assert asked(model, tmp_path) == before


def test_two_processes_of_lmms_eval_share_the_questions(tmp_path):
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [sys.executable, *two, "-m", "lmms_eval",
               "--model", "lavit", "--model_args", "pretrained=tiny:lavit,store=store", "--include_path",
               str(SCENES_FOLDER), "--tasks", "scenes_relative_depth", "--limit", "7", "--batch_size", "2",
               "--output_path", "out", "--log_samples"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, env=ALONE, capture_output=True, text=True)
    (written,) = (tmp_path / "out").rglob("*samples_scenes_relative_depth.jsonl")
    rows = [json.loads(line) for line in written.read_text().splitlines()]
    assert sorted(row["doc_id"] for row in rows) == list(range(7)), done.stderr[-2000:]
    found = [row["filtered_resps"] for row in sorted(rows, key=lambda row: row["doc_id"])]
    direct = asked(Lavit("tiny:lavit"), tmp_path / "drawn")
    assert [f[0] if isinstance(f, list) else f for f in found] == direct
