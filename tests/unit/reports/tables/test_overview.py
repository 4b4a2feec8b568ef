"""Without a table of the paper: everything that runs, benchmarks, matrices and trainings say."""

import copy
import json
import shutil

import pandas as pd
import pytest

from perception_gap.errors import UsageError
from perception_gap.storage.files import write_json
from reports import tables
from reports.sources import BenchRun, Unfinished, open_source
from reports.summary import lookup
from tests.unit.reports.tables.synthetic_bench import TRAINED, write_bench, write_matrix


def cells(table, label, group=None):
    (found,) = [row for row in table.rows if row.label == label and group in (None, row.group)]
    return {column.title: found.cells.get(column.key) for column in table.columns} | {"n": found.n}


def test_a_run_stands_beside_its_teacher_with_intervals_and_n(pair):
    teacher, student = pair
    (table,) = tables.build(None, [student])
    assert [column.title for column in table.columns] == ["tiny:teacher", "tiny:student"]
    found = cells(table, "accuracy (%)")
    for name, run in (("tiny:teacher", teacher), ("tiny:student", student)):
        accuracy = run.summary["accuracy"]
        assert found[name].value == pytest.approx(100 * accuracy["mean"])
        assert [found[name].low, found[name].high] == pytest.approx([100 * end for end in accuracy["ci"]])
        assert found[name].n == accuracy["n"] == 28  # failed rows are in it
    kl = cells(table, "KL(teacher ‖ student), words: attribute (nats)")
    assert kl["tiny:student"].value == pytest.approx(lookup(student.summary, "kl.attribute")["mean"])
    assert kl["tiny:teacher"] is None  # nothing that it could be compared with
    assert "tiny:student: 28 samples, 2 failed (wrong, without map)" in table.about


def test_runs_over_other_samples_have_their_own_table(pair, no_boxes):
    bare = no_boxes
    bare.info["data"]["hash"] = "other"
    assert len(tables.build(None, [pair[1], bare])) == 2
    assert len(tables.build(None, [pair[0], pair[1]])) == 1


def test_tables_of_two_data_sets_and_of_two_folders_of_one_name_can_be_told_apart(pair, no_boxes, tmp_path):
    bare = copy.copy(no_boxes)
    bare.info = no_boxes.info | {"data": no_boxes.info["data"] | {"hash": "another"}}
    benches = [write_bench(tmp_path / name / "bench", {"a": {"scenes_iq": HALF}}) for name in ("x", "y")]
    made = tables.build(None, [pair[1], bare, *benches])
    ids = [table.id for table in made]
    assert ids[:2] == ["runs", "runs 2"]
    assert "bench accuracy 2" in ids
    assert len(set(ids)) == len(ids)
    assert len({table.caption for table in made}) == len(made)
    latex = tables.render(made, "latex")
    assert latex.count(r"\label{tab:runs}") == latex.count(r"\label{tab:runs-2}") == 1
    named = {line.split(",")[0] for line in tables.render(made, "csv").splitlines()[1:]}
    assert {"runs", "runs 2", "bench accuracy", "bench accuracy 2"} <= named


def test_undefined_metrics_are_dashes_with_their_n(no_boxes):
    (table,) = tables.build(None, [no_boxes])
    (focus,) = [row for row in table.rows if row.label == "focus score (%)"]
    (cell,) = focus.cells.values()
    assert (cell.figure, cell.n) == ("–", 0)


HALF, RIGHT = [True, False] * 5, [True] * 10


@pytest.fixture
def bench(tmp_path):
    models = {"a": {"scenes_iq": HALF, "mmvp": HALF}, "b": {"scenes_iq": RIGHT, "mmvp": HALF}}
    return write_bench(tmp_path / "bench", models, gaze=True, failed={"b": [9]})


def named(made, word):
    (found,) = [table for table in made if table.id.endswith(word)]
    return found


def test_a_benchmark_says_all_that_its_command_prints(bench):
    made = tables.build(None, [bench])
    assert [table.id for table in made] == [
        f"bench {w}" for w in ("accuracy", "costs", "gaze", "published", "comparisons")
    ]
    accuracy = named(made, "accuracy")
    assert cells(accuracy, "scenes_iq")["a"].figure == "50.00"
    assert cells(accuracy, "scenes_iq")["chance"].figure == "11.11"
    assert cells(accuracy, "mmvp, both of a pair")["a"].value == 0.0
    assert cells(accuracy, "mmvp, both of a pair")["n"] == 5
    costs = cells(named(made, "costs"), "b")
    shown = ("image tokens", "answer tokens", "seconds", "failed", "unscored", "empty", "cut off")
    # Two tasks of ten questions, one of each failed; an answer may have 2 tokens, and every one has.
    assert [costs[name].figure for name in shown] == ["64.0", "2.0", "0.500", "2", "0", "0", "18"]
    gaze = cells(named(made, "gaze"), "scenes_iq", "a")
    assert gaze["entropy"].value == 5.5
    assert gaze["salient regions, SD"].value == pytest.approx(8.25**0.5)  # 1 .. 10
    published = cells(named(made, "published"), "LaViT 3B")
    assert published["mmvp"].figure == "67.33"
    assert "scenes_iq" not in published
    compared = cells(named(made, "comparisons"), "scenes_iq", "b")
    assert (compared["points"].figure, compared["gained"].figure, compared["lost"].figure) == ("+50.00", "5", "0")
    assert compared["p"].value == pytest.approx(2 / 2**5)
    assert compared["p (Holm)"].value >= compared["p"].value
    order = [row.label for row in named(made, "comparisons").rows]
    assert order == ["scenes_iq", "mmvp", "all"]


def test_a_published_figure_that_does_not_recompute_has_its_footnote_beside_ours(tmp_path):
    source = write_bench(tmp_path / "b", {"a": {"vstar_bench_direct_attributes": HALF}})
    published = named(tables.build(None, [source]), "published")
    assert cells(published, "LVR 7B")["vstar_bench_direct_attributes"].notes == (
        "printed 84.4; recomputed 84.3 (97 of 115 questions)",
    )
    assert cells(published, "LaViT 3B")["vstar_bench_direct_attributes"].notes == ()


def test_a_baseline_that_is_not_summarised_is_named(bench):
    shutil.rmtree(bench.path / "a")
    without = open_source(bench.path)
    assert (
        named(tables.build(None, [without]), "comparisons").caption
        == "Differences from the baseline on the same questions"
    )
    about = json.loads((bench.path / "bench.json").read_text())
    write_json(bench.path / "bench.json", about | {"baseline": "a"})
    again = named(tables.build(None, [open_source(bench.path)]), "comparisons")
    assert again.caption == "Differences from a on the same questions"
    assert [row.group for row in again.rows] == ["b"] * 3


def test_what_was_not_judged_is_a_dash_and_a_footnote(tmp_path):
    models = {"a": {"scenes_iq": [None] * 10}, "b": {"scenes_iq": HALF}}
    made = tables.build(None, [write_bench(tmp_path / "b", models)])
    compared = cells(named(made, "comparisons"), "scenes_iq", "b")
    assert [compared[name].figure for name in ("points", "p", "p (Holm)", "detectable points")] == ["–"] * 4
    assert compared["n"] == 0
    judged = cells(named(made, "accuracy"), "scenes_iq")["a"]
    assert (judged.figure, judged.count) == ("–", "n 0")
    assert judged.notes == ("a, scenes_iq: 10 of 10 have no verdict and are not counted",)
    assert "nan" not in tables.render(made, "md") + tables.render(made, "csv")


def test_strict_accuracy_stands_below_where_it_differs(tmp_path, bench):
    path = bench.path / "b" / "summary.json"
    summary = json.loads(path.read_text())
    summary["tasks"]["scenes_iq"]["strict_accuracy"]["mean"] = 0.9
    write_json(path, summary)
    accuracy = named(tables.build(None, [open_source(bench.path)]), "accuracy")
    assert cells(accuracy, "scenes_iq, strict reader")["b"].value == 90.0
    assert not [row for row in accuracy.rows if row.label == "mmvp, strict reader"]


def test_a_matrix_is_a_row_a_seed_and_differences_a_baseline(tmp_path):
    lines = [
        ("paper", seed, "answer", task, metric, value, value - 0.1, value + 0.1, 50)
        for seed, value in ((0, 0.5), (1, 0.7))
        for task, metric in (("all", "accuracy"), ("iq", "accuracy"), ("all", "kl"))
    ]
    compared = [
        ("paper", "naive-sft", "answer", "all", "accuracy", 0.06, 0.01, 0.11, 50, "+0.1000 +0.0200"),
        ("paper", "naive-sft", "answer", "iq", "kl", 0.25, 0.125, 0.375, 50, "+0.2500"),
    ]
    of_matrix = {table.caption: table for table in tables.build(None, [write_matrix(tmp_path / "m", lines, compared)])}
    assert list(of_matrix) == [
        "Accuracy by task, in percent",
        "Accuracy by task, means over the seeds, in percent",
        "KL of the answers' maps by task",
        "Answers and their maps, all tasks",
        "Minus naive-sft, all tasks",
        "Minus naive-sft, all tasks, seed by seed",
        "Minus naive-sft, KL by task",
    ]
    assert cells(of_matrix["Accuracy by task, in percent"], "paper, seed 1")["iq"].value == pytest.approx(70)
    mean = cells(of_matrix["Accuracy by task, means over the seeds, in percent"], "paper")["iq"]
    assert (mean.figure, mean.interval) == ("60.00", "[50.00, 70.00]")
    assert cells(of_matrix["Answers and their maps, all tasks"], "paper, seed 0")["kl"].figure == "0.500"
    assert cells(of_matrix["KL of the answers' maps by task"], "paper, seed 1")["all"].figure == "0.700"
    difference = cells(of_matrix["Minus naive-sft, all tasks"], "paper")["accuracy (points)"]
    assert (difference.figure, difference.interval) == ("+6.00", "[1.00, 11.00]")
    second = cells(of_matrix["Minus naive-sft, all tasks, seed by seed"], "paper, seed 1")["accuracy (points)"]
    assert (second.figure, second.interval) == ("+2.00", "")
    of_task = cells(of_matrix["Minus naive-sft, KL by task"], "paper")["iq"]
    assert (of_task.figure, of_task.interval) == ("+0.250", "[0.125, 0.375]")


def test_a_training_says_how_far_it_is(tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    made = TRAINED | {"preset": "paper", "settings": {"seed": 3, "steps": 400, "n_latents": 4}}
    (folder / "train.json").write_text(json.dumps(made))
    (folder / "log.jsonl").write_text('{"step": 1, "loss": 5.0}\n{"step": 2, "loss": 4.5}\n')
    (table,) = tables.build(None, [open_source(folder)])
    (row,) = table.rows
    assert row.label.startswith("paper, seed 3")
    assert [row.cells[key].figure for key in ("asked", "done", "loss")] == ["400", "2", "4.500"]
    assert row.notes
    assert "not finished" in row.notes[0]


def test_what_is_unfinished_is_named_and_alone_an_error(tmp_path, pair):
    waiting = Unfinished(tmp_path / "u", {"command": "gapcheck analyze x"}, 3, 10)
    (table,) = tables.build(None, [pair[1], waiting])
    assert any("3 of 10 samples are stored; `gapcheck analyze x` goes on" in text for text in table.about)
    with pytest.raises(UsageError, match=r"nothing to show: .*3 of 10 samples"):
        tables.build(None, [waiting])
    nobody = BenchRun(tmp_path / "b", {}, (), pd.DataFrame(), ("late", "later"))
    with pytest.raises(UsageError, match=r"nothing to show: late, later: named by [^;]* and not finished"):
        tables.build(None, [nobody])
