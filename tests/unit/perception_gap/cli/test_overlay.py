"""`gapcheck overlay` on real tiny checkpoints of several families, one's own pictures, and whatever may be mistyped."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors.numpy import load_file, save_file

from perception_gap.cli import main
from perception_gap.cli.overlay import SAMPLE, read_boxes, read_sample, run_models, summary_lines
from perception_gap.data.scenes import scenes
from perception_gap.errors import UsageError
from tests.unit.reports.synthetic_run import STUDENT, TEACHER, with_samples, write_run

ASKED = ("--question", "What colour is the small star?", "--max-new-tokens", 6, "--device", "cpu")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two pictures of 120 × 80 and 60 × 90 pixels."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    paths = []
    for i, (height, width) in enumerate([(80, 120), (90, 60)]):
        paths.append(folder / f"{i}.png")
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(paths[-1])
    return paths


def overlay(*arguments):
    result = CliRunner().invoke(main, ["overlay", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "llava_next", "llava"])
def test_one_command_makes_one_figure_of_any_family(tiny_checkpoint, pictures, tmp_path, kind):
    out = tmp_path / "new" / "overlay.png"
    result = overlay(tiny_checkpoint(kind), "--image", pictures[0], *ASKED, "--out", out)
    assert result.exit_code == 0, result.output
    with Image.open(out) as figure:
        assert figure.width == 6.9 * 150
        assert figure.height > 200
    assert [path.name for path in out.parent.iterdir()] == ["overlay.png"]
    lines = result.stdout.splitlines()
    assert lines[-1] == f"figure {out}"
    assert re.match(rf"{kind}\S*  –  \S", lines[-2])  # no reference: neither right nor wrong
    assert "focus" not in result.stdout
    assert "KL" not in result.stdout


def test_several_models_and_pictures_are_compared_on_the_first_ones_answer(tiny_checkpoint, pictures, tmp_path):
    models = [tiny_checkpoint(kind) for kind in ("llava_next", "qwen2_5_vl", "llava")]
    images = [word for path in pictures for word in ("--image", path)]
    out = tmp_path / "overlay.svg"
    result = overlay(*models, *images, *ASKED, "--boxes", "10,10,60,60;0,0,30,30,1", "--answer", "red", "--out", out)
    assert result.exit_code == 0, result.output
    first, *others = result.stdout.splitlines()[:3]
    assert re.search(r"  ✗  focus +\d+\.\d %  ", first)
    assert "KL" not in first
    assert all(re.search(r"  ✗  focus +\d+\.\d %  KL \d+\.\d\d nats  ", line) for line in others)
    assert out.read_text().startswith("<?xml")


def test_the_runs_are_those_of_analyze_and_the_first_is_everybodys_teacher(tiny_checkpoint, pictures, tmp_path):
    from perception_gap.measure.settings import Settings

    sample = read_sample({"images": (pictures[0],), "question": "what is red", "answer": None, "options": (),
                          "boxes": ("10,10,60,60",)})  # fmt: skip
    # A trained one, whose answer is words: random bytes are other tokens when they are read again.
    models = ["tiny:student", "tiny:student", str(tiny_checkpoint("llava"))]
    settings = Settings(max_new_tokens=5, load={"device": "cpu"})
    teacher, same, other = run_models(models, sample, settings, "first", tmp_path)
    answer = teacher.row(SAMPLE)["answer"]
    for run in (same, other):
        row = run.row(SAMPLE)
        assert row["shared_text"] == answer
        assert row["correct"] is None
        made = run.teacher()
        assert made is not None
        assert made.path == teacher.path
    assert same.row(SAMPLE)["kl"] < 1e-5 < other.row(SAMPLE)["kl"]
    assert 0 < teacher.row(SAMPLE)["focus_score"] < 1
    own = run_models(models[1:], sample, settings, "own", tmp_path / "own")
    assert all(run.info["teacher"] is None and pd.isna(run.row(SAMPLE)["shared_text"]) for run in own)


def test_the_reference_may_be_the_text_and_the_question_may_be_the_rows(tiny_checkpoint, pictures, tmp_path):
    model = tiny_checkpoint("qwen2_5_vl")
    more = ("--text", "reference", "--answer", "the star is red", "--no-words", "--out", tmp_path / "a.pdf")
    result = overlay(model, model, "--image", pictures[0], *ASKED, *more)
    assert result.exit_code == 0, result.output
    assert "KL 0.00 nats" in result.stdout
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    result = overlay(model, "--image", pictures[0], *ASKED, "--rows", "question", "--smooth", "--layers", "last1",
                     "--top-k", 0, "--out", tmp_path / "b.png")  # fmt: skip
    assert result.exit_code == 0, result.output


def test_options_are_asked_and_judged(tiny_checkpoint, pictures, tmp_path):
    model = tiny_checkpoint("llava")
    asked = ("--image", pictures[0], *ASKED, "--options", "red; green", "--out", tmp_path / "a.png")
    assert "✗" in overlay(model, *asked, "--answer", "B").stdout
    result = overlay(model, *asked, "--answer", "blue")
    assert result.exit_code == 2
    assert "reference 'blue' does not name exactly one of the options ['red', 'green']" in result.stderr
    result = overlay(model, *asked)
    assert result.exit_code == 0, result.output
    assert "–" in result.stdout


@pytest.mark.filterwarnings("error")
def test_letters_without_a_font_are_said_in_one_line(tiny_checkpoint, pictures, tmp_path):
    result = overlay(tiny_checkpoint("llava"), "--image", pictures[0], "--question", "Цвет $x_{1$? ꙮ 𓀀 \U000f1234",
                     "--max-new-tokens", 2, "--device", "cpu", "--out", tmp_path / "a.png")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stderr.count("some letters are in no installed font") == 1


def test_a_sample_that_fails_is_a_failure_with_its_reason(tiny_checkpoint, pictures, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_checkpoint("qwen2_5_vl"), broken)
    weights = load_file(broken / "model.safetensors")
    name = next(name for name in weights if name.endswith("layers.2.mlp.down_proj.weight"))
    weights[name] = np.full_like(weights[name], np.nan)
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    out = tmp_path / "a.png"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = overlay(broken, "--image", pictures[0], *ASKED, "--out", out)
    assert result.exit_code == 1
    (said,) = [line for line in result.stderr.splitlines() if "error" in line]
    assert f"{broken}: the model produced NaN or infinite values" in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--image", "{}/none.png"], "none.png' does not exist"),
        (["--image", "{}/text.png"], "text.png: cannot be decoded"),
        (["--boxes", "1,2,3"], "--boxes '1,2,3': expected x0,y0,x1,y1 in pixels"),
        (["--boxes", "a,b,c,d"], "--boxes 'a,b,c,d': expected"),
        (["--boxes", "1,2,nan,4"], "box [1.0, 2.0, NaN, 4.0]: expected [x0, y0, x1, y1]"),
        (["--boxes", "50,5,10,20"], "box [50, 5, 10, 20] covers nothing of image 0 (120 × 80 pixels)"),
        (["--boxes", "5,5,10,2000"], "box [5, 5, 10, 2000] reaches outside image 0 (120 × 80 pixels)"),
        (["--boxes", "5,5,10,20,1"], "image index 1: expected 0 to 0"),
        (["--question", " "], 'question is " ": expected a text that is not empty'),
        (["--answer", ""], 'answer is "": expected a text that is not empty'),
        (["--options", "red;;blue"], 'options is ["red", "", "blue"]: expected a list of texts'),
        (["--out", "{}/a.bmp"], "a.bmp: expected a file that ends in .png, .pdf, .svg"),
        (["--out", "{}/folder.png"], "folder.png: is a folder; expected a file"),
        (["--out", "{}/text.png/a.png"], "text.png/a.png: cannot be written"),
        (["--out", "{}/good.png"], "good.png: is the picture itself"),
        (["--text", "reference"], "--text reference: expected several MODELs and an --answer"),
        (["a", "b", "c", "d", "e", "f"], "7 models: expected at most 6"),
        (["tiny:none"], "model 'tiny:none' is not embedded; present: tiny:"),
        (["{}/text"], "model type 'bert' has no adapter here, and it is text-only: it has no image tokens"),
        (["{}/other", "--revision", "x"], "--revision belongs to one model"),
    ],
)
def test_wrong_input_is_one_line_before_any_model_is_loaded(tmp_path, pictures, arguments, says):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    shutil.copy(pictures[0], tmp_path / "good.png")
    for name, kind in (("text", "bert"), ("other", "blip-2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"model_type": kind}))
    given = [argument.format(tmp_path) for argument in arguments]
    start = ["tiny:teacher", "--out", tmp_path / "a.png", "--question", "what"]
    start += [] if "--image" in given else ["--image", tmp_path / "good.png"]
    result = overlay(*start, *given)
    assert result.exit_code == 2
    assert result.stderr.startswith("gapcheck: error: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr
    assert not (tmp_path / "a.png").exists()
    assert not list(tmp_path.glob("*.part"))


def test_boxes_come_one_by_one_or_together():
    boxes = ((1.0, 2.0, 3.0, 4.0), (5.5, 6.0, 7.0, 8.0))
    assert read_boxes(["1,2,3,4; 5.5,6,7,8,1"], 2) == (boxes, (0, 1))
    assert read_boxes(["1,2,3,4", " 5.5, 6, 7, 8, 1;"], 2) == (boxes, (0, 1))
    assert read_boxes([], 1) == ((), ())
    with pytest.raises(UsageError, match=r"image index 1\.5"):
        read_boxes(["1,2,3,4,1.5"], 2)


def test_what_is_undefined_is_said_in_words(tmp_path):
    drawn = replace(next(iter(scenes(n=1))), id="1")
    teacher = write_run(tmp_path / "teacher", [drawn], TEACHER)
    student = write_run(tmp_path / "student", [drawn], STUDENT, teacher)
    row = student.row("1")
    (line,) = summary_lines([student])
    assert f"focus {100 * row['focus_score']:5.1f} %  KL {row['kl']:.2f} nats" in line
    (line,) = summary_lines([with_samples(student, student.samples.assign(focus_score=np.nan, kl=np.nan))])
    assert "focus undefined  KL undefined" in line
    assert "nan" not in line
