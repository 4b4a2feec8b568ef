"""Tables 1, 3 and A2: which figure stands where, and what is compared with what."""

import math

import numpy as np
import pytest

from perception_gap.errors import DamagedError, UsageError
from perception_gap.stats.proportions import paired_ci
from reports import tables
from reports.sources import open_source
from tests.unit.reports.tables.synthetic_bench import write_bench, write_matrix

HUB = "Qwen/Qwen2.5-VL-3B-Instruct"
HALF, MOST = [True, False] * 62, [True] * 93 + [False] * 31  # of BLINK's 124 questions: 50 % and 75 %


def one(kind, *sources, **options):
    (table,) = tables.build(kind, sources, **options)
    return table


def row(table, label, source=None):
    (found,) = [r for r in table.rows if r.label == label and source in (None, r.source)]
    return found


def labels(table, source):
    return [r.label for r in table.rows if r.source == source]


def notes_of(table, cell):
    return [text for text in table.marks if text in cell.notes]


@pytest.fixture
def hub(tmp_path):
    """The baseline under its hub id and a LaViT that the user names, on BLINK relative depth."""
    models = {HUB: {"blink_relative_depth": HALF}, "runs/mine/model": {"blink_relative_depth": MOST}}
    return write_bench(tmp_path / "hub", models)


def test_a_hub_id_finds_its_row_and_stands_above_it_with_the_difference_below(hub):
    table = one("table1", hub)
    here = [(r.label, r.source) for r in table.rows]
    at = here.index(("Qwen2.5-VL-3B-Instruct", "ours"))
    assert here[at : at + 3] == [
        ("Qwen2.5-VL-3B-Instruct", "ours"),
        ("Qwen2.5-VL 3B", "published"),
        ("Qwen2.5-VL-3B-Instruct − Qwen2.5-VL 3B", "difference"),
    ]


def test_the_difference_is_ours_minus_the_print_and_its_interval_is_ours_moved(hub):
    table = one("table1", hub)
    ours = row(table, "Qwen2.5-VL-3B-Instruct").cells["rel_depth"]
    found = row(table, "Qwen2.5-VL-3B-Instruct − Qwen2.5-VL 3B").cells["rel_depth"]
    assert ours.value == 50.0
    assert found.value == pytest.approx(50 - 61.29)
    assert found.figure == "−11.29"
    assert (found.low, found.high) == (pytest.approx(ours.low - 61.29), pytest.approx(ours.high - 61.29))
    assert (ours.n, found.n) == (124, 124)
    # Wilson's interval of 62 of 124, by hand: centre 1/2, half width z sqrt(1/(4n) + z²/(4n²)) / (1 + z²/n).
    z, n = 1.959964, 124
    half = z * math.sqrt(1 / (4 * n) + z * z / (4 * n * n)) / (1 + z * z / n)
    assert (ours.low, ours.high) == (pytest.approx(50 - 100 * half, abs=1e-4), pytest.approx(50 + 100 * half, abs=1e-4))


def test_rows_and_columns_are_the_papers(hub):
    table = one("table1", hub)
    assert [c.title for c in table.columns] == [
        "MMVP", "V* attributes", "relative depth", "IQ test", "relative reflectance", "spatial relation", "MMStar",
    ]  # fmt: skip
    assert labels(table, "published") == [
        "GPT-4o", "Qwen2.5-VL 7B", "Qwen2.5-VL 32B", "Naive SFT 3B", "PAPO 3B", "DMLR 3B", "LVR_RL 3B",
        "R1-OneVision 7B", "LVR 7B", "Qwen2.5-VL 3B", "LaViT 3B",
    ]  # fmt: skip
    papo = row(table, "PAPO 3B").cells
    assert (papo["mmvp"].figure, papo["mmvp"].starred, papo["rel_depth"].starred) == ("50.0", True, False)
    assert set(row(table, "R1-OneVision 7B").cells) == {"mmvp", "mmstar"}


def test_best_and_second_are_of_one_provenance(hub):
    table = one("table1", hub)
    depth = {r.label: r.cells["rel_depth"].rank for r in table.rows if "rel_depth" in r.cells}
    assert {label for label, rank in depth.items() if rank == "best"} == {"LaViT 3B", "mine"}
    assert depth["LVR 7B"] == "second"  # 76.61 published; ours has 75 and 50
    assert depth["Qwen2.5-VL-3B-Instruct"] == "second"


def test_equal_figures_share_a_rank(tmp_path):
    same = {"blink_relative_depth": HALF}
    table = one("table1", write_bench(tmp_path / "b", {"a": same, "b": same, "c": {"blink_relative_depth": MOST}}))
    assert [row(table, name).cells["rel_depth"].rank for name in "abc"] == ["second", "second", "best"]
    published = {
        r.label: r.cells["vstar_attr"].rank for r in table.rows if r.source == "published" and "vstar_attr" in r.cells
    }
    assert published["Qwen2.5-VL 32B"] == published["LaViT 3B"] == "second"  # both 82.61, below 84.4
    assert published["LVR 7B"] == "best"


def test_figures_that_do_not_recompute_have_a_footnote(hub):
    table = one("table1", hub)
    cell = row(table, "LVR 7B").cells["vstar_attr"]
    assert notes_of(table, cell) == ["printed 84.4; recomputed 84.3 (97 of 115 questions)"]
    table3 = one("table3", hub, rows={HUB: "LaViT 3B"})
    masked = row(table3, "w/o Latent Tokens").cells
    assert "printed 81.12; recomputed 81.34" in notes_of(table3, masked["rel_reflectance"])[0]
    assert any("equal in all of mmvp" in text for text in table3.about)


def test_published_gains_are_the_differences_of_the_prints(hub):
    table = one("table1", hub)
    gain = row(table, "LaViT 3B − Qwen2.5-VL 3B").cells
    assert (gain["rel_depth"].figure, gain["mmvp"].figure) == ("+16.94", "+5.00")
    assert gain["mmstar"].starred  # 50.2 was taken from elsewhere
    assert len(labels(one("table3", hub), "gain")) >= 5


def test_our_gain_over_the_baseline_is_paired(hub):
    name = "mine"
    table = one("table1", hub, rows={name: "LaViT 3B"})
    found = row(table, f"{name} − Qwen2.5-VL-3B-Instruct").cells["rel_depth"]
    compared = hub.comparisons.set_index("task").loc["blink_relative_depth"]
    assert found.value == pytest.approx(25.0)
    assert (found.low, found.high) == (100 * compared["difference_low"], 100 * compared["difference_high"])
    turned = one("table1", hub, baseline=name)
    back = row(turned, f"Qwen2.5-VL-3B-Instruct − {name}").cells["rel_depth"]
    assert (back.value, back.low, back.high) == (pytest.approx(-25.0), -found.high, -found.low)


@pytest.mark.parametrize("apart", [False, True])
def test_what_bench_did_not_compare_is_paired_by_sample(tmp_path, apart):
    first, second = {"a": {"blink_relative_depth": HALF}}, {"b": {"blink_relative_depth": MOST}}
    if apart:  # as the run with masked latents, which is a bench of its own
        sources = [write_bench(tmp_path / "1", first), write_bench(tmp_path / "2", second)]
    else:
        sources = [write_bench(tmp_path / "b", {"base": {"blink_relative_depth": HALF}} | first | second)]
    table = one("table1", *sources, baseline="a")
    cell = row(table, "b − a").cells["rel_depth"]
    expected = paired_ci(np.array(MOST, float) - np.array(HALF, float))
    assert (cell.value, cell.n) == (25.0, 124)
    assert (cell.low, cell.high) == pytest.approx((100 * expected.low, 100 * expected.high))
    assert not notes_of(table, cell)


def test_equal_answers_have_the_interval_that_a_comparison_gives_them(tmp_path):
    same = {"blink_relative_depth": HALF}
    together = write_bench(tmp_path / "together", {"a": same, "b": same})
    apart = [write_bench(tmp_path / name, {name: same}) for name in ("a", "b")]
    compared = together.comparisons.set_index("task").loc["blink_relative_depth"]
    assert compared["difference_high"] == pytest.approx(1.96 * 2**0.5 / 126, abs=1e-4)  # Bonett and Price's
    for sources in ([together], apart):
        cell = row(one("table1", *sources, baseline="a"), "b − a").cells["rel_depth"]
        ends = (100 * compared["difference_low"], 100 * compared["difference_high"])
        assert (cell.value, cell.low, cell.high) == (0.0, pytest.approx(ends[0]), pytest.approx(ends[1]))


def test_models_that_answered_other_questions_are_not_compared(tmp_path):
    first = write_bench(tmp_path / "first", {"a": {"mmvp": [True] * 8}, "c": {"mmvp": [True, False] * 4}})
    second = write_bench(tmp_path / "second", {"b": {"mmvp": [True] * 6 + [False] * 4}})
    table = one("table1", first, second, baseline="a")
    cell = row(table, "b − a").cells["mmvp"]
    assert cell.figure == "–"
    assert notes_of(table, cell) == ["not compared: other questions"]
    assert row(table, "b").cells["mmvp"].rank == ""
    assert (row(table, "a").cells["mmvp"].rank, row(table, "c").cells["mmvp"].rank) == ("best", "second")
    (column,) = [c for c in table.columns if c.key == "mmvp"]
    assert "not ranked, for other questions than the rest of ours: b" in column.notes
    assert any("8 and 10 of the 300 published questions" in text for text in column.notes)


def test_drawn_scenes_stand_in_the_column_of_their_analogue_and_take_no_difference(tmp_path):
    source = write_bench(tmp_path / "b", {"tiny:lavit": {"scenes_relative_depth": HALF}})
    table = one("table1", source)
    key = "rel_depth (drawn scenes)"
    assert row(table, "tiny:lavit").cells[key].value == 50.0
    assert row(table, "LaViT 3B").cells[key].figure == "78.23"
    assert labels(table, "difference") == []
    (column,) = [c for c in table.columns if c.key == key]
    assert column.title == "relative depth (drawn scenes)"
    assert any("no difference from the published figure" in text for text in column.notes)
    assert "rel_depth" not in {c.key for c in table.columns}


def test_scenes_and_the_benchmark_itself_are_two_columns(tmp_path):
    tasks = {"scenes_relative_depth": HALF, "blink_relative_depth": MOST}
    table = one("table1", write_bench(tmp_path / "b", {"tiny:lavit": tasks}))
    found = row(table, "tiny:lavit").cells
    assert (found["rel_depth (drawn scenes)"].value, found["rel_depth"].value) == (50.0, 75.0)
    difference = row(table, "tiny:lavit − LaViT 3B").cells
    assert difference["rel_depth"].figure == "−3.23"
    assert difference["rel_depth (drawn scenes)"].figure == "–"


def test_failed_questions_stay_in_the_denominator_and_are_counted(tmp_path):
    verdicts = [False, *[True] * 9]
    source = write_bench(tmp_path / "b", {"a": {"blink_iq_test": verdicts}}, failed={"a": [0]})
    table = one("table1", source)
    cell = row(table, "a").cells["iq_test"]
    assert (cell.value, cell.n) == (90.0, 10)
    assert notes_of(table, cell) == ["a, blink_iq_test: 1 of 10 failed and count as wrong"]


def test_a_model_without_any_verdict_is_a_dash_with_its_n(tmp_path):
    models = {"a": {"blink_iq_test": [None] * 4}, "b": {"blink_iq_test": [True] * 4}}
    table = one("table1", write_bench(tmp_path / "b", models))
    cell = row(table, "a").cells["iq_test"]
    assert (cell.figure, cell.n, cell.count) == ("–", 0, "n 0")
    assert row(table, "b").cells["iq_test"].rank == ""  # nothing to be better than


def test_what_is_not_finished_is_named(tmp_path):
    source = write_bench(tmp_path / "b", {"a": {"mmvp": [True] * 4}}, missing=["late"])
    assert any(text.startswith("late: named by") for text in one("table1", source).about)


def test_two_models_of_one_name_are_told_apart(tmp_path):
    sources = [write_bench(tmp_path / name, {"a": {"mmvp": [True] * 4}}) for name in ("x", "y")]
    assert labels(one("table1", *sources), "ours") == ["a (x)", "a (y)"]


def test_masked_latents_are_the_row_without_latent_tokens(tmp_path):
    source = write_bench(tmp_path / "b", {"tiny:lavit": {"mmvp": [True] * 4}}, latents={"tiny:lavit": "mask"})
    made = one("table3", source)
    assert row(made, "tiny:lavit (latents mask) − w/o Latent Tokens").cells["mmvp"].figure == "+35.67"
    assert labels(one("table1", source), "difference") == []  # table 1 has no such row


@pytest.mark.parametrize(
    "name", [HUB, "models/Qwen2.5-VL-3B-Instruct/", "lmms-eval:openai,model_version=qwen2.5-vl-3b"]
)
def test_names_of_one_model_find_one_row(tmp_path, name):
    source = write_bench(tmp_path / "b", {name: {"mmvp": [True] * 4}})
    assert any(label.endswith("− Qwen2.5-VL 3B") for label in labels(one("table1", source), "difference"))


def test_a_model_and_itself_with_masked_latents_are_two(tmp_path):
    plain = write_bench(tmp_path / "plain", {"org/x": {"mmvp": [True] * 4}})
    masked = write_bench(tmp_path / "masked", {"org/x": {"mmvp": [True, False] * 2}}, latents={"org/x": "mask"})
    for name in ("x", "org/x"):
        rows = {name: "LaViT 3B", f"{name} (latents mask)": "w/o Latent Tokens"}
        table = one("table3", plain, masked, rows=rows, baseline=name)
        assert labels(table, "difference") == ["x − LaViT 3B", "x (latents mask) − w/o Latent Tokens"]
        assert row(table, "x (latents mask) − x").cells["mmvp"].value == -50.0


def test_another_size_is_another_row(tmp_path):
    source = write_bench(tmp_path / "b", {"Qwen/Qwen2.5-VL-72B-Instruct": {"mmvp": [True] * 4}})
    assert labels(one("table1", source), "difference") == []


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ({"tiny:laivt": "LaViT 3B"}, r"--row tiny:laivt=LaViT 3B: no model of these runs 'tiny:laivt': .*tiny:lavit"),
        ({"tiny:lavit": "LaViT 4B"}, r"no published row 'LaViT 4B': expected one like LaViT 3B"),
    ],
)
def test_unknown_rows_name_the_near_ones(tmp_path, rows, text):
    source = write_bench(tmp_path / "b", {"tiny:lavit": {"mmvp": [True] * 4}})
    with pytest.raises((DamagedError, UsageError), match=text):
        tables.build("table1", [source], rows=rows)


def test_a_row_of_another_table_is_no_error(tmp_path):
    source = write_bench(tmp_path / "b", {"t": {"mmvp": [True] * 4}})
    assert labels(one("table3", source, rows={"t": "Qwen2.5-VL 32B"}), "ours") == ["t"]


def test_an_unknown_baseline_names_the_near_ones(tmp_path):
    source = write_bench(tmp_path / "b", {"tiny:sft": {"mmvp": [True] * 4}})
    with pytest.raises(
        (DamagedError, UsageError), match=r"no model of these runs .* 'tiny:sf': expected one like tiny:sft"
    ):
        tables.build("table1", [source], baseline="tiny:sf")


def test_tasks_of_no_column_are_named_and_alone_are_an_error(tmp_path):
    both = write_bench(tmp_path / "both", {"a": {"mmvp": [True] * 4, "hrbench": [True] * 4}})
    assert "measured, but no column of this table: hrbench" in one("table1", both).about
    alone = write_bench(tmp_path / "alone", {"a": {"hrbench": [True] * 4}})
    with pytest.raises(
        (DamagedError, UsageError), match=r"table1: none of its tasks was measured \(the runs have hrbench\)"
    ):
        tables.build("table1", [alone])


def accuracy(preset, seed, task, value, low, high, n=100, metric="accuracy"):
    return preset, seed, "answer", task, metric, value, low, high, n


@pytest.fixture
def matrix(tmp_path):
    depth = "relative_depth"
    lines = [
        accuracy("paper", 0, depth, 0.70, 0.60, 0.80),
        accuracy("paper", 1, depth, 0.80, 0.72, 0.88),
        accuracy("ours", 0, depth, 0.75, 0.65, 0.85),
        accuracy("no-semantic", 0, depth, 0.50, 0.4, 0.6),
        accuracy("k6", 0, depth, 1.0, 1.0, 1.0),
        accuracy("k6", 0, "iq", 0.5, 0.4, 0.6),
        accuracy("paper", 0, depth, 0.60, 0.5, 0.7, 50, "accuracy_mask"),
        accuracy("paper", 0, depth, 0.08, 0.02, 0.14, 50, "cost_mask"),
    ]
    compared = [("no-semantic", "ours", "answer", "relative_depth", "accuracy", -0.25, -0.35, -0.15, 100, "-0.2500")]
    trained = {"paper": (4, 1000), "ours": (4, 400), "k6": (6, 800)}
    return write_matrix(tmp_path / "matrix", lines, compared, trained)


def test_presets_find_the_rows_of_table_3(matrix):
    table = one("table3", matrix)
    order = [r.label for r in table.rows if r.source in ("ours", "published")]
    for ours, published in (
        ("paper", "LaViT 3B"), ("no-semantic", "w/o Semantic Reconstruction"),
        ("paper (latents mask)", "w/o Latent Tokens"),
    ):  # fmt: skip
        assert order.index(ours) + 1 == order.index(published)
    assert [r.label for r in table.rows if r.group == "no published row"] == ["ours", "k6"]


def test_seeds_are_averaged_with_the_mean_of_their_intervals(matrix):
    table = one("table3", matrix)
    found = row(table, "paper")
    cell = found.cells["rel_depth (drawn scenes)"]
    assert (cell.value, cell.low, cell.high) == (pytest.approx(75), pytest.approx(66), pytest.approx(84))
    assert any("mean of 2 seeds" in text for text in found.notes)


def test_an_interval_without_width_is_none(matrix):
    cell = row(one("table3", matrix), "k6").cells["rel_depth (drawn scenes)"]
    assert (cell.figure, cell.interval) == ("100.00", "")
    assert "no interval" in cell.notes[0]


def test_gains_of_a_matrix_are_over_ours_and_masking_is_over_the_same_preset(matrix):
    table = one("table3", matrix)
    paired = row(table, "no-semantic − ours").cells["rel_depth (drawn scenes)"]
    assert (paired.value, paired.low, paired.high) == (pytest.approx(-25), pytest.approx(-35), pytest.approx(-15))
    masked = row(table, "paper (latents mask) − paper").cells["rel_depth (drawn scenes)"]
    assert (masked.value, masked.low, masked.high, masked.n) == (
        pytest.approx(-8), pytest.approx(-14), pytest.approx(-2), 50,
    )  # fmt: skip
    assert row(table, "paper − ours").cells["rel_depth (drawn scenes)"].interval == ""  # nobody compared them


def test_table_a2_goes_by_latent_tokens_and_steps(matrix):
    table = one("tableA2", matrix)
    order = [(r.label, r.group) for r in table.rows]
    at = order.index(("k6 (K = 6, 800 steps)", "K = 6"))
    assert order[at + 1] == ("K = 6, 800 steps", "K = 6")
    assert ("ours (K = 4, 400 steps)", "K = 4") in order  # no published row of 400 steps
    assert any(text.endswith("not shown: paper (latents mask), no-semantic") for text in table.about)


def test_table_a2_without_one_of_its_tasks_is_an_error(tmp_path):
    source = write_matrix(tmp_path / "matrix", [accuracy("paper", 0, "relative_depth", 0.7, 0.6, 0.8)])
    with pytest.raises(
        UsageError, match=r"tableA2: none of its tasks was measured \(the runs have scenes_relative_depth"
    ):
        tables.build("tableA2", [source])


def test_sources_without_accuracies_are_named_or_an_error(tmp_path, pair, hub):
    _, student = pair
    table = one("table1", hub, student)
    assert any("an analysis, which has no benchmark accuracies" in text for text in table.about)
    with pytest.raises((DamagedError, UsageError), match="an analysis, which has no benchmark accuracies"):
        tables.build("table1", [student])


def test_another_schema_is_refused_when_the_folder_is_opened(tmp_path):
    with pytest.raises((DamagedError, UsageError), match="bench schema 7, this gapcheck reads 3"):
        write_bench(tmp_path / "b", {"a": {"mmvp": [True] * 4}}, schema=7)
    with pytest.raises((DamagedError, UsageError), match="does not exist"):
        open_source(tmp_path / "nothing")
