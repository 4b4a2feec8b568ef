"""Names on the command line: what they stand for, and what is said of a name that stands for nothing."""

from __future__ import annotations

import pytest

from benchmarks.suites import catalog
from benchmarks.suites.catalog import PAPER, SCENES, choose, definition
from benchmarks.suites.tasks import open_suites
from perception_gap.errors import UsageError
from tests.benchmark_data import BLINK


def test_suites_stand_for_their_tasks_in_order():
    assert choose(["paper"]) == [
        "mmvp", "vstar_bench_direct_attributes", "blink_relative_depth", "blink_iq_test", "blink_relative_reflectance",
        "blink_spatial_relation", "mmstar",
    ]  # fmt: skip
    assert choose(["vstar"]) == ["vstar_bench_direct_attributes", "vstar_bench_relative_position"]
    assert len(choose(["scenes"])) == 6
    assert choose(["mmstar", "vstar"]) == ["mmstar", *choose(["vstar"])]


@pytest.mark.parametrize("name", ["blink", "blink_groups"])
def test_lmms_evals_group_and_tag_stand_for_all_of_blink(name):
    expected = {f"blink_{subset.lower().replace('multi-view', 'multi_view')}" for subset in BLINK}
    assert set(choose([name])) == expected
    assert len(expected) == 14


def test_a_group_of_two_tasks_keeps_its_order():
    assert choose(["hrbench"]) == ["hrbench4k", "hrbench8k"]


def test_a_task_named_twice_or_through_its_suite_is_run_once():
    assert choose(["mmvp", " mmvp ", "paper", "mmstar"]) == list(PAPER)
    assert choose(["scenes_iq", "scenes"])[0] == "scenes_iq"
    assert sorted(choose(["scenes_iq", "scenes"])) == sorted(SCENES)


def test_unknown_names_are_all_said_with_near_matches():
    with pytest.raises(UsageError) as error:
        choose(["mmvpp", "mmstar", "scene_iq", "zzzzqqqq"])
    text = str(error.value)
    assert "'mmvpp': did you mean mmvp" in text
    assert "'scene_iq': did you mean scenes_iq" in text
    assert "'zzzzqqqq': expected paper, scenes, vstar or a task id of lmms-eval" in text
    assert text.endswith("nothing was run")
    assert "\n" not in text


@pytest.mark.parametrize("names", [[], [""], [" ", ""]])
def test_no_name_at_all_is_refused(names):
    with pytest.raises(UsageError, match=r"names no suite or task; expected paper, scenes"):
        choose(names)


def test_a_group_whose_tasks_do_not_exist_says_which():
    with pytest.raises(UsageError, match=r"'olympiadbench' names tasks .* not have: olympiadbench_testmini"):
        choose(["olympiadbench"])


def test_a_group_that_changes_its_tasks_is_refused():
    with pytest.raises(UsageError, match=r"'jmmmu' changes the settings of its tasks: name the tasks"):
        choose(["jmmmu"])


def test_a_task_that_is_a_python_class_is_refused():
    assert choose(["vstat"]) == ["vstat"]
    with pytest.raises(UsageError, match=r"'vstat' is a Python class .* gapcheck_hf"):
        definition("vstat")


def test_a_task_that_generates_no_text_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"task gpqa_main_zeroshot: asks for multiple_choice; .* generate text"):
        open_suites(["gpqa_main_zeroshot"], None, tmp_path)


def test_a_definition_that_does_not_load_is_a_line_and_no_traceback(monkeypatch):
    monkeypatch.delenv("HF_HOME", raising=False)  # which tempcompass reads as it is imported
    with pytest.raises(UsageError, match=r"'tempcompass_yes_no': its definition does not load .KeyError: 'HF_HOME'"):
        definition("tempcompass_yes_no")


def test_definitions_are_lmms_evals_own():
    config = definition("mmvp")
    assert config["dataset_path"] == "lmms-lab-eval/MMVP"
    assert config["generation_kwargs"]["max_new_tokens"] == 16
    assert config["doc_to_text"].__name__ == "mmvp_doc_to_text"


def test_scenes_do_not_read_the_index_of_lmms_eval(monkeypatch, tmp_path):
    from lmms_eval.tasks import TaskManager

    def built(*args, **kwargs):
        raise AssertionError("the index was read")

    catalog._index.cache_clear()
    monkeypatch.setattr(TaskManager, "__init__", built)
    suites = open_suites(["scenes", "scenes_iq"], None, tmp_path, limit=1)
    assert [suite.name for suite in suites] == list(SCENES)
    with pytest.raises(AssertionError, match=r"the index was read"):  # any other name does
        choose(["mmvp"])
