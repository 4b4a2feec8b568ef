import re
import shlex
from itertools import product
from pathlib import Path

import click
import pytest

from benchmarks.published import load
from benchmarks.suites.catalog import choose
from lavit.settings import parse_changes, settings_of
from perception_gap.cli import main
from perception_gap.cli.reproduction import needs
from perception_gap.cli.reproduction.findings import differences, estimate, printed_beside
from perception_gap.cli.reproduction.plan import Plan, Step, Wanted
from perception_gap.cli.reproduction.recipes import ROLES, TARGETS, latent_roles
from perception_gap.tiny import TINY, WEIGHTS
from tests.command import gapcheck
from tests.unit.reports.tables.synthetic_bench import write_bench

KINDS = ({}, {"tiny": True}, {"tiny": True, "retrain": True})


def plan(target, **options):
    return Plan(Wanted(target, Path("OUT"), viscot=Path("viscot.json"), image_root=Path("images"), **options))


def step_of(command, model, **options):
    return Step(command, ("M",), options, loads=(model,))


def commands(target, **options):
    return [step.command for step in plan(target, **options).steps]


@pytest.mark.parametrize(("target", "kind"), product(TARGETS, KINDS))
def test_every_step_is_a_command_line_that_its_command_takes(target, kind):
    steps = plan(target, **kind).steps
    assert steps
    for step in steps:
        words = shlex.split(step.line)
        assert words[0] == "gapcheck"
        found = main.get_command(click.Context(main), words[1])
        assert found is not None
        context = found.make_context(words[1], words[2:])
        if step.command == "bench":
            assert choose(context.params["suites"].split(","))
            assert context.params["baseline"] in (None, *context.params["models"])
        if step.command == "train":
            changed = settings_of(
                context.params["preset"], context.params["scale"], parse_changes(context.params["changes"])
            )
            assert changed.closing_token == ""  # as in the paper, so that an ablation differs by one thing


@pytest.mark.parametrize("target", [name for name in TARGETS if TARGETS[name].is_table])
def test_every_model_of_a_table_has_its_published_row(target):
    printed = load("lavit").table(TARGETS[target].show)
    for kind in KINDS:
        rows = plan(target, **kind).rows
        assert len(set(rows.values())) == len(rows)
        for row in rows.values():
            assert printed.row(row).name == row


def test_table_a2_has_every_published_row_and_tiny_its_latent_counts():
    printed = {row.name for row in load("lavit").table("tableA2").rows}
    assert set(plan("tableA2").rows.values()) == printed
    assert set(plan("tableA2", tiny=True, retrain=True).rows.values()) == printed
    assert list(plan("tableA2", tiny=True).rows) == [
        "tiny:student", "tiny:sft", "tiny:lavit", "tiny:k6", "tiny:k8",
    ]  # fmt: skip


def test_the_steps_of_table_a2_differ_in_latents_and_steps_alone():
    for tiny, unit in ((False, 1), (True, 0.4)):
        trained = {}
        for role in latent_roles(tiny).values():
            chosen = settings_of(role.preset, "tiny" if tiny else "full", parse_changes(role.changes))
            trained[chosen.n_latents, chosen.steps / unit] = chosen
        assert trained.keys() == {(k, s) for k in (4, 6, 8) for s in (600, 800, 1000, 1200, 1400)}
        assert len({(c.learning_rate, c.gate_warmup, c.trajectory_weight, c.seed) for c in trained.values()}) == 1


def test_every_tiny_model_of_a_role_is_embedded_with_its_card():
    named = {role.tiny for role in (*ROLES.values(), *latent_roles(True).values()) if role.tiny}
    assert len(named) == 10
    for name in named:
        folder = WEIGHTS / name.removeprefix(TINY)
        assert (folder / "config.json").is_file()
        card = (folder / "README.md").read_text()
        assert f"# {name}\n" in card
        assert "What it scores" in card


def test_figures_have_what_the_paper_prints_beside_them():
    assert printed_beside("figure2") == (
        "The paper prints: Qwen2.5-VL 32B, correct answers: 15.89 %; Qwen2.5-VL 32B, incorrect answers: 11.84 % (fig2)."
    )
    assert "functional tokens: 1.11; attribute tokens: 1.39; lowest category: 0.52" in printed_beside("figure3")
    assert printed_beside("figure4") == (
        "The paper prints: Qwen2.5-VL 32B: 4.284; Qwen2.5-VL 3B: 4.870; LaViT 3B: 4.686 (table2)."
    )
    assert printed_beside("figure5") == printed_beside("table1") == ""


@pytest.mark.parametrize(
    ("found", "unit", "said"),
    [
        ({"mean": 4.1, "ci": [4.0, 4.2], "n": 1200}, "nats", "4.10 nats [4.00, 4.20], n 1,200"),
        ({"mean": 4.1, "ci": None, "n": 1}, "nats", "4.10 nats, n 1"),
        ({"mean": 1.0, "ci": [0.7, 1.0], "n": 9}, "%", "100.0 % [70.0, 100.0], n 9"),
        ({"mean": -0.05, "ci": [-0.08, -0.02], "n": 9}, "points", "−5.0 points [−8.0, −2.0], n 9"),
        ({"mean": None, "ci": None, "n": 0}, "%", "undefined, n 0"),
        (None, "%", "undefined"),
    ],
)
def test_an_estimate_has_its_interval_where_it_has_one_and_its_n(found, unit, said):
    assert estimate(found, unit) == said


def test_differences_are_over_all_tasks(tmp_path):
    wanted = plan("table1", tiny=True)
    base, *others = wanted.names.values()
    half, most = [True, False] * 10, [True] * 15 + [False] * 5
    models = {base: {"scenes_iq": half, "mmvp": half}}
    models |= {name: {"scenes_iq": most, "mmvp": half} for name in others}
    said = differences(wanted, write_bench(tmp_path / "b", models, base))
    assert said.startswith(f"Accuracy over all questions minus that of {base}: {others[0]} 12.5 points [")
    assert said.count("12.5 points") == len(others)  # 25 points of half of the questions
    assert said.count(", n 40") == len(others)


def test_what_is_given_is_not_made_again():
    assert commands("table2") == ["trace", "train", "bench"]
    assert commands("table2", traces=Path("t")) == ["train", "bench"]
    assert commands("table2", models={"lavit": "l"}) == ["bench"]
    assert commands("table1") == ["trace", "train", "train", "bench"]
    assert commands("table3") == ["trace", *["train"] * 5, "bench", "bench"]
    assert commands("tableA2") == ["trace", *["train"] * 16, "bench"]
    assert commands("table3", tiny=True) == ["bench", "bench"]
    assert commands("figure2") == ["analyze"]
    assert commands("figure5", tiny=True, retrain=True) == ["trace", "train", "analyze", "analyze", "analyze"]


def test_targets_that_share_a_folder_share_their_steps():
    assert plan("figure4", models={"lavit": "l"}).steps == plan("table2", models={"lavit": "l"}).steps
    assert plan("figure2").steps[0] == plan("figure3").steps[0]
    assert all(step in plan("table1").steps for step in plan("figure4").steps[:2])
    folders = [s.options["out"] for s in plan("table3").steps]
    assert len(set(folders)) == len(folders)


def test_masked_latents_are_asked_of_lavit_alone():
    last = plan("table3").steps[-1]
    assert last.argv[:4] == ["bench", "OUT/lavit/model", "--latents", "mask"]
    assert last.options["suite"] == plan("table3").steps[-2].options["suite"]


def test_options_of_measuring_reach_every_step_that_measures():
    for step in plan("table1", asking={"dtype": "bfloat16"}, batch_size=3).steps:
        assert (step.options.get("dtype") == "bfloat16") is (step.command != "train")
        assert (step.options.get("batch-size") == 3) is (step.command != "train")


# By hand: 3B has 3,754,622,976 parameters, 668,684,288 of them in the tower; a picture of at most 1,003,520 px is 1,280
# tokens, with 166 of text 1,446; keys and values: 36 layers × 2 × 256 × 2 bytes a token.
def test_memory_to_ask_and_to_train_by_hand():
    asked = needs.needs(step_of("bench", "Qwen/Qwen2.5-VL-3B-Instruct", suite="mmvp"))
    cache = 8 * 1446 * 36 * 2 * 256 * 2
    assert f"about {1.2 * (2 * 3_754_622_976 + cache) / 1e9:.0f} GB" in asked[1]
    assert f"{cache / 1e9:.1f} GB of keys" in asked[1]
    trained = needs.needs(step_of("train", "Qwen2.5-VL-3B-Instruct", traces="T", preset="paper", set=()))
    states = 4 * 3_754_622_976 + 12 * 3_085_938_688
    inputs = 36 * 16 * 1446 * 2048 * 4
    assert f"about {1.2 * (states + inputs) / 1e9:.0f} GB" in trained[1]


def test_hours_by_hand_and_in_proportion():
    size = needs.SIZES["Qwen2.5-VL-3B-Instruct"]
    # 2 × 3.75e9 × 1,446 FLOP at 395.6 TFLOP/s: 27.4 ms; sixteen decoding steps of 30 ms for a batch of eight: 60 ms.
    assert needs.ask_hours(size, 3600, 1446, 8, passes=1) == pytest.approx(0.0274 + 0.060, rel=2e-3)
    assert needs.ask_hours(size, 7200, 1446, 8, passes=1) == 2 * needs.ask_hours(size, 3600, 1446, 8, passes=1)
    options = {"traces": "T", "preset": "paper", "set": ("steps=2000",)}
    line = needs.needs(step_of("train", "Qwen2.5-VL-3B-Instruct", **options))[2]
    hours = 2000 * 16 * 1446 * 8 * size.parameters / (0.4 * 989e12) / 3600
    assert f"about {hours:.1f} for 2,000 steps of 16" in line


@pytest.mark.parametrize(
    ("name", "heads", "vocabulary", "inner", "vision_inner"),
    [("3B", 16, 151936, 11008, 3420), ("7B", 28, 152064, 18944, 3420), ("32B", 40, 152064, 27648, 3456)],
)
def test_sizes_are_those_of_the_models_class(name, heads, vocabulary, inner, vision_inner):
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    size = needs.SIZES[f"Qwen2.5-VL-{name}-Instruct"]
    text = {"hidden_size": size.width, "num_hidden_layers": size.layers, "num_attention_heads": heads,
            "num_key_value_heads": size.keys // 128, "intermediate_size": inner, "vocab_size": vocabulary}  # fmt: skip
    vision = {"depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": vision_inner,
              "out_hidden_size": size.width}  # fmt: skip
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=name == "3B")
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    model.tie_weights()
    named = dict(model.named_parameters())
    assert sum(p.numel() for p in named.values()) == size.parameters
    assert sum(p.numel() for name, p in named.items() if "visual" in name) == size.vision


def test_questions_are_those_of_the_published_tables():
    assert needs.questions_of("paper", None) == 300 + 115 + 124 + 150 + 134 + 143 + 1500
    assert needs.questions_of("blink_relative_depth,blink_iq_test", 130) == 124 + 130


def test_a_model_of_unknown_size_has_no_estimate():
    lines = needs.needs(step_of("bench", "a/b", suite="mmvp"))
    assert lines[1].startswith("memory, hours: unknown for a/b; ")
    assert not any("GB" in line for line in lines[1:])


def test_a_dry_run_prints_the_steps_as_a_script_and_calls_every_figure_estimated(tmp_path):
    status, said = gapcheck("reproduce", "table1", "--dry-run", "--out", tmp_path / "o", "--limit", 5)
    assert status == 0
    assert not (tmp_path / "o").exists()
    lines = [line for line in said.splitlines() if line and not line.startswith("#")]
    wanted = Wanted(
        "table1", tmp_path / "o", viscot=Path("viscot_363k.json"), image_root=Path("images"), limit=5,
        instruction="Answer in a few words.",
        asking={"min-pixels": 200704, "max-pixels": 1003520},
    )  # fmt: skip
    assert lines[:-1] == [step.line for step in Plan(wanted).steps]
    figures = re.findall(r"^#    (?:memory|hours): .*$", said, re.MULTILINE)
    assert len(figures) == 2 * 4
    assert all(line.endswith("(estimated)") for line in figures)
    assert "hf download BLINK-Benchmark/BLINK --repo-type dataset --local-dir DATA/BLINK-Benchmark/BLINK" in said
    assert "for 35 questions" in said


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["figur3"], "unknown target 'figur3': did you mean figure3 or"),
        (["results"], "unknown target 'results': expected one of table1, table2, table3, tableA2, figure2"),
        (["table1", "--retrain"], "--retrain: belongs to --tiny"),
        (["table1", "--tiny", "--teacher", "a/b"], "--teacher: --tiny brings its own models and data"),
        (["table1", "--tiny", "--data-root", "d"], "--data-root: --tiny brings its own models and data"),
        (["table1", "--tiny", "--trace-limit", "3"], "--trace-limit: nothing is trained with --tiny alone"),
        (["table1", "--tiny", "--set", "steps=3"], "--set: nothing is trained with --tiny alone"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(arguments, reason):
    status, said = gapcheck("reproduce", *arguments)
    assert status == 2
    assert said.count("\n") == 1
    assert reason in said
