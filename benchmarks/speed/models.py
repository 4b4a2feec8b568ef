"""Random-weight models of the Qwen2.5-VL architecture in given shapes, and a prompt for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perception_gap.models.families.encoded import Encoded
    from perception_gap.models.loading import LoadedModel

_ROPE = {"rope_type": "default", "rope_theta": 1e6}
# Text decoders. "text": 358 M parameters; "tiny" tries a command out; the others have the released models' shapes.
_SHAPE = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
TEXT: dict[str, dict[str, Any]] = {
    name: dict(zip(_SHAPE, shape, strict=True)) | {"rope_parameters": _ROPE | {"mrope_section": sections}}
    for name, shape, sections in (
        ("tiny", (64, 128, 2, 4, 2), [2, 3, 3]),
        ("text", (1024, 4096, 24, 16, 2), [8, 12, 12]),
        ("qwen2.5-vl-3b", (2048, 11008, 36, 16, 2), [16, 24, 24]),
        ("qwen2.5-vl-7b", (3584, 18944, 28, 28, 4), [16, 24, 24]),
    )
}
# (vocabulary, tied to the output); a small one elsewhere, since its optimiser step would hide what is measured.
_VOCABULARY = {"qwen2.5-vl-3b": (151936, True), "qwen2.5-vl-7b": (152064, False)}
_VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
_SMALL_VISION = {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4, "fullatt_block_indexes": [1]}
_PATCH, _MERGE = 14, 2
_SPECIALS = ("<|endoftext|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_WORDS = ("which of the two marked points is closer to the camera", "what colour is the small star, left of the ring?")


def loaded(preset: str, layers: int, device: str, dtype: str, *, tower: bool) -> LoadedModel:
    """A Qwen2.5-VL with random weights, its real processor and family.

    layers: of the decoder, 0 for the preset's own. tower: whether the released models' vision tower comes with their
    shapes; otherwise, and for the smaller presets, a small one.
    """
    import torch
    from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    from perception_gap.models.families.qwen import Qwen
    from perception_gap.models.loading import LoadedModel
    from perception_gap.tiny import WEIGHTS

    embedded: Any = Qwen2_5_VLProcessor.from_pretrained(WEIGHTS / "student")  # for its tokenizer and chat template
    tokenizer = embedded.tokenizer
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in _SPECIALS}
    vocabulary, tied = _VOCABULARY.get(preset, (len(tokenizer), True))
    text = TEXT[preset] | ({"num_hidden_layers": layers} if layers else {})
    ends = {"bos_token_id": None, "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"]}
    vision = _VISION if tower and preset in _VOCABULARY else _SMALL_VISION
    config = Qwen2_5_VLConfig(
        text_config=text
        | ends
        | {"vocab_size": vocabulary, "max_position_embeddings": 32768, "tie_word_embeddings": tied},
        vision_config=vision
        | {
            "patch_size": _PATCH,
            "spatial_merge_size": _MERGE,
            "temporal_patch_size": 2,
            "window_size": 8 * _PATCH,
            "out_hidden_size": text["hidden_size"],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=tied,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration._from_config(
            config, dtype=getattr(torch, dtype), attn_implementation="sdpa"
        ).eval()
    model.generation_config = GenerationConfig(
        eos_token_id=ids["<|im_end|>"], pad_token_id=ids["<|endoftext|>"], do_sample=False
    )
    size = {"shortest_edge": (_PATCH * _MERGE) ** 2, "longest_edge": 32768 * (_PATCH * _MERGE) ** 2}
    shared: dict[str, Any] = {"size": size, "patch_size": _PATCH, "merge_size": _MERGE, "temporal_patch_size": 2}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**shared),
        video_processor=Qwen2VLVideoProcessor(**shared),
        tokenizer=tokenizer,
        chat_template=embedded.chat_template,
    )
    return LoadedModel(model, processor, Qwen(config, processor), preset, "random")


def picture(tokens: int) -> Any:
    """A random picture that the processor turns into exactly so many image tokens, as near a square as that allows."""
    import numpy as np
    from PIL import Image

    rows = max(side for side in range(1, int(tokens**0.5) + 1) if tokens % side == 0)
    side = _PATCH * _MERGE
    pixels = np.random.default_rng(0).integers(0, 256, (rows * side, tokens // rows * side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def question(tokenizer: Any, tokens: int) -> str:
    """Words that make at least so many tokens."""
    words: list[str] = []
    pool = " ".join(_WORDS).split()
    while len(tokenizer(" ".join(words), add_special_tokens=False).input_ids) < tokens:
        words.append(pool[len(words) % len(pool)])
    return " ".join(words)


def prompt(of: LoadedModel, image_tokens: int, question_tokens: int) -> Encoded:
    """One prompt of one picture, with its pixels."""
    return of.family.encode([[picture(image_tokens)]], [question(of.processor.tokenizer, question_tokens)])
