"""The authors' layout, written as their scripts write it, converted and read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from lavit.data import boxed
from lavit.traces import Traces, resample
from lavit.traces import released_rows as notes
from lavit.traces.read import failures
from lavit.traces.released import TEACHER, convert
from lavit.traces.released_files import FARTHEST, grid_of
from perception_gap.errors import UsageError
from perception_gap.geometry import TokenGeometry
from perception_gap.metrics import focus_score
from tests.integration.test_analyze import gapcheck

WIDTH = 6
LANDSCAPE, PORTRAIT = (140, 56), (56, 140)  # 2 × 5 and 5 × 2 tokens of 28 pixels


class Release:
    """A LaViT-15k folder under construction."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        for name in ("images/cot", "features/vtop", "features/trajectories", "metadata"):
            (self.data / name).mkdir(parents=True)
        self.source = self.data / "metadata" / "lavit_15k_for_training.json"
        self.rows: list[dict] = []

    def add(self, size: tuple[int, int] = LANDSCAPE, n: int = 10, **change) -> int:
        """One sample with all its files; returns its question_id. change: of its row; None leaves a field out."""
        number = len(self.rows) + 1
        image = f"cot/{number}.png"
        Image.new("RGB", size, (number, 0, 0)).save(self.data / "images" / image)
        self.v_top(number, features(n, number))
        self.trajectory(number, scores(n, number % n))
        row = {
            "question_id": number, "dataset": "gqa", "split": "train", "question": f"What is number {number}?",
            "ground_truth_enriched": f"answer {number}", "image_relative_path": image,
            "v_top_path_abs": str(self.v_top_file(number)), "attention_path_abs": str(self.trajectory_file(number)),
        }  # fmt: skip
        self.rows.append({k: v for k, v in (row | change).items() if v is not None})
        return number

    def v_top_file(self, number: int) -> Path:
        return self.data / "features" / "vtop" / f"sample_{number:06d}_v_top_layer.pth"

    def trajectory_file(self, number: int) -> Path:
        return self.data / "features" / "trajectories" / f"sample_{number:06d}_attention.json"

    def v_top(self, number: int, states: torch.Tensor) -> None:
        torch.save(states, self.v_top_file(number))

    def trajectory(self, number: int, raw: list[float]) -> None:
        self.trajectory_file(number).write_text(json.dumps({"steps": [step(raw), step(raw[::-1])]}))

    def write(self, **around) -> Path:
        self.source.write_text(json.dumps(around | {"results": self.rows}, indent=2))
        return self.source


def features(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)


def scores(n: int, brightest: int) -> list[float]:
    """Raw scores that fall off from the brightest token on."""
    return [1e-5 * (n - (i - brightest) % n) for i in range(n)]


def step(raw: list[float]) -> dict:
    low, high = min(raw), max(raw)
    scaled = [(v - low) / (high - low + 1e-10) for v in raw]
    return {"p_t": scaled, "p_topk_idx": [int(np.argmax(scaled))], "raw_attention_scores": raw, "tau_used": "attention"}


@pytest.fixture
def release(tmp_path) -> Release:
    return Release(tmp_path / "LaViT-15k")


def converted(release: Release, out: Path | None = None, **options) -> Traces:
    """The traces, opened; rows at `rows_of`."""
    out = out or release.folder.parent / "out"
    convert(release.write(), out, progress=False, **options)
    return Traces.open(out)


def rows_of(traces: Traces) -> dict[str, dict]:
    return {row["sample_id"]: row for row in pq.read_table(traces.path / "traces.parquet").to_pylist()}


def test_target_and_v_sem_are_those_worked_out_by_hand(release):
    release.add()
    release.trajectory(1, [2.0, 0, 0, 0, 0, 0, 0, 0, 6.0, 4.0])
    traces = converted(release, top_k=2)
    trace = traces[0]
    assert traces.width == WIDTH
    assert trace.gaze.index.tolist() == [8, 9]  # 2, 6, 4 → 1/3, 1, 2/3 → the upper two, renormalised
    assert trace.gaze.weights == pytest.approx([0.6, 0.4], abs=1e-3)
    assert trace.v_sem == pytest.approx(features(10, 1).float().mean(0).numpy(), rel=1e-3, abs=1e-4)
    assert trace.v_sem.dtype == np.float16
    assert (trace.answer, trace.sample.answer, trace.sample.question) == ("answer 1", "answer 1", "What is number 1?")
    assert (trace.sample.id, trace.sample.task, trace.sample.boxes, trace.sizes) == ("1", "gqa", (), [(56, 140)])
    assert trace.sample.images[0].resolve() == (release.data / "images" / "cot" / "1.png").resolve()
    row = rows_of(traces)["1"]
    assert (row["pooling"], row["n_image_tokens"], row["kept"], row["dropped_by"]) == ("mean", 10, True, None)
    assert all(row[name] is None for name in ("correct", "blind_correct", "focus", "aligned", "text_image_mass"))


@pytest.mark.parametrize(
    ("size", "bright", "rectangle", "grid"),
    [(LANDSCAPE, 1 * 5 + 3, (0.6, 0.5, 0.8, 1.0), (2, 5)), (PORTRAIT, 3 * 2 + 1, (0.5, 0.6, 1.0, 0.8), (5, 2))],
)
def test_a_bright_token_covers_exactly_its_rectangle_of_the_picture(release, size, bright, rectangle, grid):
    release.add(size)
    release.trajectory(1, [float(i == bright) for i in range(10)])
    trace = converted(release)[0]
    assert trace.grid == grid
    assert trace.gaze.boxes == pytest.approx(np.array([rectangle]), abs=1e-6)
    students = TokenGeometry.grid(10, 10)
    assert focus_score(resample(trace.gaze, students), students, np.array([rectangle]), [0]) == pytest.approx(1)


def test_p_t_stands_in_for_raw_scores_and_only_the_first_step_counts(release):
    release.add()
    release.add()
    raw = scores(10, 4)
    release.trajectory_file(1).write_text(json.dumps({"steps": [step(raw), step(raw[::-1])]}))
    only = {"steps": [{"p_t": step(raw)["p_t"]}]}
    release.trajectory_file(2).write_text(json.dumps(only))
    traces = converted(release)
    assert traces[0].gaze.index.tolist() == traces[1].gaze.index.tolist() == [4, 5, 6, 7, 8, 9, 0, 1]
    assert traces[0].gaze.weights == pytest.approx(traces[1].gaze.weights, abs=1e-3)


def test_gaze_pooling_weights_the_tokens_by_their_raw_scores(release):
    release.add()
    release.add()
    release.trajectory_file(2).unlink()
    traces = converted(release, pooling="gaze")
    weights = np.array(scores(10, 1))
    expected = weights @ features(10, 1).float().numpy() / weights.sum()
    assert traces[0].v_sem == pytest.approx(expected, rel=2e-3, abs=1e-3)
    assert traces[1].v_sem is None
    assert traces.info["notes"][notes.NO_WEIGHTS] == 1


def test_every_way_of_writing_a_path_finds_the_same_file(release):
    elsewhere = "/home/them/LaViT-15k/data/features"
    names = ("sample_{:06d}_v_top_layer.pth", "sample_{:06d}_attention.json")
    written = [
        {},  # absolute
        {"v_top_path_abs": "data/features/vtop/" + names[0],
         "attention_path_abs": "data/features/trajectories/" + names[1],
         "image_relative_path": "data/images/cot/2.png"},
        {"v_top_path_abs": names[0], "attention_path_abs": names[1]},  # relative to the folder
        {"v_top_path_abs": f"{elsewhere}/vtop/{names[0]}", "attention_path_abs": f"{elsewhere}/trajectories/{names[1]}",
         "image_relative_path": "/home/them/LaViT-15k/data/images/cot/4.png"},
        {"v_top_path_abs": "LaViT-15k/data/features/vtop/" + names[0],
         "attention_path_abs": "../LaViT-15k/data/features/trajectories/" + names[1]},
        {"v_top_path_abs": "/tmp/tensors/" + names[0], "attention_path_abs": "/tmp/steps/" + names[1]},
        {"v_top_path_abs": None, "attention_path_abs": None},  # by its usual name
    ]  # fmt: skip
    for number, change in enumerate(written, start=1):
        release.add(**{k: v and v.format(number) for k, v in change.items()})
    traces = converted(release)
    assert len(traces) == len(written)
    for i, trace in enumerate(traces):
        assert trace.gaze.index[0] == (i + 1) % 10
        assert trace.v_sem == pytest.approx(features(10, i + 1).float().mean(0).numpy(), rel=1e-3, abs=1e-4)
        assert trace.sample.images[0].is_file()


def test_arrays_of_numpy_and_the_names_of_the_metadata_file_are_read(release):
    number = release.add()
    np.save(release.v_top_file(number).with_suffix(".npy"), np.full((10, WIDTH), 0.5, np.float32))
    release.rows = [{
        "sample_id": "lavit_000001", "question_id": "textvqa-7", "source_dataset": "textvqa", "question": "Why?",
        "ground_truth": "because", "image_path": "data/images/cot/1.png",
        "v_top_path": "data/features/vtop/sample_000001_v_top_layer.npy",
        "trajectory_path": "data/features/trajectories/sample_000001_attention.json",
    }]  # fmt: skip
    trace = converted(release)[0]
    assert (trace.sample.id, trace.sample.task, trace.answer) == ("textvqa-7", "textvqa", "because")
    assert trace.v_sem.tolist() == [0.5] * WIDTH
    assert trace.gaze.index[0] == 1


def test_the_extractors_own_files_bring_answers_verdicts_and_boxes(release):
    for _ in range(4):
        release.add()
    raw = scores(10, 8)
    common = {"question": "What?", "ground_truth": "cat", "image_path": str(release.data / "images/cot/1.png")}
    whole = common | {
        "question_id": 1, "teacher_full_response": "It is a cat.", "final_answer": "cat",
        "v_top_layer_path": "vtop/" + release.v_top_file(1).name, "trajectory": {"steps": [step(raw)]},
        "validation": {"is_correct": True}, "bboxes": [[0.6, 0.5, 0.8, 1.0]],
    }  # fmt: skip
    wrong = common | {
        "question_id": 2, "teacher_full_response": "A dog.", "validation": {"is_correct": False}, "skipped": True,
        "skip_reason": "Answer validation failed",
    }  # fmt: skip
    rows = [whole, wrong, {"question_id": 3, "error": "CUDA out of memory", "image_path": None},
            common | {"question_id": 4, "skipped": True, "skip_reason": "no image tokens"}]  # fmt: skip
    lines = release.data / "features" / "trajectories.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in [{"type": "metadata", "processing_params": {}}, *rows]))
    array = lines.with_suffix(".json")
    array.write_text(json.dumps({"processing_params": {"results": 3}, "results": rows}, indent=2))
    for source in (lines, array):
        out = release.folder / source.suffix
        convert(source, out, progress=False)
        traces = Traces.open(out)
        assert len(traces) == 1
        trace = traces[0]
        assert (trace.answer, trace.sample.answer) == ("It is a cat.", "cat")
        assert trace.sample.boxes == (pytest.approx((84, 28, 112, 56)),)
        assert trace.gaze.index[0] == 8
        assert trace.gaze.boxes[0] == pytest.approx((0.6, 0.5, 0.8, 1.0), abs=1e-6)
        assert resample(boxed(traces)(0).gaze, TokenGeometry.grid(2, 5)).argmax() == 8
        stored = rows_of(traces)
        assert [stored[i]["dropped_by"] for i in "1234"] == [None, "correctness", "failed", "failed"]
        assert [stored[i]["correct"] for i in "1234"] == [True, False, None, None]
        assert "CUDA out of memory" in stored["3"]["error"]
        assert "no image tokens" in stored["4"]["error"]
        assert traces.info["settings"]["filters"] == ["correctness"]


def test_what_qwen_itself_would_make_of_the_picture_is_its_grid():
    assert grid_of(16 * 16, 448, 448) == (16, 16, False)
    assert grid_of(17 * 23, 480, 640) == (17, 23, False)  # the extractor's limits leave it as it is
    assert grid_of(2 * 3, 64, 96) == (2, 3, False)
    assert grid_of(14 * 20, 64, 96) == (14, 20, False)  # the training scripts' 200,704 pixels at least
    assert grid_of(30 * 40, 1500, 2000) == (30, 40, True)  # other limits than any in use: 4 : 3 all the same


@pytest.mark.parametrize(("n", "height", "width"), [(37, 480, 640), (20, 100, 100), (12, 100, 100), (1, 10, 4000)])
def test_a_number_of_tokens_that_fits_no_single_grid_gives_none(n, height, width):
    assert grid_of(n, height, width) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_guess_under_any_other_limits_is_what_qwen_made_of_the_picture(seed):
    rng = np.random.default_rng(seed)
    guesses = 0
    for _ in range(100):
        height, width = map(int, rng.integers(300, 1000, 2))
        high, wide = smart_resize(height, width, factor=28, min_pixels=64 * 784, max_pixels=576 * 784)
        rows, cols, guessed = grid_of(high * wide // 784, height, width)
        assert (rows, cols) == (high // 28, wide // 28)
        guesses += guessed
    assert guesses > 10


@pytest.mark.parametrize("off", [1.02, 0.98])
def test_a_guess_is_refused_beyond_a_quarter(off):
    # Of 8 × 11 tokens; no other pair of factors of 88 comes nearer.
    assert (grid_of(88, 800, round(1100 * FARTHEST * off)) is None) is (off > 1)


def test_a_guessed_grid_is_noted_and_counted_and_an_exact_one_is_not(release):
    release.add(LANDSCAPE)  # exact: Qwen makes 2 × 5 of it
    release.add((280, 112))  # Qwen would make 4 × 10 of it
    release.add((300, 300), n=7)
    traces = converted(release)
    assert [trace.grid for trace in traces] == [(2, 5), (2, 5), None]
    assert [rows_of(traces)[i]["error"] for i in "123"] == [None, notes.GUESSED, notes.NO_GRID]
    assert traces.info["notes"] == {notes.GUESSED: 1, notes.NO_GRID: 1}
    assert traces[2].gaze is None
    assert traces[2].v_sem is not None
    assert rows_of(traces)["3"]["n_image_tokens"] == 7


def test_a_picture_that_exif_turns_has_no_gaze(release):
    release.add()
    path = release.data / "images" / "cot" / "1.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", LANDSCAPE).save(path, exif=exif)
    release.rows[0]["image_relative_path"] = "cot/1.jpg"
    trace = converted(release)[0]
    assert trace.gaze is None
    assert trace.v_sem is not None
    assert trace.sizes == [(140, 56)]


def test_a_missing_feature_is_a_missing_signal_and_never_zeros(release):
    for _ in range(4):
        release.add()
    release.v_top_file(1).unlink()
    release.trajectory_file(2).unlink()
    release.v_top_file(3).unlink()
    release.trajectory_file(3).unlink()
    traces = converted(release)
    assert len(traces) == 4
    assert [trace.v_sem is None for trace in traces] == [True, False, True, False]
    assert [trace.gaze is None for trace in traces] == [False, True, True, False]
    assert traces.info["notes"] == {notes.NO_V_TOP: 2, notes.NO_TRAJECTORY: 2}


def test_what_cannot_be_used_is_a_failed_row_with_its_reason(release):
    cases = {
        "no ground_truth_enriched": {"ground_truth_enriched": None},
        'ground_truth_enriched is ""': {"ground_truth_enriched": ""},
        "no image_relative_path": {"image_relative_path": None},
        "no such file": {"image_relative_path": "cot/gone.png"},
        "no question": {"question": None},
        "lone surrogates": {"question": "half \ud800"},
        "name too long": {"image_relative_path": "x" * 300},
        "in fractions": {"bboxes": [[1, 2, 3]]},
        "covers nothing": {"bboxes": [[0.5, 0.5, 0.5, 0.6]]},
        "reaches outside": {"bboxes": [[10, 10, 80, 40]]},
        "id '1' is that of an entry before": {"question_id": 1},
    }
    release.add()
    for change in cases.values():
        release.add(**change)
    broken = {
        "cannot be decoded": lambda n: (release.data / f"images/cot/{n}.png").write_bytes(b"\x89PNG broken"),
        "V_top .* cannot be read": lambda n: release.v_top_file(n).write_bytes(b"broken"),
        "V_top .* cannot be read .*; fetch": lambda n: release.v_top_file(n).write_bytes(
            release.v_top_file(n).read_bytes()[:300]
        ),
        r"holds dict": lambda n: torch.save({"x": features(10, 1)}, release.v_top_file(n)),
        r"holds torch.bfloat16 \[6\]": lambda n: release.v_top(n, features(10, 1)[0]),
        "NaN or infinite": lambda n: release.v_top(n, features(10, 1) / 0),
        "3 wide, the first is 6": lambda n: release.v_top(n, features(10, 1)[:, :3]),
        "9 image tokens, a trajectory of 10": lambda n: release.v_top(n, features(9, 1)),
        "half precision": lambda n: release.v_top(n, features(10, 1).abs() * 1e6 + 1e6),
        r"trajectory .* cannot be read": lambda n: release.trajectory_file(n).write_text('{"steps": [{"p_t": [0.1,'),
        "no raw_attention_scores or p_t": lambda n: release.trajectory_file(n).write_text('{"steps": []}'),
        "expected a list of numbers": lambda n: release.trajectory_file(n).write_text('{"steps": [{"p_t": ["a"]}]}'),
        "negative, NaN": lambda n: release.trajectory(n, [float("nan"), *scores(9, 1)]),
    }
    for damage in broken.values():
        damage(release.add())
    traces = converted(release)
    assert [trace.sample.id for trace in traces] == ["1"]
    table = pq.read_table(traces.path / "traces.parquet").to_pylist()
    assert len(table) == len(release.rows) == traces.info["funnel"]["all"]["samples"]
    for row, expected in zip(table[1:], [*cases, *broken], strict=True):
        assert (row["status"], row["kept"], row["dropped_by"]) == ("failed", False, "failed"), expected
        with pytest.raises(AssertionError, match=f"(?i){expected}"):
            raise AssertionError(row["error"])
        assert "\n" not in row["error"]
    assert sum(len(ids) for ids in failures(traces.path).values()) == len(cases) + len(broken)


def test_a_row_without_an_id_is_named_by_its_number(release):
    release.add(question_id=None, ground_truth_enriched=None)
    release.add()
    assert list(rows_of(converted(release))) == ["entry-1", "2"]


def test_a_feature_file_that_would_run_code_is_not_run(release):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (release.folder / "hacked",))

    release.add()
    torch.save(Payload(), release.v_top_file(release.add()))
    traces = converted(release)
    assert "cannot be read" in rows_of(traces)["2"]["error"]
    assert not (release.folder / "hacked").exists()


def test_trace_json_says_where_it_comes_from(release):
    release.add()
    traces = converted(release)
    assert traces.info["teacher"] == {
        "name": TEACHER, "revision": None, "width": WIDTH, "v_sem": "taken before the final norm",
    }  # fmt: skip
    assert traces.info["data"]["spec"] == f"lavit15k:{release.source}"
    assert traces.info["data"]["n"] == 1
    before = traces.info["data"]["hash"]
    release.rows[0]["question"] = "Which?"
    assert converted(release).info["data"]["hash"] != before


def test_a_second_conversion_reads_only_what_has_changed(release, monkeypatch):
    from lavit.traces import released, released_rows

    monkeypatch.setattr(released, "BATCH", 2)
    for _ in range(5):
        release.add()
    first = converted(release)
    read = []
    monkeypatch.setattr(released_rows, "read_features", lambda path: read.append(path.name) or torch.ones(10, WIDTH))
    assert [trace.v_sem.tolist() for trace in converted(release)] == [trace.v_sem.tolist() for trace in first]
    assert read == []
    release.v_top(4, torch.zeros(10, 2 * WIDTH)[:, :WIDTH].clone() + 0.25)
    assert len(converted(release)) == 5
    assert len(read) <= 1  # the same size within one tick of the clock may pass for the same file
    assert len(converted(release, fresh=True)) == 5
    assert len(read) >= 5
    assert len(converted(release, limit=3)) == 3


def test_what_is_no_release_is_refused_in_one_line(release, tmp_path):
    def refused(source: Path) -> str:
        with pytest.raises(UsageError) as caught:
            convert(source, tmp_path / "refused", progress=False)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such file" in refused(tmp_path / "gone.json")
    assert "a folder" in refused(tmp_path)
    assert "holds no samples" in refused(release.write())
    release.source.write_text('{"result": []}')
    assert "holds no list 'results'" in refused(release.source)
    release.source.write_text('{"results": [{"question_id": 1}, {"question')
    assert "entry 2 is not valid JSON" in refused(release.source)
    release.add()
    release.v_top_file(1).unlink()
    release.trajectory_file(1).unlink()
    said = refused(release.write())
    assert "none of its samples has a V_top or trajectory file" in said
    assert "sample_000001_v_top_layer.pth" in said
    assert not (tmp_path / "refused" / "traces.parquet").exists()


def test_the_command_converts_prints_what_is_missing_and_runs_no_model(release):
    release.add()
    release.add((280, 112))
    release.v_top_file(2).unlink()
    release.add(ground_truth_enriched="")
    out = release.folder.parent / "traces"
    data = f"lavit15k:{release.write()}"
    status, said = gapcheck("trace", "Qwen/Qwen2.5-VL-32B-Instruct", "--data", data, "--out", out, "--top-k", 4)
    assert status == 0, said
    assert f"1 of the kept: {notes.NO_V_TOP}" in said
    assert f"1 of the kept: {notes.GUESSED}" in said
    assert "1 of 3 samples failed" in said
    traces = Traces.open(out)
    assert traces.info["teacher"]["name"] == "Qwen/Qwen2.5-VL-32B-Instruct"
    assert len(traces[0].gaze.index) == 4
    assert gapcheck("trace", "x", "--data", data, "--out", out, "--strict")[0] == 1
    for option in (("--text-model", "y"), ("--dry-run",), ("--no-alignment",), ("--device", "cpu")):
        status, said = gapcheck("trace", "x", "--data", data, "--out", out, *option)
        assert status == 2
        assert "no model runs; leave it out" in said
