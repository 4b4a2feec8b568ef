"""Both layouts of a LaViT checkpoint, ours and the authors', on tiny checkpoints of the real class."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from lavit import checkpoint
from lavit.latents import LatentSpec, add_tokens
from lavit.student import LavitStudent, Objective
from perception_gap import load
from perception_gap.errors import UsageError
from perception_gap.gaze.answer import encode, generate, pad_id
from tests.integration.test_analyze import gapcheck

WIDTH = 12  # of the teacher
TOKENS = ("<lvr1>", "<lvr2>", "<lvr3>", "<lvr4>")
PROMPT = ([[Image.new("RGB", (70, 56), "red")]], ["what colour is the star"], None)


def bare(base: Path, tie: bool = False) -> tuple[Any, Any]:
    """A fresh model and processor of a tiny checkpoint."""
    torch.manual_seed(1)
    model: Any = AutoModelForImageTextToText.from_pretrained(base)
    if tie:  # as in Qwen2.5-VL-3B
        model.config.tie_word_embeddings = model.config.get_text_config().tie_word_embeddings = True
        model.lm_head.weight = model.get_input_embeddings().weight
    return model, AutoProcessor.from_pretrained(base)


def write_released(
    folder: Path, base: Path, *, prefixes: str = "4", shards: int = 1, tie: bool = False, gaze_head: bool = True
) -> dict[str, torch.Tensor]:
    """A checkpoint as the authors' training writes it; returns its tensors under their names in transformers 5."""
    model, processor = bare(base, tie)
    processor.tokenizer.add_tokens(list(TOKENS), special_tokens=True)
    model.resize_token_embeddings(len(processor.tokenizer))
    hidden = model.config.get_text_config().hidden_size
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    heads = {"v_top_head.mlp.0": (hidden, hidden), "v_top_head.mlp.2": (WIDTH, hidden)}
    heads |= {"traj_head.query_proj": (hidden, hidden)} if gaze_head else {}
    written = {n: v for n, v in state.items() if not (tie and n == "lm_head.weight")}
    if prefixes == "4":
        old = (("model.visual.", "visual."), ("model.language_model.", "model."))
        for new, before in old:
            written = {before + n.removeprefix(new) if n.startswith(new) else n: v for n, v in written.items()}
        assert not any("language_model" in name for name in written)
    for name, (rows, cols) in heads.items():
        written |= {f"{name}.weight": torch.randn(rows, cols), f"{name}.bias": torch.randn(rows)}
    folder.mkdir(parents=True)
    save_sharded(folder, written, shards)
    config = model.config.to_dict() | {
        "architectures": ["LaViTQwen2VL"], "v_top_dim": WIDTH, "loss_scale_vtop": 0.3, "loss_scale_traj": 0.3,
        "training_stage": 2, "bottleneck_block_prompt": True, "use_trajectory_supervision": gaze_head,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    model.generation_config.save_pretrained(folder)
    processor.save_pretrained(folder)
    return state | {n: v for n, v in written.items() if "_head" in n and "lm_head" not in n}


def save_sharded(folder: Path, tensors: dict[str, torch.Tensor], shards: int) -> None:
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    places = {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(list(tensors.items())[i::shards])
        save_file(part, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.fixture(scope="module")
def base(tiny_checkpoint) -> Path:
    return tiny_checkpoint("qwen2_5_vl")


@pytest.fixture
def released(base, tmp_path) -> Path:
    write_released(tmp_path / "released", base)
    return tmp_path / "released"


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("prefixes", "shards", "tie"), [("4", 1, False), ("4", 3, True), ("5", 1, True), ("5", 2, False)]
)
def test_the_released_layout_loads_with_its_weights_its_latents_and_its_head(base, tmp_path, prefixes, shards, tie):
    folder = tmp_path / "released"
    state = write_released(folder, base, prefixes=prefixes, shards=shards, tie=tie, gaze_head=shards != 2)
    loaded = checkpoint.load(str(folder), device="cpu")
    model: Any = loaded.model
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert (model.lm_head.weight is model.get_input_embeddings().weight) is tie
    assert loaded.latents.spec == LatentSpec(TOKENS)
    assert loaded.latents.ids == loaded.processor.tokenizer.convert_tokens_to_ids(list(TOKENS))
    head = checkpoint.load_head(str(folder))
    for name, value in head.state_dict().items():
        assert torch.equal(value, state[f"v_top_head.mlp.{name.removeprefix('layers.')}"])
    x = torch.randn(3, model.config.get_text_config().hidden_size)
    inner = x @ state["v_top_head.mlp.0.weight"].T + state["v_top_head.mlp.0.bias"]
    inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    by_hand = inner @ state["v_top_head.mlp.2.weight"].T + state["v_top_head.mlp.2.bias"]
    assert torch.allclose(head(x), by_hand, rtol=1e-5, atol=1e-4)  # float32 sums of 32 products of up to 60


def test_generation_inserts_the_released_latents_behind_the_prompt(released):
    loaded = checkpoint.load(str(released), device="cpu")
    encoded = encode(loaded, *PROMPT)
    ids = encoded.inputs["input_ids"][0]
    assert ids[-4:].tolist() == loaded.latents.ids
    assert encoded.latent[0].sum() == 4
    plain = load(str(released), device="cpu")
    prompt = plain.family.encode(*PROMPT)
    assert prompt.inputs["input_ids"][0].tolist() == ids[:-4].tolist()
    by_hand = dict(prompt.inputs)
    extra = torch.tensor([loaded.latents.ids])
    by_hand["input_ids"] = torch.cat([by_hand["input_ids"], extra], 1)
    by_hand["attention_mask"] = torch.ones_like(by_hand["input_ids"])
    by_hand["mm_token_type_ids"] = torch.cat([by_hand["mm_token_type_ids"], torch.zeros_like(extra)], 1)
    produced = plain.model.generate(**by_hand, max_new_tokens=5, do_sample=False)[0, len(ids) :]
    assert generate(loaded, encoded, 5)[0] == [i for i in produced.tolist() if i != pad_id(plain)]


@pytest.mark.parametrize("mode", ["none", "mask", "template", "blind"])
def test_the_released_latents_can_be_left_out_and_hidden(released, mode):
    loaded = checkpoint.load(str(released), latents=mode, device="cpu")
    assert loaded.latents.count == (0 if mode == "none" else 4)
    generate(loaded, encode(loaded, *PROMPT), 3)


def test_a_released_checkpoint_is_a_plain_model_to_who_loads_it_plainly(released):
    loaded = load(str(released), device="cpu")
    assert loaded.latents is None
    assert type(loaded.model).__name__ == "Qwen2_5_VLForConditionalGeneration"


def test_a_released_checkpoint_without_its_own_processor_files_is_refused_with_the_remedy(base, released):
    for name in ("preprocessor_config.json", "processor_config.json"):
        (released / name).unlink(missing_ok=True)
    said = refused(lambda: checkpoint.load(str(released), device="cpu"))
    assert "no preprocessor_config.json: copy it from the base model" in said
    AutoProcessor.from_pretrained(base).save_pretrained(released)  # the base model's tokenizer with it
    said = refused(lambda: checkpoint.load(str(released), device="cpu"))
    assert "its tokenizer has no <lvr1>" in said
    for path in released.glob("*token*"):
        path.unlink()
    assert "token" in refused(lambda: checkpoint.load(str(released), device="cpu"))


def test_a_released_head_that_is_not_there_is_never_passed_over(released):
    whole = (released / "model.safetensors").read_bytes()
    (released / "model.safetensors").rename(released / "pytorch_model.bin")
    assert "model.safetensors is missing" in refused(lambda: checkpoint.load_head(str(released)))
    save_file({"v_top_head.mlp.0.weight": torch.ones(2, 2)}, released / "model.safetensors")
    assert "projection head does not load" in refused(lambda: checkpoint.load_head(str(released)))
    (released / "model.safetensors").write_bytes(whole[:1000])
    assert "projection head does not load" in refused(lambda: checkpoint.load_head(str(released)))
    (released / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    assert "projection head does not load" in refused(lambda: checkpoint.load_head(str(released)))


SPECS = [
    LatentSpec.numbered(4),
    LatentSpec.numbered(3, "<think{}>", kind="continuous", closing="<answer>", system="Look first."),
    LatentSpec(),
]


def trained(base: Path, spec: LatentSpec, tie: bool = False) -> tuple[LavitStudent, Any]:
    model, processor = bare(base, tie)
    add_tokens(model, processor.tokenizer, spec, seed=0)
    student = LavitStudent(model, processor.tokenizer, spec, Objective(), WIDTH).eval()
    return student, processor


@pytest.mark.parametrize(("spec", "tie"), [(SPECS[0], False), (SPECS[1], True), (SPECS[2], True)])
def test_our_layout_is_a_plain_checkpoint_and_comes_back_as_it_was(base, tmp_path, spec, tie):
    student, processor = trained(base, spec, tie)
    folder = tmp_path / "ours"
    checkpoint.save(folder, student, processor, {"training": {"preset": "x"}})
    model, report = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert {name: list(keys) for name, keys in report.items()} == {name: [] for name in report}
    tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
    assert [tokenizer.encode(name) for name in spec.all_tokens] == [
        [i] for i in [*student.latent_ids, *student.closing_ids]
    ]
    loaded = checkpoint.load(str(folder), device="cpu")
    assert loaded.latents.spec == spec
    assert loaded.latents.system == spec.system
    assert (loaded.model.lm_head.weight is loaded.model.get_input_embeddings().weight) is tie
    inputs = encode(loaded, *PROMPT).inputs
    with torch.inference_mode():
        expected = student.base(**inputs).logits
        assert torch.equal(model.eval()(**inputs).logits, expected)
        assert torch.equal(loaded.model(**inputs).logits, expected)
    assert checkpoint.facts_of(str(folder))["training"] == {"preset": "x"}
    head = checkpoint.load_head(str(folder))
    if not spec.tokens:
        assert head is None
        assert not (folder / "lavit_heads.safetensors").exists()
    else:
        assert all(torch.equal(v, student.head.state_dict()[n]) for n, v in head.state_dict().items())
    assert load(str(folder), device="cpu").latents is None


def test_a_gathered_state_dict_is_what_is_written(base, tmp_path):
    student, processor = trained(base, SPECS[0])
    gathered = {name: value + 1 if value.is_floating_point() else value for name, value in student.state_dict().items()}
    checkpoint.save(tmp_path / "ours", student, processor, {}, gathered)
    written = AutoModelForImageTextToText.from_pretrained(tmp_path / "ours").state_dict()
    assert all(torch.equal(value, gathered[f"base.{name}"]) for name, value in written.items())
    head = checkpoint.load_head(str(tmp_path / "ours"))
    assert all(torch.equal(value, gathered[f"head.{name}"]) for name, value in head.state_dict().items())


def test_a_model_without_latents_has_none_to_hide(base, tmp_path):
    student, processor = trained(base, LatentSpec())
    checkpoint.save(tmp_path / "sft", student, processor, {})
    for folder in (base, tmp_path / "sft"):
        assert "has no latent tokens" in refused(lambda: checkpoint.load(str(folder), latents="mask", device="cpu"))  # noqa: B023
        checkpoint.load(str(folder), device="cpu")
        settings: Any = SimpleNamespace(latents="mask", load={"device": "cpu"})
        checkpoint.opener(str(folder), settings)  # a teacher beside a student whose latents are hidden
        status, said = gapcheck(
            "analyze", folder, "--data", "scenes", "--out", tmp_path / "run", "--latents", "mask", "--device", "cpu"
        )
        assert status == 2
        assert "has no latent tokens" in said
    assert checkpoint.facts_of(str(base)) is None
    assert checkpoint.load_head(str(base)) is None


def test_lavit_json_that_cannot_be_trusted_is_refused(base, tmp_path):
    student, processor = trained(base, SPECS[0])
    folder = tmp_path / "ours"
    checkpoint.save(folder, student, processor, {})
    path = folder / "lavit.json"
    facts = json.loads(path.read_text())
    latents = facts["latents"]

    def said(content: str) -> str:
        path.write_text(content)
        message = refused(lambda: checkpoint.load(str(folder), device="cpu"))
        assert str(path) in message
        return message

    assert "schema 99, this gapcheck reads 1" in said(json.dumps(facts | {"schema_version": 99}))
    assert "schema None" in said("[]")
    assert "not valid JSON" in said('{"schema_version": 1, "lat')
    for broken in ({}, 5, None, latents | {"kind": "dreams"}, latents | {"tokens": 4}, latents | {"colour": "red"}):
        assert "latents are damaged" in said(json.dumps(facts | {"latents": broken}))
    path.write_text(json.dumps(facts | {"latents": latents | {"tokens": ["<v-trace1>", "<other>"]}}))
    assert "no token <other>" in refused(lambda: checkpoint.load(str(folder), device="cpu"))
    path.write_text(json.dumps(facts))
    (folder / "lavit_heads.safetensors").unlink()
    assert "lavit_heads.safetensors is missing" in refused(lambda: checkpoint.load_head(str(folder)))
    (folder / "lavit_heads.safetensors").write_bytes(b"broken")
    assert "projection head does not load" in refused(lambda: checkpoint.load_head(str(folder)))
    path.unlink()
    (folder / "config.json").write_text("{broken")
    assert "config.json cannot be read" in refused(lambda: checkpoint.load(str(folder), device="cpu"))
