"""Prompts and verdicts are lmms-eval's own: compared with its own task, built by its own download on the same rows."""

from __future__ import annotations

import base64
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
import lmms_eval.tasks
import pytest
from lmms_eval import utils
from lmms_eval.api.task import ConfigurableMessagesTask
from lmms_eval.tasks import TaskManager, get_task_dict

from benchmarks.suites import tasks as tasks_module
from benchmarks.suites.catalog import PAPER, SCENES, SCENES_FOLDER
from benchmarks.suites.docs import Docs, undecoded
from benchmarks.suites.tasks import Suite, open_suites
from perception_gap.data.jsonl import read_jsonl
from perception_gap.data.scenes_files import write_scenes
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.text.scoring import score
from tests.benchmark_data import BLINK, encoded, write_paper


def test_scores_on_a_scale_of_their_own_and_error_rates_are_no_verdicts(tmp_path):
    (suite,) = open_suites(["scenes_iq"], None, tmp_path, limit=1)
    assert suite.scores([{"accuracy": 1.0}, {"accuracy": 0.25}, None]) == [1.0, 0.25, None]
    assert suite.scores([{"accuracy": 1.0}, {"accuracy": 4.0}]) == [None, None]
    suite.task._higher_is_better["accuracy"] = False
    assert suite.scores([{"accuracy": 1.0}]) == [None]


def test_tasks_with_examples_are_refused_before_their_data_are_looked_for(tmp_path):
    with pytest.raises(UsageError, match="task gsm8k: shows 5 examples first"):
        open_suites(["gsm8k"], tmp_path, tmp_path)


def verdict(suite: Suite, values: dict | None) -> float | None:
    """One sample's score."""
    return suite.scores([values])[0]


LIBRARY = Path(lmms_eval.tasks.__file__).parent
N = 4
BLINK_TASKS = {f"blink_{subset.lower().replace('-', '_')}": subset for subset in BLINK}
VSTAR_FILE = "lmms-lab-encoder/vstar-bench/data/test-00000-of-00001.parquet"
# task → its YAML in lmms-eval and its rows
FILES = {
    "mmvp": ("mmvp/mmvp.yaml", "mmvp.parquet"),
    "vstar_bench_direct_attributes": ("vstar_bench/vstar_bench_direct_attributes.yaml", VSTAR_FILE),
    "vstar_bench_relative_position": ("vstar_bench/vstar_bench_relative_position.yaml", VSTAR_FILE),
    "mmstar": ("mmstar/mmstar.yaml", "Lin-Chen/MMStar/mmstar.parquet"),
    "hrbench4k": ("hrbench/hrbench4k.yaml", "DreamMr/HR-Bench/hr_bench_4k.parquet"),
} | {
    task: (f"blink/{task}.yaml", f"BLINK-Benchmark/BLINK/{subset}/val-00000-of-00001.parquet")
    for task, subset in BLINK_TASKS.items()
}
# All have a letter or an option's text for HR-Bench's reader, which would ask a judge otherwise.
ANSWERS = ["A", "(B)", "The answer is C.", "<think>Is it A?</think>D"]


@dataclass
class Data:
    root: Path
    suites: dict[str, Suite]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Iterator[Data]:
    folder = tmp_path_factory.mktemp("suites")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        patch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)  # lmms-eval's download would tell the hub
        patch.delenv("OPENAI_API_KEY", raising=False)
        root = write_paper(folder / "data", N)
        suites = {suite.name: suite for suite in open_suites(list(FILES), root, folder / "work")}
        # The copy of MMVP that lmms-eval reads from the hub: the authors' rows as one Parquet file.
        suites["mmvp"].docs.table.cast_column("image", datasets.Image()).to_parquet(str(root / "mmvp.parquet"))
        yield Data(root, suites)


def reference(task: str, root: Path) -> ConfigurableMessagesTask:
    """lmms-eval's own object, its data overridden as its documentation says."""
    yaml, file = FILES[task]
    config = utils.load_yaml_config(str(LIBRARY / yaml), mode="full")
    split = config["test_split"]
    config |= {"dataset_path": "parquet", "dataset_kwargs": {"data_files": {split: str(root / file)}}}
    config.pop("dataset_name", None)
    return ConfigurableMessagesTask(config=config, model_name="gapcheck_hf")


def rows_of(task: str, own: ConfigurableMessagesTask) -> list[int]:
    """Which rows of the file the task has: V*'s two categories take turns in theirs."""
    first = {"vstar_bench_direct_attributes": 0, "vstar_bench_relative_position": 1}.get(task)
    every = range(len(own.test_docs()))
    return list(every if first is None else every[first::2])


def plain(messages: list[dict]) -> list:
    """Messages with pictures as what can be compared."""
    found = []
    for message in messages:
        parts = [
            (part["type"], part["text"])
            if part["type"] == "text"
            else (part["type"], part["url"].mode, part["url"].size, part["url"].tobytes())
            for part in message["content"]
        ]
        found.append((message["role"], parts))
    return found


def broken(suite: Suite, **columns) -> Suite:
    """The suite over a changed first row."""
    table = undecoded(suite.docs.table)
    rows = [dict(table[i]) for i in range(len(table))]
    rows[0] |= columns
    changed = datasets.Dataset.from_list(rows, features=table.features)
    return Suite(suite.name, suite.task, Docs(undecoded(changed)), suite.split)


@pytest.mark.parametrize("task", FILES)
def test_messages_are_those_of_lmms_evals_own_task(task, data):
    own, suite = reference(task, data.root), data.suites[task]
    rows = rows_of(task, own)
    assert len(rows) == len(suite) == N
    for i, row in enumerate(rows):
        assert plain(suite.messages(i)) == plain(own.doc_to_messages(own.test_docs()[row]))


@pytest.mark.parametrize("task", FILES)
def test_generation_settings_are_those_of_lmms_evals_own_task(task, data):
    own = reference(task, data.root)
    metadata = {"task": task, "doc_id": 0, "repeats": 1, "split": own.config.test_split}
    expected = own.construct_requests(doc_id=0, ctx="", metadata=metadata)
    request = data.suites[task].request(0)
    assert request.request_type == expected.request_type == "generate_until"
    for suite_argument, argument in zip(request.args, expected.args, strict=True):
        if not callable(argument):
            assert suite_argument == argument


@pytest.mark.parametrize("task", FILES)
def test_verdicts_and_figures_are_those_of_lmms_evals_own_task(task, data):
    own, suite = reference(task, data.root), data.suites[task]
    rows = rows_of(task, own)
    said = [answer.rpartition("</think>")[2] for answer in ANSWERS]  # as lmms-eval's command line hands them on
    expected = [own.process_results(own.eval_docs_no_media[row], [a]) for row, a in zip(rows, said, strict=True)]
    found = suite.verdicts(ANSWERS)
    assert [values for values, _ in found] == expected
    assert {error for _, error in found} == {None}
    figures = suite.aggregate(expected)
    for name, function in own.aggregation().items():
        given = [values[name] for values in expected if name in values]
        if not given:
            assert figures[name] is None
            continue
        figure = function(given, args=None) if task == "hrbench4k" else function(given)
        assert figures[name] == pytest.approx(figure / (100 if task.startswith("vstar") else 1))


@pytest.mark.parametrize("task", FILES)
def test_right_answers_are_right_for_both_scorers(task, data):
    suite = data.suites[task]
    letters = [suite.question(i).references[0] for i in range(N)]
    expected = "".join("AB"[i % 2] for i in range(N)) if task == "mmvp" else None
    assert expected is None or "".join(letters) == expected
    right = suite.verdicts(letters)
    wrong = suite.verdicts(["B" if letter == "A" else "A" for letter in letters])
    assert [verdict(suite, values) for values, _ in right] == [1.0] * N
    assert [verdict(suite, values) for values, _ in wrong] == [0.0] * N
    assert suite.aggregate([values for values, _ in right])[suite.metric] == 1.0
    assert suite.aggregate([values for values, _ in wrong])[suite.metric] == 0.0
    assert [suite.question(i).strict(letter) for i, letter in enumerate(letters)] == [True] * N


def test_the_seven_tasks_of_the_paper_are_among_them():
    assert set(PAPER) <= set(FILES)
    assert len(BLINK_TASKS) == 14


def test_v_stars_percent_are_a_fraction(data):
    suite = data.suites["vstar_bench_direct_attributes"]
    values = [v for v, _ in suite.verdicts(["A", "A", "A", "A"])]  # right answers: A, C, A, C
    assert suite.aggregate(values) == {"vstar_direct_attributes_acc": 0.5}
    assert [verdict(suite, v) for v in values] == [1.0, 0.0, 1.0, 0.0]


def test_the_metrics_of_v_stars_reasoning_task_are_fractions_already(data, monkeypatch):
    config = dict(tasks_module.definition("vstar_bench_direct_attributes"))  # the task itself needs latex2sympy2
    config["metric_list"] = [
        {"metric": "vstar_direct_attributes_acc_score", "aggregation": "mean", "higher_is_better": True}
    ]
    monkeypatch.setattr(tasks_module, "definition", lambda name: config)
    (suite,) = open_suites(["vstar_bench_direct_attributes"], data.root, data.root)
    values = [{"vstar_direct_attributes_acc_score": score} for score in (1.0, 0.0, 1.0, 1.0)]
    assert suite.aggregate(values) == {"vstar_direct_attributes_acc_score": 0.75}


def test_mmvp_counts_pairs(data):
    suite = data.suites["mmvp"]  # right answers: A, B, A, B
    values = [v for v, _ in suite.verdicts(["A", "B", "A", "A"])]
    assert suite.aggregate(values) == {"mmvp_accuracy": 0.75, "mmvp_pair_accuracy": 0.5}
    assert [suite.question(i).pair for i in range(N)] == ["pair-0", "pair-0", "pair-1", "pair-1"]


def test_an_empty_answer_is_wrong_and_no_error(data):
    for task in set(FILES) - {"hrbench4k"}:
        ((values, error),) = data.suites[task].verdicts([""])
        assert (verdict(data.suites[task], values), error) == (0.0, None), task


# Scorers and documents that fail


def test_a_scorer_that_raises_fails_its_document_alone_and_at_once(data):
    suite = broken(data.suites["mmstar"], answer=None)  # None has no .strip
    start = time.perf_counter()
    first, *others = suite.verdicts(["A", "B", "C", "D"])
    assert time.perf_counter() - start < 1  # lmms-eval: five attempts, two seconds apart
    assert first[0] is None
    assert first[1].startswith("lmms-eval's scorer of mmstar raised AttributeError: ")
    assert [(verdict(suite, values), error) for values, error in others] == [(1.0, None)] * 3
    assert verdict(suite, None) is None


def test_hr_benchs_scorer_asks_no_judge_without_a_key(data, monkeypatch):
    from lmms_eval.tasks.hrbench.hrbench_evals import HRBenchEval

    posted = []

    def post(self, payload):
        posted.append(payload)
        return {"choices": [{"message": {"content": "B"}}]}

    monkeypatch.setattr(HRBenchEval, "_post_request", post)
    suite = data.suites["hrbench4k"]
    (first, second) = suite.verdicts(["Red", "I cannot say."])
    assert verdict(suite, first[0]) == 1.0
    assert second[0] is None
    assert "no option in the answer, and no OPENAI_API_KEY" in second[1]
    assert posted == []
    monkeypatch.setenv("OPENAI_API_KEY", "a key")  # then the benchmark's own protocol holds
    assert [verdict(suite, values) for values, _ in suite.verdicts(["Red", "I cannot say."])] == [1.0, 1.0]
    assert len(posted) == 1


def test_a_truncated_picture_in_base64_fails_its_prompt(data):
    whole = encoded(400, "JPEG")["bytes"]
    suite = broken(data.suites["hrbench4k"], image=base64.b64encode(whole[: len(whole) // 2]).decode())
    with pytest.raises(GapcheckError, match=r"the prompt of hrbench4k cannot be made \(OSError: image file is trunc"):
        suite.messages(0)
    assert len(suite.messages(1)[0]["content"]) == 2


def test_a_truncated_picture_fails_its_prompt_though_lmms_eval_lets_it_pass(data):
    half = {"bytes": encoded(100, "JPEG")["bytes"][:1000], "path": None}
    suite = broken(data.suites["vstar_bench_direct_attributes"], image=half)
    with pytest.raises(GapcheckError, match=r"image image: cannot be decoded .* truncated"):
        suite.messages(0)
    assert suite.messages(1)[0]["role"] == "user"


@pytest.mark.parametrize(
    ("task", "column"),
    [
        ("mmvp", "Options"), ("mmvp", "Question"), ("vstar_bench_direct_attributes", "label"),
        ("vstar_bench_direct_attributes", "text"), ("blink_iq_test", "answer"), ("mmstar", "question"),
        ("mmstar", "answer"), ("hrbench4k", "question"), ("hrbench4k", "answer"),
    ],
)  # fmt: skip
def test_a_missing_column_is_named(task, column, data):
    suite = data.suites[task]
    lacking = Suite(task, suite.task, Docs(suite.docs.table.remove_columns(column)), suite.split)
    with pytest.raises(GapcheckError, match=rf"{task}: .*'{column}'"):
        lacking.question(0)


def test_a_target_that_cannot_be_read_is_named(data):
    suite = broken(data.suites["mmvp"], **{"Correct Answer": None})
    with pytest.raises(GapcheckError, match=r"mmvp: the question cannot be read \(AttributeError: .*Correct Answer"):
        suite.question(0)
    assert suite.question(1).references == ("B",)


def test_process_docs_is_applied_once_in_all(data, monkeypatch):
    config = tasks_module.definition("vstar_bench_direct_attributes")

    def process(table):
        return table.map(lambda row: {"question_id": row["question_id"] + "!"})

    monkeypatch.setattr(tasks_module, "definition", lambda name: copy.copy(config) | {"process_docs": process})
    (suite,) = open_suites(["vstar_bench_direct_attributes"], data.root, data.root)
    assert [suite.question(i).id for i in range(N)] == ["0!", "2!", "4!", "6!"]
    ((values, _),) = suite.verdicts(["A"])
    assert values["vstar_direct_attributes_acc"]["question_id"] == "0!"


# Scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> dict[str, ConfigurableMessagesTask]:
    """lmms-eval's own loading of the six files, four scenes each, in a folder of their own."""
    folder = tmp_path_factory.mktemp("scenes")
    manager = TaskManager(include_path=str(SCENES_FOLDER), include_defaults=False)
    configs = {name: manager._get_config(name) for name in SCENES}
    for config in configs.values():
        config["dataset_kwargs"] = config["dataset_kwargs"] | {"folder": str(folder / "drawn"), "n": N}
    loaded = {name: get_task_dict([config], manager) for name, config in configs.items()}
    return {name: next(iter(found.values())) for name, found in loaded.items()}


@pytest.mark.parametrize("name", SCENES)
def test_scenes_are_one_task_for_lmms_eval_and_for_the_suite(name, scenes, tmp_path):
    own = scenes[name]
    (suite,) = open_suites([name], None, tmp_path, limit=N)
    assert len(own.test_docs()) == len(suite) == N
    answers = [own.test_docs()[0]["answer"], "A", "nothing", "no"]
    for i, doc in enumerate(own.test_docs()):
        assert plain(suite.messages(i)) == plain(own.doc_to_messages(doc))
    expected = [own.process_results(own.eval_docs_no_media[i], [answers[i]]) for i in range(N)]
    assert [values for values, _ in suite.verdicts(answers)] == expected
    assert expected[0] == {"accuracy": 1.0}
    assert suite.aggregate(expected) == {"accuracy": sum(v["accuracy"] for v in expected) / N}


@pytest.mark.parametrize("name", SCENES)
def test_scenes_are_scored_strictly_by_both_scorers(name, tmp_path):
    (suite,) = open_suites([name], None, tmp_path, limit=N, seed=3)
    task = name.removeprefix("scenes_")
    samples = read_jsonl(write_scenes(tmp_path / "again", [task], N, "heldout", 3), limit=N)
    for answer in ("A", "B", "yes", "no", "red", "left", samples[0].answer, samples[1].answer, ""):
        expected = [score(answer, sample.answer, sample.options) for sample in samples]
        found = suite.verdicts([answer] * N)
        assert [verdict(suite, values) for values, _ in found] == [float(right) for right in expected]
        assert [suite.question(i).strict(answer) for i in range(N)] == expected
    assert [suite.question(i).boxes for i in range(N)] == [sample.boxes for sample in samples]


def test_the_seed_and_the_number_of_scenes_are_those_asked_for(tmp_path):
    first, again, other = (
        open_suites(["scenes_iq"], None, tmp_path / str(k), limit=3, seed=seed)[0] for k, seed in enumerate((1, 1, 2))
    )
    assert len(first) == 3
    assert plain(first.messages(0)) == plain(again.messages(0)) != plain(other.messages(0))
