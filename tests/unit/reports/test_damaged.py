"""Damaged run directories: one line that names the file, through every command that reads them; never a traceback."""

import copy
import functools
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

from perception_gap.errors import DamagedError, UsageError
from perception_gap.storage import intact
from perception_gap.storage.files import write_arrays, write_json
from reports import tables
from reports.page import write_page
from reports.sources import open_source
from tests.command import gapcheck
from tests.unit.reports import synthetic_run
from tests.unit.reports.tables.synthetic_bench import TRAINED, write_bench, write_matrix

QUESTIONS = [True, False, True, True]
RESULTS = [(preset, 0, "answer", task, metric, 0.5, 0.4, 0.6, 480)
           for preset in ("student", "paper") for task in ("all", "iq") for metric in ("accuracy", "kl")]  # fmt: skip
COMPARED = [("paper", "student", "answer", "all", "accuracy", 0.1, 0.05, 0.15, 480, "+0.1")]
STEPS = [{"step": i, "loss": 1 / i, "ntp": 1 / i, "gamma": 0.5, "learning_rate": 1e-3} for i in range(1, 9)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with `student` (its `teacher` beside it), `bench`, `matrix` and `train`."""
    folder = tmp_path_factory.mktemp("whole")
    synthetic_run.write_pair(folder, n=6)
    answers = {"a": {"mmvp": QUESTIONS}, "b": {"mmvp": QUESTIONS[::-1]}}
    for model in write_bench(folder / "bench", answers, gaze=True).models:
        maps = {f"mmvp/{name}/own": np.full(64, 1 / 64, np.float32) for name in model.samples["sample_id"]}
        write_arrays(model.folder / "maps.safetensors", maps)
    write_matrix(folder / "matrix", RESULTS, COMPARED, {"student": (0, 400)})
    (folder / "train" / "model").mkdir(parents=True)
    made = TRAINED | {"preset": "paper", "settings": {"seed": 0, "steps": 400, "n_latents": 4}, "versions": {}}
    (folder / "train" / "train.json").write_text(json.dumps(made))
    (folder / "train" / "log.jsonl").write_text("".join(json.dumps(step) + "\n" for step in STEPS))
    return folder


@pytest.fixture
def runs(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "runs")


def everything(path) -> None:
    """All that reports make of a folder; the page draws every figure."""
    source = open_source(path)
    tables.build(None, [source])
    write_page([source], path.parent / "report.html")
    pyplot.close("all")


def refused(path, file) -> str:
    """What `gapcheck` says of the folder: one line that names the file, exit status 2, whichever command it is."""
    with pytest.raises((DamagedError, UsageError)) as error:
        everything(path)
    status, said = gapcheck("tables", path)
    assert status == 2
    assert said.count("\n") == 1
    assert str(error.value) in said
    assert file in said
    return said


@pytest.mark.parametrize("name", ["student", "bench", "matrix", "train"])
def test_what_is_whole_is_shown(runs, name):
    everything(runs / name)


BYTES = {"empty": b"", "text": b"no such file\n", "half": None, "latin-1": b'{"model": "caf\xe9"}'}
PARQUETS = ["student/samples.parquet", "student/words.parquet", "bench/a/samples.parquet"]
ARRAYS = ["student/maps.safetensors", "student/hidden.safetensors"]
OBJECTS = [
    "student/run.json", "student/summary.json", "bench/bench.json", "bench/a/run.json", "bench/a/summary.json",
    "train/train.json",
]  # fmt: skip


def folder_of(file: str) -> str:
    return file.split("/")[0]


@pytest.mark.parametrize("content", BYTES)
@pytest.mark.parametrize("file", [*PARQUETS, *ARRAYS, *OBJECTS])
def test_a_file_of_other_bytes_is_named(runs, file, content):
    path = runs / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == "half" else BYTES[content])
    assert "damaged" in refused(runs / folder_of(file), file)


@pytest.mark.parametrize("content", BYTES)
def test_maps_of_a_benchmark_that_are_not_whole_are_named(runs, content):
    path = runs / "bench" / "a" / "maps.safetensors"
    path.write_bytes(path.read_bytes()[:50] if content == "half" else BYTES[content])
    with pytest.raises(DamagedError, match=r"a/maps\.safetensors: damaged \(not a whole safetensors file"):
        everything(runs / "bench")


@pytest.mark.parametrize("file", ["run.json", "summary.json", "samples.parquet", "maps.safetensors"])
def test_a_damaged_run_of_the_teacher_is_named(runs, file):
    (runs / "teacher" / file).write_bytes(b"")
    with pytest.raises(DamagedError, match=rf"teacher/{file}: damaged"):
        open_source(runs / "student").teacher()


@pytest.mark.parametrize("command", [["tables"], ["tables", "--as", "table2"], ["figures"], ["report"]])
def test_every_command_says_it_in_one_line(runs, command):
    (runs / "student" / "summary.json").write_text('{"model": "caf')
    out = [] if "tables" in command else ["--out", runs / ("out.html" if "report" in command else "out")]
    status, said = gapcheck(*command, runs / "student", *out)
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith(f"gapcheck: error: {runs / 'student' / 'summary.json'}: damaged (not valid JSON")


@pytest.mark.parametrize("content", ["[]", "3", "null", '"text"', "[" * 10**5, '{"a":' * 10**5, "9" * 5000])
@pytest.mark.parametrize("file", OBJECTS)
def test_another_json_than_an_object_is_named(runs, file, content):
    (runs / file).write_text(content)
    assert "not valid JSON" in refused(runs / folder_of(file), file)


# --- every key that there is, taken away and replaced


def keys(content, at=()):
    """Every key; of those by task or by layer, which have one shape, only the first one's inner keys."""
    for place, (key, value) in enumerate(content.items()):
        yield (*at, key)
        alike = bool(at) and "by_" in at[-1] and place > 0
        if isinstance(value, dict) and not alike:
            yield from keys(value, (*at, key))


def changed(found, at, change):
    """A copy with the value at this key changed, or without it; None where what it stood in was changed before."""
    made = below = copy.deepcopy(found)
    for key in at[:-1]:
        below = below.get(key) if isinstance(below, dict) else None
    if not isinstance(below, dict):
        return None
    below[at[-1]] = {"drop": None, "null": None, "text": "text", "number": 10**400, "list": []}[change]
    if change == "drop":
        del below[at[-1]]
    return made


@pytest.mark.parametrize("change", ["drop", "null", "text", "list"])
@pytest.mark.parametrize("file", OBJECTS)
def test_a_key_that_is_missing_or_of_another_kind_is_named_or_not_needed(runs, file, change, monkeypatch):
    monkeypatch.setattr(intact, "read_table", functools.cache(intact.read_table))
    path, folder = runs / file, runs / folder_of(file)
    found = json.loads(path.read_text())
    found.pop("checksum", None)  # written anew, as what is wrong otherwise is asked here
    harmless = found
    for at in keys(found):
        write_json(path, changed(found, at, change))
        if said := refusal(open_source, folder):
            assert file in said or at == ("schema_version",) or at[0] == "files"
        elif (together := changed(harmless, at, change)) is not None:
            harmless = together
    write_json(path, harmless)  # all at once, as pages take a while
    said = refusal(everything, folder)
    assert said is None or "nothing to show" in said


def refusal(of, folder) -> str | None:
    """What is said where it is refused."""
    try:
        of(folder)
    except (DamagedError, UsageError) as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("file", "at", "change", "words"),
    [
        ("student/run.json", ("model", "name"), "drop", "model.name is missing"),
        ("student/run.json", ("settings",), "null", "settings is null, expected keys and values"),
        ("student/run.json", ("data", "n"), "text", "data.n is 'text', expected a whole number"),
        ("student/run.json", ("teacher",), "text", "teacher is 'text', expected keys and values"),
        ("student/run.json", ("versions",), "null", "versions is null"),
        ("student/summary.json", ("kl", "sample", "mean"), "text", "kl.sample.mean is 'text', expected a number"),
        ("student/summary.json", ("accuracy", "ci"), "list", "accuracy.ci is a list of length 0, expected"),
        ("student/summary.json", ("n_failed",), "drop", "n_failed is missing"),
        ("student/summary.json", ("accuracy", "mean"), "number", "accuracy.mean is 1000"),
        ("bench/bench.json", ("tasks",), "null", "tasks is null"),
        ("bench/a/run.json", ("asked", "latents"), "drop", "asked.latents is missing"),
        ("bench/a/summary.json", ("tasks", "mmvp", "strict_accuracy"), "drop", "tasks.mmvp.strict_accuracy is missing"),
        ("train/train.json", ("settings", "seed"), "drop", "settings.seed is missing"),
        ("train/train.json", ("traces",), "null", "traces is null"),
    ],
)
def test_the_key_is_said(runs, file, at, change, words):
    found = json.loads((runs / file).read_text())
    (runs / file).write_text(json.dumps(changed(found, at, change)))
    said = refused(runs / folder_of(file), file)
    assert f"damaged ({words}" in said
    assert "; the command that made it writes it anew, with --fresh if need be" in said


# --- tables


NEEDED = {
    "student/samples.parquet": ["sample_id", "task", "cluster", "status", "correct", "entropy", "kl", "images"],
    "student/words.parquet": ["sample_id", "word", "category", "kl", "focus_score"],
    "bench/a/samples.parquet": ["sample_id", "task", "status", "correct", "prompt", "references", "seconds", "boxes"],
}
COLUMNS = [(file, column) for file, names in NEEDED.items() for column in names]


@pytest.mark.parametrize(("file", "column"), COLUMNS)
def test_a_missing_column_is_named(runs, file, column):
    pd.read_parquet(runs / file).drop(columns=column).to_parquet(runs / file)
    assert f"column {column} is missing" in refused(runs / folder_of(file), file)


@pytest.mark.parametrize(("file", "column"), COLUMNS)
def test_a_column_of_another_kind_is_named_with_its_row(runs, file, column):
    table = pd.read_parquet(runs / file)
    texts = pd.api.types.is_string_dtype(table[column])
    table[column] = range(len(table)) if texts else ["much"] * len(table)
    table.to_parquet(runs / file)
    value = "0" if texts else "'much'"
    assert f"column {column}, row 1: {value}, expected" in refused(runs / folder_of(file), file)


@pytest.mark.parametrize("file", ["student/samples.parquet", "bench/a/samples.parquet"])
def test_a_question_that_stands_twice_is_named(runs, file):
    table = pd.read_parquet(runs / file)
    pd.concat([table, table[1:2]]).to_parquet(runs / file)
    said = refused(runs / folder_of(file), file)
    assert "two rows of" in said
    assert str(table["sample_id"][1]) in said


CSVS = ["bench/comparisons.csv", "matrix/results.csv", "matrix/comparisons.csv"]


@pytest.mark.parametrize("file", CSVS)
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: "no table\n", "is missing"),
        (lambda text: "a\nb,c\nd,e,f\n", "not a CSV"),
        (lambda text: text.replace(",", ";"), "is missing"),
        (lambda text: text.replace(",task,", ",Task,").replace("task,", "Task,", 1), "column task is missing"),
        (lambda text: text.replace("\n", ",1,2\n").replace(",1,2", "", 1), "longer than its first one"),
        (lambda text: text.encode("utf-16"), "not a CSV"),
        (lambda text: text.encode() + b"\xe9\xff", "not a CSV"),
    ],
)
def test_a_csv_of_another_shape_is_named(runs, file, damage, words):
    made = damage((runs / file).read_text())
    (runs / file).write_bytes(made if isinstance(made, bytes) else made.encode())
    said = refused(runs / folder_of(file), file)
    assert words in said
    assert "damaged" in said


@pytest.mark.parametrize(
    ("file", "column", "value", "words"),
    [
        *[("matrix/results.csv", name, "", "line 3: null, expected text") for name in ("preset", "task", "metric")],
        ("matrix/results.csv", "value", "much", "line 3: 'much', expected a number or null"),
        ("matrix/results.csv", "n", "", "line 3: null, expected a whole number"),
        ("matrix/results.csv", "n", "inf", "line 3: inf, expected a whole number"),
        ("matrix/results.csv", "seed", "zero", "line 3: 'zero'"),
        ("matrix/comparisons.csv", "low", "much", "line 2: 'much', expected a number"),
        ("matrix/comparisons.csv", "against", "", "line 2: null, expected text"),
        ("bench/comparisons.csv", "difference", "much", "line 3: 'much', expected a number"),
        ("bench/comparisons.csv", "model", "", "line 3: null, expected text"),
        ("bench/comparisons.csv", "only_first", "1.5", "line 3: 1.5, expected a whole number"),
    ],
)
def test_a_value_of_another_kind_is_named_with_its_line(runs, file, column, value, words):
    table = pd.read_csv(runs / file, dtype=str, keep_default_na=False)
    table.loc[min(1, len(table) - 1), column] = value
    table.to_csv(runs / file, index=False)
    assert f"column {column}, {words}" in refused(runs / folder_of(file), file)


@pytest.mark.parametrize("column", ["seed", "value", "n"])
def test_a_column_of_endless_numbers_is_named(runs, column):
    table = pd.read_csv(runs / "matrix" / "results.csv", dtype=str, keep_default_na=False)
    table.assign(**{column: "9" * 400}).to_csv(runs / "matrix" / "results.csv", index=False)
    assert f"column {column}, line 2: inf, expected a" in refused(runs / "matrix", "matrix/results.csv")


@pytest.mark.parametrize("text", [None, "", "\n", "head"])
@pytest.mark.parametrize("file", CSVS)
def test_nothing_to_compare_is_allowed_and_no_result_is_said(runs, file, text):
    path = runs / file
    head = path.read_text().splitlines()[0] + "\n"
    path.unlink()
    if text is not None:
        path.write_text(head if text == "head" else text)
    (runs / "bench" / "summary.json").unlink()  # which would have the checksum of what it was made with
    if "results" not in file:
        everything(runs / folder_of(file))
    elif text is not None:
        assert "results.csv: no result in it" in refused(runs / "matrix", file)


def test_a_preset_that_is_a_number_is_a_name(runs):
    path = runs / "matrix" / "results.csv"
    path.write_text(path.read_text().replace("student", "6").replace("paper", "8"))
    everything(runs / "matrix")


# --- the log of a training


@pytest.mark.parametrize(
    "half", [b'{"step": 9, "lo', b'{"step": 9, "name": "caf\xc3', b"\0" * 40, b'{"step": 9}\n{"st\n']
)
def test_a_half_last_line_of_a_log_is_left_out(runs, half):
    path = runs / "train" / "log.jsonl"
    path.write_bytes(path.read_bytes() + half)
    everything(runs / "train")
    assert open_source(runs / "train").log["step"].max() == (9 if b"}" in half else 8)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{broken", "line 1 is no JSON of keys and values"),
        ("7", "line 1 is no JSON of keys and values"),
        ('{"step": null}', "column step, line 1: null, expected a whole number"),
        ('{"loss": 3}', "column step, line 1: null"),
        ('{"step": 1.5}', "column step, line 1: 1.5"),
        ('{"step": 1, "ntp": "much"}', "column ntp, line 1: 'much', expected a number"),
        ('{"step": 1, "loss": {"a": 1}}', "column loss, line 1: keys and values of length 1, expected a number"),
        ('{"step": 1, "gamma": [1]}', "column gamma, line 1: a list of length 1, expected a number"),
        (f'{{"step": 1, "ntp": {10**400}}}', "column ntp, line 1: 1000"),
    ],
)
def test_a_damaged_line_of_a_log_is_named(runs, line, words):
    path = runs / "train" / "log.jsonl"
    path.write_text(line + "\n" + path.read_text())
    said = refused(runs / "train", "log.jsonl")
    assert words in said
    assert "train again with --fresh" in said


def test_a_loss_that_was_not_finite_is_undefined(runs):
    path = runs / "train" / "log.jsonl"
    path.write_text('{"step": 0, "ntp": NaN, "loss": Infinity}\n' + path.read_text())
    everything(runs / "train")
    assert open_source(runs / "train").log["ntp"].isna().tolist() == [True] + [False] * 8
