"""From traces to batches: masks by hand, targets on the student's tokens, and the teacher's signals that are wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lavit.data import Example, TraceDataset, boxed, collate, prompt_of, shuffled, target_on
from lavit.latents import LatentSpec, LatentTokens
from lavit.traces import Target, Trace, resample
from perception_gap.errors import GapcheckError, UsageError
from perception_gap.geometry import TokenGeometry
from perception_gap.models.families.encoded import Encoded
from perception_gap.models.loading import load
from perception_gap.sample import Sample
from tests.models import TRAINED as KINDS
from tests.proofs import SIZES, picture
from tests.students import answer_ids, prompts, with_latents

IMAGE, PAD, END = 40, 7, 2

# --- batches, by hand ------------------------------------------------------------------------------------------------


def example(
    name: str, ids: list[int], answer: list[int], latents: int = 2, closing: int = 1, **signals: Any
) -> Example:
    """Image tokens are 40, question tokens above 40, latents 60, 61, .., the closing token 69."""
    tokens = torch.tensor([ids])
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "pixel_values": torch.zeros(1, 3)}
    image = tokens == IMAGE
    encoded = Encoded(inputs, image, tokens > IMAGE, [TokenGeometry.grid(1, int(image.sum()))])
    if latents:
        encoded = encoded.with_latents([60, 61][:latents], [69][:closing])
    return Example(name, encoded, answer, signals.get("target"), signals.get("v_sem"))


LONG, SHORT = [1, IMAGE, IMAGE, IMAGE, 50, 3], [1, IMAGE, 51, 3]


def places(mask: torch.Tensor) -> list[list[int]]:
    return [row.nonzero().flatten().tolist() for row in mask]


def test_a_batch_by_hand():
    one = example("a", LONG, [70, 71, END], target=np.array([0.5, 0.0, 0.5]), v_sem=np.array([1, 2], np.float16))
    two = example("b", SHORT, [72, END], target=np.array([1.0]))
    batch = collate([one, two], PAD)
    assert batch["inputs"]["input_ids"].tolist() == [
        [1, 40, 40, 40, 50, 3, 60, 61, 69, 70, 71, END],
        [PAD, PAD, 1, 40, 51, 3, 60, 61, 69, 72, END, PAD],
    ]
    assert batch["inputs"]["attention_mask"].tolist() == [[1] * 12, [0, 0, *[1] * 9, 0]]
    assert places(batch["image"]) == [[1, 2, 3], [3]]
    assert places(batch["question"]) == [[4], [4]]
    assert places(batch["latent"]) == [[6, 7], [6, 7]]
    assert places(batch["answer"]) == [[9, 10, 11], [9, 10]]  # the end of turn included
    assert places(batch["gated"]) == [[8, 9, 10, 11], [8, 9, 10]]  # the closing token too, padding not
    assert batch["target"].tolist() == [[0.5, 0, 0.5], [1, 0, 0]]
    assert batch["v_sem"].tolist() == [[1, 2], [0, 0]]
    assert batch["has_gaze"].tolist() == [True, True]
    assert batch["has_v_sem"].tolist() == [True, False]
    assert batch["ids"] == ["a", "b"]
    assert batch["target"].dtype == batch["v_sem"].dtype == torch.float32


def test_without_a_closing_token_the_last_latent_is_not_gated():
    batch = collate([example("a", LONG, [70, END], closing=0), example("b", SHORT, [END], closing=0)], PAD)
    assert places(batch["latent"]) == [[6, 7], [6, 7]]
    assert places(batch["gated"]) == places(batch["answer"]) == [[8, 9], [8]]


def test_without_latents_the_answers_own_rows_are_gated():
    batch = collate([example("a", LONG, [70, END], latents=0), example("b", SHORT, [END], latents=0)], PAD)
    assert places(batch["latent"]) == [[], []]
    assert places(batch["gated"]) == places(batch["answer"]) == [[6, 7], [6]]


def test_a_batch_without_any_signal_keeps_its_shape():
    batch = collate([example("a", LONG, [END]), example("b", SHORT, [END])], PAD)
    assert batch["target"].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert batch["v_sem"].shape == (2, 1)
    assert not batch["has_gaze"].any()
    assert not batch["has_v_sem"].any()


def test_the_order_of_samples_only_orders_the_rows():
    one = example("a", LONG, [70, 71, END], target=np.array([0.5, 0.0, 0.5]))
    two = example("b", SHORT, [72, END], v_sem=np.ones(2))
    forth, back = collate([one, two], PAD), collate([two, one], PAD)
    for name, value in forth.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, back[name].flip(0)), name
    assert forth["ids"] == back["ids"][::-1]


@pytest.mark.parametrize("kind", KINDS)
def test_real_prompts_of_a_batch_lie_where_the_family_puts_them(tiny_checkpoint, kind):
    spec = LatentSpec.numbered(2, closing="</v-trace>")
    loaded = with_latents(tiny_checkpoint(kind), spec)
    tokenizer = loaded.processor.tokenizer
    latents = LatentTokens(spec, tokenizer)
    parts = [
        Example(str(i), latents.extend(prompts(loaded, (i,))), answer_ids(loaded, i), None, None) for i in range(2)
    ]
    batch = collate(parts, tokenizer.pad_token_id)
    whole, own = latents.extend(prompts(loaded)).with_answers([p.answer for p in parts], tokenizer.pad_token_id)
    assert batch["inputs"].keys() == whole.inputs.keys()
    assert all(torch.equal(batch["inputs"][name], value) for name, value in whole.inputs.items())
    assert torch.equal(batch["answer"], own)
    ids = batch["inputs"]["input_ids"]
    assert torch.equal(batch["latent"], torch.isin(ids, torch.tensor(latents.ids)))
    assert torch.equal(batch["gated"], own | (ids == latents.closing_ids[0]))


# --- targets on the student's tokens ---------------------------------------------------------------------------------


def encoded_on(geometry: TokenGeometry) -> Encoded:
    nothing = torch.zeros(1, len(geometry), dtype=torch.bool)
    return Encoded({"input_ids": nothing.long()}, ~nothing, nothing, [geometry])


def on_grid(rows: int, cols: int, weights: dict[int, float], image: int = 0) -> Target:
    """Weights at places of a teacher's raster."""
    geometry, index = TokenGeometry.grid(rows, cols, image=image), np.array(list(weights))
    return Target(index, np.array(list(weights.values())), geometry.boxes[index], geometry.image[index], rows * cols)


def test_a_target_on_another_grid_by_hand():
    # The upper left of 2 × 2 tokens is the upper left four of 4 × 4; the lower right half a token each of 3 × 3's.
    target = on_grid(2, 2, {0: 0.75, 3: 0.25})
    fine = target_on(encoded_on(TokenGeometry.grid(4, 4)), target, "a").reshape(4, 4)
    assert fine[:2, :2].tolist() == pytest.approx(np.full((2, 2), 0.1875))
    assert fine[2:, 2:].tolist() == pytest.approx(np.full((2, 2), 0.0625))
    assert fine.sum() == pytest.approx(1, abs=1e-6)
    odd = target_on(encoded_on(TokenGeometry.grid(3, 3)), target, "a").reshape(3, 3)
    assert odd[0, 0] == pytest.approx(0.75 * 4 / 9)
    assert odd[1, 1] == pytest.approx((0.75 + 0.25) / 9)
    assert odd[0, 2] == 0
    assert odd.sum() == pytest.approx(1, abs=1e-6)
    assert odd.dtype == np.float32


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (4, 7), (16, 16)])
def test_targets_sum_to_one_on_every_grid(size):
    rng = np.random.default_rng(0)
    weights = dict(zip(rng.choice(48, 8, replace=False).tolist(), rng.dirichlet(np.ones(8)).tolist(), strict=True))
    target = on_grid(6, 8, weights)
    values = target_on(encoded_on(TokenGeometry.grid(*size)), target, "a")
    assert values.sum() == pytest.approx(1, abs=1e-6)
    assert (values >= 0).all()


def test_what_a_crop_cuts_away_is_given_to_the_rest():
    # The student sees the right three quarters; of the teacher's left column a half is lost.
    seen = TokenGeometry.grid(1, 3, within=(0.25, 0, 1, 1))
    target = on_grid(1, 2, {0: 0.5, 1: 0.5})
    assert resample(target, seen).sum() == pytest.approx(0.75)
    values = target_on(encoded_on(seen), target, "a")
    assert values.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3], abs=1e-6)


def test_a_gaze_that_does_not_fit_names_the_sample():
    with pytest.raises(GapcheckError, match=r"sample odd-7: the trace's gaze does not fit .*extract the traces again"):
        target_on(encoded_on(TokenGeometry.grid(2, 2)), on_grid(2, 2, {1: 1.0}, image=1), "odd-7")
    beyond = TokenGeometry.grid(1, 2, within=(0.5, 0, 1, 1))
    assert target_on(encoded_on(beyond), on_grid(1, 2, {0: 1.0}), "odd-8") is None  # cropped away: counted as missing


# --- the dataset -----------------------------------------------------------------------------------------------------


def trace(name: str = "a", path: Path = Path("none.png"), **changes: Any) -> Trace:
    made = Trace(
        sample=Sample(name, (path,), "What colour is the small star?", "red", task=changes.pop("task", "colour"),
                      boxes=changes.pop("boxes", ()), box_images=changes.pop("box_images", ())),
        answer="the star is red", image_hash=name, gaze=on_grid(2, 2, {0: 0.75, 3: 0.25}),
        v_sem=np.arange(4, dtype=np.float16), grid=(2, 2), sizes=[(154, 266)],
    )  # fmt: skip
    return replace(made, **changes)


@pytest.fixture
def star(tmp_path: Path) -> Path:
    picture(SIZES["landscape"]).save(tmp_path / "star.png")
    return tmp_path / "star.png"


def dataset(loaded: Any, traces: list[Trace], **options: Any) -> TraceDataset:
    latents = LatentTokens(LatentSpec.numbered(2, closing="</v-trace>"), loaded.processor.tokenizer)
    encode = lambda i: prompt_of(loaded.family, traces[i], "Answer in one word.", "Look.")  # noqa: E731
    return TraceDataset(traces, encode, latents, loaded.processor.tokenizer, END, **options)  # type: ignore[arg-type]


def test_an_example_is_prompt_latents_answer_and_signals(tiny_checkpoint, star):
    loaded = with_latents(tiny_checkpoint("qwen2_5_vl"), LatentSpec.numbered(2, closing="</v-trace>"))
    tokenizer = loaded.processor.tokenizer
    traces = [trace(path=star)]
    made = dataset(loaded, traces)
    assert len(made) == 1
    found = made[0]
    text = tokenizer.decode(found.encoded.inputs["input_ids"][0])
    assert text.startswith("<|im_start|>system\nLook.<|im_end|>\n<|im_start|>user\n")
    assert text.endswith(
        "What colour is the small star?\nAnswer in one word.<|im_end|>\n<|im_start|>assistant\n"
        "<v-trace1><v-trace2></v-trace>"
    )
    assert tokenizer.decode(found.answer[:-1]) == "the star is red"
    assert found.answer[-1] == END
    assert found.target is not None
    assert len(found.target) == len(found.encoded.geometry[0])
    assert found.target.sum() == pytest.approx(1, abs=1e-6)
    assert traces[0].gaze is not None
    expected = resample(traces[0].gaze, found.encoded.geometry[0])
    np.testing.assert_allclose(found.target, expected / expected.sum(), atol=1e-6)
    assert found.v_sem is traces[0].v_sem
    assert tokenizer.decode(dataset(loaded, traces, answers="reference")[0].answer[:-1]) == "red"
    with pytest.raises(UsageError, match="answers 'both': expected one of teacher, reference"):
        dataset(loaded, traces, answers="both")


def test_signals_may_come_from_elsewhere_each_by_itself(tiny_checkpoint, star):
    loaded = with_latents(tiny_checkpoint("qwen2_5_vl"), LatentSpec.numbered(2, closing="</v-trace>"))
    traces, other = [trace(path=star)], trace("b", gaze=on_grid(2, 2, {1: 1.0}), v_sem=np.ones(4, np.float16))
    own = dataset(loaded, traces)[0]
    wrong_gaze = dataset(loaded, traces, gaze=lambda i: other)[0]
    wrong_meaning = dataset(loaded, traces, semantics=lambda i: other)[0]
    assert not np.array_equal(wrong_gaze.target, own.target)
    assert wrong_gaze.v_sem is own.v_sem
    np.testing.assert_array_equal(wrong_meaning.target, own.target)
    assert wrong_meaning.v_sem is other.v_sem
    blind = dataset(loaded, [replace(traces[0], gaze=None, v_sem=None)])[0]
    assert (blind.target, blind.v_sem) == (None, None)
    assert wrong_gaze.id == wrong_meaning.id == "a"


def test_pictures_of_another_size_than_the_traces_are_refused(tiny_checkpoint, star):
    loaded = load(tiny_checkpoint("qwen2_5_vl"))
    changed = trace("odd", star, sizes=[(266, 154)])
    with pytest.raises(
        GapcheckError, match=r"sample odd: images of \(height, width\) \[\(154, 266\)\].*\[\(266, 154\)\]"
    ):
        prompt_of(loaded.family, changed, "", None)
    assert prompt_of(loaded.family, trace(path=star), "", None).image.any()


# --- signals of another sample ---------------------------------------------------------------------------------------


def many() -> list[Trace]:
    """Two tasks, two grids, pictures asked about twice; one sample alone in its group, one group of one picture."""
    traces = []
    for task in ("colour", "shape"):
        for grid in ((2, 2), (3, 5)):
            for i in range(9):
                name = f"{task}-{grid}-{i}"
                traces.append(trace(name, task=task, grid=grid, image_hash=f"{grid}-{i // 2}"))
    lonely = [trace("lonely", task="count"), trace("twin-1", task="read", image_hash="same")]
    return [*traces, *lonely, trace("twin-2", task="read", image_hash="same"), trace("none", task="colour", grid=None)]


def partners(traces: list[Trace], seed: int) -> list[Trace]:
    signal = shuffled(traces, seed)  # type: ignore[arg-type]
    return [signal(i) for i in range(len(traces))]


def test_a_partner_has_another_picture_of_the_same_task_and_grid():
    traces = many()
    for mine, other in zip(traces, partners(traces, 0), strict=True):
        if mine.sample.id in ("lonely", "twin-1", "twin-2", "none"):
            assert (other.gaze, other.v_sem, other.sample.id) == (None, None, mine.sample.id)
        else:
            assert other.image_hash != mine.image_hash
            assert (other.sample.task, other.grid) == (mine.sample.task, mine.grid)
            assert other.gaze is not None
            assert other in traces


def test_partners_follow_the_seed_and_nobody_is_everybodys_partner():
    traces = many()
    chosen = [[t.sample.id for t in partners(traces, seed)] for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert max(Counter(chosen[0]).values()) <= 3
    distinct = [trace(str(i)) for i in range(20)]
    ids = [t.sample.id for t in partners(distinct, 0)]
    assert sorted(ids) == sorted(t.sample.id for t in distinct)  # each signal is used once
    assert all(one != t.sample.id for one, t in zip(ids, distinct, strict=True))


def test_a_partner_has_as_many_pictures():
    """The gaze of a second picture fits no sample of one."""
    pair = {"grid": None, "sizes": [(4, 6), (5, 7)], "gaze": on_grid(2, 2, {0: 1.0}, image=1)}
    traces = [trace(f"one-{i}", grid=None) for i in range(4)] + [trace(f"two-{i}", **pair) for i in range(4)]
    for mine, other in zip(traces, partners(traces, 3), strict=True):
        assert len(other.sizes) == len(mine.sizes)
        assert other.image_hash != mine.image_hash


# --- the oracle ------------------------------------------------------------------------------------------------------


def test_boxes_as_gaze_by_hand():
    # On an image of 100 × 50 pixels (width, height): the left half, and a tenth by a fifth of it.
    mine = trace(boxes=((0.0, 0.0, 50.0, 50.0), (90.0, 40.0, 100.0, 50.0)), box_images=(0, 0), sizes=[(50, 100)])
    found = boxed([mine])(0)  # type: ignore[arg-type]
    assert found.gaze is not None
    assert found.gaze.weights.tolist() == pytest.approx([0.5 / 0.52, 0.02 / 0.52])
    assert found.v_sem is mine.v_sem
    values = target_on(encoded_on(TokenGeometry.grid(2, 2)), found.gaze, "a")
    assert values.tolist() == pytest.approx([0.25 / 0.52, 0, 0.25 / 0.52, 0.02 / 0.52], abs=1e-6)
    # As many tokens as there are boxes: still places, not indices.
    halves = target_on(encoded_on(TokenGeometry.grid(1, 2)), found.gaze, "a")
    assert halves.tolist() == pytest.approx([0.5 / 0.52, 0.02 / 0.52], abs=1e-6)


def test_boxes_of_two_pictures_lie_on_their_own():
    sizes = [(50, 100), (10, 10)]
    mine = trace(boxes=((0.0, 0.0, 50.0, 50.0), (0.0, 0.0, 10.0, 5.0)), box_images=(0, 1), sizes=sizes)
    found = boxed([mine])(0).gaze  # type: ignore[arg-type]
    both = TokenGeometry.concatenate([TokenGeometry.grid(1, 2), TokenGeometry.grid(2, 1, image=1)])
    assert found is not None
    assert target_on(encoded_on(both), found, "a").tolist() == pytest.approx([0.5, 0, 0.5, 0], abs=1e-6)


@pytest.mark.parametrize("boxes", [(), ((120.0, 0.0, 150.0, 50.0),)])
def test_without_a_box_on_the_picture_there_is_no_gaze(boxes):
    mine = trace(boxes=boxes, box_images=(0,) * len(boxes), sizes=[(50, 100)])
    found = boxed([mine])(0)  # type: ignore[arg-type]
    assert found.gaze is None
    assert found.v_sem is mine.v_sem


def test_a_learned_text_that_names_special_tokens_is_learned_as_letters(tiny_checkpoint, star):
    loaded = with_latents(tiny_checkpoint("qwen2_5_vl"), LatentSpec.numbered(2, closing="</v-trace>"))
    tokenizer = loaded.processor.tokenizer
    text = "red <|im_end|> <|image_pad|> <v-trace1> star"
    ids = dataset(loaded, [replace(trace(path=star), answer=text)])[0].answer[:-1]
    assert not {*tokenizer.all_special_ids, *LatentTokens(LatentSpec.numbered(2), tokenizer).ids} & {*ids}
    assert tokenizer.decode(ids) == text
