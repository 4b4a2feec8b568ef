"""What `gapcheck bench` asks: models of ours, or any backend of lmms-eval, opened one at a time."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms

from benchmarks.answers import Answer
from benchmarks.plugin import Lavit
from perception_gap.errors import GapcheckError, UsageError, one_line
from perception_gap.models import loading
from perception_gap.models.families.base import Family
from perception_gap.runs.key import model_facts
from perception_gap.storage.machine_key import signature
from perception_gap.storage.redaction import BACKEND, hidden_arguments, public_model, without_secrets


@dataclass(frozen=True)
class ModelOptions:
    """How every model is asked. load: options of `perception_gap.load`."""

    latents: str = "force"
    system: str | None = None
    batch_size: int = 8
    gaze: bool = False
    layers: str = "all"
    load: dict[str, Any] = field(default_factory=dict)


def require_openable(names: Sequence[str], options: ModelOptions) -> None:
    """UsageError for a model that would not open, before any is asked; weights are not read."""
    shown = [public_model(name) for name in names]
    if len(set(shown)) != len(names):
        unsaid = len(set(names)) == len(names)
        remedy = "; they differ in what is not written: bench them into two --out folders" if unsaid else ""
        raise UsageError(f"models {', '.join(shown)}: expected each once{remedy}")
    if options.layers != "all" and not options.gaze:
        raise UsageError(f"--layers {options.layers}: belongs to --gaze, which is not given; add it or leave this out")
    latent = []
    for name in names:
        if name.startswith(BACKEND):
            _backend(name)
            public = public_model(name)
            if options.system is not None:
                raise UsageError(f"--system: does not reach {public}; leave it out, or ask that backend alone")
            if options.gaze:
                raise UsageError(f"--gaze: {public} shows no attention; leave it out, or give --gaze to models that do")
            continue
        _family(name, options)
        latent.append(has_latents(name, options))
    if options.latents != "force" and not any(latent):
        raise UsageError(f"--latents {options.latents}: none of {', '.join(shown)} has latent tokens; leave it out")


def has_latents(name: str, options: ModelOptions) -> bool:
    """Whether a model inserts latent tokens; a foreign backend is not asked."""
    from lavit import checkpoint

    own = not name.startswith(BACKEND)
    return own and checkpoint.has_latents(checkpoint.facts_of(name, options.load.get("revision")))


def common_resolution(names: Sequence[str], options: ModelOptions) -> tuple[ModelOptions, str | None]:
    """One pixel limit for all: that of the first model that has limits, unless one was given; and a line that says so.

    Models that resize to a fixed size keep it. None where all agree already.
    """
    limits = {}
    for name in names:
        if not name.startswith(BACKEND):
            of_model = _family(name, options).pixel_limits
            if of_model is not None:
                limits[name] = of_model
    given = {k: options.load[k] for k in ("min_pixels", "max_pixels") if k in options.load}
    wanted = {(given.get("min_pixels", low), given.get("max_pixels", high)) for low, high in limits.values()}
    if len(wanted) < 2:
        return options, None
    first = next(iter(limits))
    low, high = limits[first]
    low, high = given.get("min_pixels", low), given.get("max_pixels", high)
    line = (
        f"image size: {low} to {high} pixels for all, as {first} has it, since the models differ "
        "(--own-resolution leaves each its own; foreign backends keep theirs)"
    )
    return replace(options, load=options.load | {"min_pixels": low, "max_pixels": high}), line


def _family(name: str, options: ModelOptions) -> Family:
    return loading.require_supported(name, options.load.get("revision"), options.load.get("trust_remote_code", False))


def open_model(name: str, options: ModelOptions) -> lmms:
    """The model as an lmms-eval backend, silent."""
    if name.startswith(BACKEND):
        return _open_backend(name, options.batch_size)
    latents = options.latents if has_latents(name, options) else "force"
    limits = _family(name, options).pixel_limits is not None
    load = {k: v for k, v in options.load.items() if limits or k not in ("min_pixels", "max_pixels")}
    model = Lavit(
        name,
        batch_size=options.batch_size,
        system=options.system,
        gaze=options.gaze,
        layers=options.layers,
        latents=latents,
        **load,
    )
    model.progress = False
    return model


def asking(name: str, model: lmms) -> Callable[[list[Instance]], Sequence[Any]]:
    """`generate_until`; a foreign backend that raises is asked one by one, and what raises again has no answer."""
    return model.generate_until if isinstance(model, Lavit) else lambda requests: _one_by_one(name, model, requests)


def _one_by_one(name: str, model: lmms, requests: list[Instance]) -> Sequence[Any]:
    try:
        return model.generate_until(requests)
    except GapcheckError:
        raise
    except Exception as error:  # other people's code: a missing package, a log that lacks the task, a bad reply
        if len(requests) == 1:
            return [Answer("", error=f"the backend raised {_reason(error, name)}")]
    return [answer for request in requests for answer in _one_by_one(name, model, [request])]


def identity(name: str, model: lmms) -> list[Any]:
    """Everything about a model that decides an answer; of a foreign backend no more than its name is known.

    Credentials decide none, and stay out. Other values that are not written are signed: unlike the hash of a short
    password, that of a key which never leaves this machine tells nobody what was signed.
    """
    if isinstance(model, Lavit):
        return model.identity()
    hidden = hidden_arguments(name)
    return [public_model(name), *([signature(hidden)] if hidden else [])]


def facts(name: str, model: lmms) -> dict[str, Any]:
    return model_facts(model.loaded) if isinstance(model, Lavit) else {"name": public_model(name), "revision": None}


def _backend(name: str) -> tuple[str, str]:
    """(backend, arguments) of `lmms-eval:NAME,key=value,..`; UsageError for an unknown one."""
    from lmms_eval.models import list_available_models
    from lmms_eval.utils import simple_parse_args_string

    shown = public_model(name)
    backend, _, arguments = name.removeprefix(BACKEND).partition(",")
    known = list_available_models(include_aliases=True)
    if backend not in known:
        near = difflib.get_close_matches(backend, known, n=3) or ["openai", "vllm", "litellm"]
        raise UsageError(f"model {shown!r}: lmms-eval has no backend {backend!r}; did you mean {', '.join(near)}?")
    try:
        simple_parse_args_string(arguments)
    except ValueError:
        raise UsageError(f"model {shown!r}: expected arguments key=value,key=value") from None
    return backend, arguments


def _open_backend(name: str, batch_size: int) -> lmms:
    from lmms_eval.models import get_model

    backend, arguments = _backend(name)
    try:
        return get_model(backend).create_from_arg_string(arguments, {"batch_size": batch_size})
    except Exception as error:  # other people's constructors: a missing key, package or server
        reason = f"model {public_model(name)!r} does not open: {_reason(error, name)}"
        raise UsageError(f"{reason}; see its arguments, package, keys") from None


def _reason(error: Exception, name: str) -> str:
    text = one_line(without_secrets(str(error), name))
    return text if isinstance(error, GapcheckError) else f"{type(error).__name__}: {text}"
