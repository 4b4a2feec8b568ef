"""What the tiny checkpoints share: tokenizers, the text decoder's size, and what a proof must know of each kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaTokenizer, PreTrainedTokenizerFast

SENTENCES = (
    "what colour is the small star above the large circle",
    "the small star is red and the big square is green",
    "which of the two marked points is closer to the camera",
    "where does the triangle lie, left or right of the blue ring?",
)


@dataclass(frozen=True)
class Kind:
    """One tiny checkpoint: what builds it, and what the proofs of models/families must know of it.

    build: () → (model, processor), of the real classes, with random weights; called after `torch.manual_seed`.
    token_pixels: pixels (one side) of the processor's raster that one token spans.
    thumbnail: so many of the FIRST tokens (negative: of the LAST ones) see the picture on a coarser raster than others.
    resampling: pixels of a raster that its resizes reach, all together: 2 for one bicubic resize, 3 for one by Lanczos.
    beyond: how much of its own extent a token sees on each side of its rectangle, where token rasters are interpolated.
    crops: the processor really cuts something off the picture, so not every pixel has a token.
    attention_outputs: endings of the names of the vision tower's modules whose output mixes patches; a proof zeroes
        them, so that a token depends on its own pixels alone.
    """

    build: Callable[[], tuple[Any, Any]]
    token_pixels: int
    thumbnail: int = 0
    resampling: int = 2
    beyond: float = 0
    crops: bool = False
    attention_outputs: tuple[str, ...] = (".attn.proj", ".self_attn.out_proj")


def text_config(vocab_size: int, **more) -> dict:
    """Keywords of a small text decoder: 3 layers, 4 heads over 2 key heads, width 32."""
    # Wide initial weights: attention must be far from uniform for a comparison of maps to mean anything.
    return {
        "vocab_size": vocab_size, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "initializer_range": 0.3, **more,
    }  # fmt: skip


def llama_tokenizer() -> LlamaTokenizer:
    """SentencePiece-like: word starts are ▁, unknown characters fall back to bytes."""
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        initial_alphabet=list("▁abcdefghijklmnopqrstuvwxyz?,.:"),
        show_progress=False,
    )
    trained.train_from_iterator(SENTENCES, trainer)
    model = json.loads(trained.to_str())["model"]
    return LlamaTokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        pad_token="<pad>",
        extra_special_tokens=["<image>"],
        model_max_length=4096,
    )


def byte_level_tokenizer(specials: tuple[str, ...], bos: str | None = None, **named) -> PreTrainedTokenizerFast:
    """Byte-level BPE without a class of its own, as in GLM's and Mistral's checkpoints.

    specials: further special tokens; bos: written before every text; named: eos_token, pad_token, ..
    """
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    first = [token for token in (bos, *named.values()) if token is not None]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[*dict.fromkeys(first), *specials],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    trained.train_from_iterator(SENTENCES, trainer)
    if bos is not None:
        trained.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, trained.token_to_id(bos))]
        )
        named = {"bos_token": bos, **named}
    return PreTrainedTokenizerFast(
        tokenizer_object=trained, extra_special_tokens=list(specials), model_max_length=4096, **named
    )
