"""Latent tokens: what they are called, how a model comes to know them, and how it reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from perception_gap.errors import UsageError
from perception_gap.models.families.encoded import Encoded

KINDS = ("token", "continuous")
MODES = ("force", "none", "mask", "template", "blind")
BLIND = 1e-6  # γ = ε: what the gate lets through at the start of training
SYSTEM_PROMPT = (
    "You are an expert multimodal model. Before you answer, you think through special latent tokens that keep what "
    "you see and how you reason aligned."
)


@dataclass(frozen=True)
class LatentSpec:
    """The latent tokens of a checkpoint, as `lavit.json` keeps them.

    tokens: their names in the tokenizer, K of them. kind: "token" (a learned embedding each, read in parallel; paper)
    or "continuous" (the last hidden state of latent k is the input of latent k + 1; the first is an embedding).
    closing: a token behind them ("" for none): it, not the last latent, predicts the first answer token.
    system: the system prompt of training, None for none.
    """

    tokens: tuple[str, ...] = ()
    kind: str = "token"
    closing: str = ""
    system: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"latent kind {self.kind!r}: expected one of {', '.join(KINDS)}")
        names = self.all_tokens
        if len(set(names)) != len(names) or not all(name.strip() for name in names):
            raise UsageError(f"latent tokens {list(names)}: expected different names, none of them empty")

    @classmethod
    def numbered(cls, count: int, names: str = "<v-trace{}>", **more: Any) -> LatentSpec:
        """`count` latents named by a pattern: `<v-trace1>`, `<v-trace2>`, .. (paper), `<lvr{}>` (release)."""
        if count and names.count("{}") != 1:
            raise UsageError(f"latent names {names!r}: expected a pattern with {{}} for the number, like <v-trace{{}}>")
        return cls(tokens=tuple(names.replace("{}", str(k + 1)) for k in range(count)), **more)

    @property
    def all_tokens(self) -> tuple[str, ...]:
        return (*self.tokens, *([self.closing] if self.closing and self.tokens else []))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"tokens": list(self.tokens)}


def token_ids(tokenizer: Any, names: tuple[str, ...]) -> list[int]:
    """Ids of tokens that the tokenizer must know as such; UsageError names those that it does not."""
    known = tokenizer.get_vocab()
    missing = [name for name in names if name not in known]
    if missing:
        raise UsageError(
            f"the tokenizer has no token {missing[0]}: this is not the checkpoint that was trained with it"
        )
    return [known[name] for name in names]


@torch.no_grad()
def add_tokens(model: Any, tokenizer: Any, spec: LatentSpec, seed: int) -> list[int]:
    """Teach tokenizer and embeddings the latent (and closing) tokens; returns their ids.

    A new embedding is the mean of all old ones plus seeded noise of a tenth of their spread, so that the latents start
    alike but can part. UsageError when the tokenizer knows one of the names already.
    """
    names = spec.all_tokens
    if not names:
        return []
    there = [name for name in names if name in tokenizer.get_vocab()]
    if there:
        raise UsageError(
            f"the student already has the token {there[0]}: start from a model without it, continue from its own "
            "lavit.json, or choose other names (--set latent_names='<think{}>')"
        )
    known = len(tokenizer)
    tokenizer.add_special_tokens({"extra_special_tokens": list(names)}, replace_extra_special_tokens=False)
    embeddings: nn.Embedding = model.get_input_embeddings()
    if len(tokenizer) > embeddings.num_embeddings:  # some checkpoints have spare rows
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    ids = token_ids(tokenizer, names)
    output = model.get_output_embeddings()
    tables = [model.get_input_embeddings()]
    if output is not None and output.weight is not tables[0].weight:
        tables.append(output)
    for table in tables:
        generator = torch.Generator().manual_seed(seed)
        old = table.weight[:known].float()
        noise = torch.randn(len(ids), old.shape[1], generator=generator).to(old.device)
        table.weight[ids] = (old.mean(0) + 0.1 * old.std(0) * noise).to(table.weight.dtype)
    return ids


class LatentTokens:
    """The `latents` of a LoadedModel (see `perception_gap.models.loading.Latents`): inserts, injects, masks.

    mode: "force" inserts them behind every prompt, whatever the prompt asks for; "none" leaves them out; "mask" inserts
    them where no later row can see them; "template" leaves them visible and hides the K prompt tokens before them
    instead, the control for "mask", since hiding tokens is out of distribution in itself; "blind" hides the image
    (γ = 1e-6) and the latents from the answer: what is still right came by way of the question's tokens.
    """

    def __init__(self, spec: LatentSpec, tokenizer: Any, mode: str = "force") -> None:
        if mode not in MODES:
            raise UsageError(f"latents {mode!r}: expected one of {', '.join(MODES)}")
        self.spec, self.mode, self.system = spec, mode, spec.system
        self.count = len(spec.tokens) if mode != "none" else 0
        ids = token_ids(tokenizer, spec.all_tokens)
        self.ids, self.closing_ids = ids[: len(spec.tokens)], ids[len(spec.tokens) :]

    def extend(self, encoded: Encoded) -> Encoded:
        """The prompts followed by the latent tokens and the closing one; unchanged without latents."""
        return encoded.with_latents(self.ids, self.closing_ids) if self.count else encoded

    @contextmanager
    def reading(self, model: Any, encoded: Encoded) -> Iterator[None]:
        """In force while the model reads the extended prompts `encoded`, alone or followed by an answer."""
        from perception_gap.attention.gate import Gate

        with ExitStack() as stack:
            if self.count and self.spec.kind == "continuous":
                stack.enter_context(injected(model, self.ids, latent_inputs(model, encoded, self.ids)))
            if self.count and self.mode in ("mask", "template"):
                assert encoded.latent is not None
                hidden = encoded.latent if self.mode == "mask" else encoded.latent.roll(-self.count, dims=1)
                stack.enter_context(Gate(model, encoded.after_latents, hidden, 0.0))
            elif self.count and self.mode == "blind":
                assert encoded.latent is not None
                stack.enter_context(Gate(model, encoded.after_latents, encoded.image | encoded.latent, BLIND))
            yield


def latent_inputs(model: Any, encoded: Encoded, ids: list[int]) -> Tensor:
    """Input embeddings [B, K, D] of continuous latents: latent 1's own embedding, then hidden states, one by one.

    K − 1 forwards of the prompt and the latents so far; differentiable. The hidden state is the last layer's, after
    the final norm.
    """
    assert encoded.latent is not None
    place = int(encoded.latent[0].nonzero()[0])  # left-padded prompts end together
    own = model.get_input_embeddings().weight[ids[0]]
    inputs = own.expand(len(encoded.latent), 1, -1)
    for k in range(1, len(ids)):
        short = encoded.until(place + k)
        with injected(model, ids[:k], inputs):
            states = model.base_model(**short.inputs, use_cache=False).last_hidden_state
        inputs = torch.cat([inputs, states[:, -1:].to(inputs.dtype)], dim=1)
    return inputs


def injected(model: Any, ids: list[int], inputs: Tensor) -> AbstractContextManager[Any]:
    """While open, the k-th token of `ids` is embedded as inputs[:, k], [B, K, D], wherever it stands in a batch."""

    def replace(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        tokens = arguments[0]
        for k, token in enumerate(ids):
            here = (tokens == token)[..., None]
            output = torch.where(here, inputs[:, k : k + 1].to(output.dtype), output)
        return output

    return model.get_input_embeddings().register_forward_hook(replace)
