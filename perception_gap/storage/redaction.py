"""What may be written of a command line: what is known to be harmless; the rest is `***`.

Runs are shared, and so are their logs: a key that stands in one is lost.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from urllib.parse import quote

BACKEND = "lmms-eval:"
HIDDEN = "***"
# Arguments of lmms-eval's backends whose values say how a model answers, and open nothing.
HARMLESS = re.compile(
    r"""(max|min|num)_\w+ | model(_(base|name|path|type|version))? | base_model | pretrained | revision | tokenizer
    | (base|server)_url | host | port | (request_)?timeout | azure_openai | threads | backend | attn_backend
    | attn_implementation | device(_map)? | (torch_)?dtype | load_in_[48]bit | batch_size | tp(_size)? | use_cache
    | (tensor|data)_parallel(_size)? | gpu_memory_utilization | enforce_eager | trust_remote_code | chat_template
    | conv_(mode|template) | interleave_visuals | image_aspect_ratio | resolution | width | height | (video_)?fps
    | modality | do_sample | temperature | top_[kp] | repetition_penalty | guidance_scale | seed | think_mode
    | thinking_budget | enable_thinking | trunc(ate_context|ation) | verbose""",
    re.VERBOSE,
)
_CREDENTIAL = re.compile(r"key|token|secret|pass|auth|cred|cookie|session|sig|user|login|bearer|header|pwd", re.I)
_ADDRESS = re.compile(r"://\S*@")  # greedy: a password may hold an @ or a slash
_BARE_ADDRESS = re.compile(r"[^\s:/@=,'\"]+:[^\s/@,'\"]+@(?=[\w.\[-])")  # without a scheme
_QUERY = re.compile(r"(://[^\s?#]*)[?#]\S+")
_SPEC = re.compile(rf"{BACKEND}[^\s'\"()]*[^\s'\"(),.;:]")
_PATH = re.compile(r"(\w+://[^/\s]*)(/\S*)?")
_USUAL_PATH = re.compile(r"(/(v\d+|api|openai|chat|completions|generate|inference))*/?(\?\*{3})?")


def public_text(text: str) -> str:
    """The text whose addresses have lost user names, passwords and queries, and its backends what is not harmless."""
    return _without_addresses(_SPEC.sub(lambda match: public_model(match[0]), text))


def _without_addresses(text: str) -> str:
    return _QUERY.sub(rf"\1?{HIDDEN}", _BARE_ADDRESS.sub(f"{HIDDEN}@", _ADDRESS.sub(f"://{HIDDEN}@", text)))


def public_model(name: str) -> str:
    """A model's name; of `lmms-eval:NAME,key=value,..` with the values of HARMLESS keys alone, addresses shortened."""
    if not name.startswith(BACKEND):
        return _without_addresses(name)
    backend, comma, _ = name.partition(",")
    shown = [_shown(key, value) for key, value in _arguments(name)]
    return _without_addresses(backend) + comma + ",".join(shown)


def public_command(arguments: Sequence[str]) -> str:
    """`gapcheck ARGUMENTS` as a shell reads it, with what may be written of each."""
    return shlex.join(["gapcheck", *map(_public_argument, arguments)])


def hidden_arguments(name: str) -> dict[str, str]:
    """key -> value of what `public_model` does not show and what may still decide an answer: no credentials.

    Of an address all but user name and password.
    """
    hidden = {}
    for key, value in _arguments(name):
        anonymous = _ADDRESS.sub("://", value)
        if _shown(key, anonymous) != f"{key}={anonymous}" and not _CREDENTIAL.search(key):
            hidden[key] = anonymous
    return hidden


def without_secrets(text: str, name: str = "") -> str:
    """Somebody else's words without what `public_model` hides of `name`, and without keys of the environment."""
    hidden = [pair for pair in _arguments(name) if _shown(*pair) != "=".join(pair)]
    values = {value.strip("\"'{} ") for _, value in hidden} | {key for key, _ in hidden if not key.isidentifier()}
    # An error may quote a password without the address that it stood in.
    values |= {part for _, value in hidden for part in re.split(r"[/:@?&=]+", value) if len(part) > 5}
    values |= {value for key, value in os.environ.items() if _CREDENTIAL.search(key) and len(value) > 7}
    for value in sorted(values, key=len, reverse=True):
        if len(value) > 3:  # a shorter one is in every text
            text = text.replace(value, HIDDEN).replace(quote(value, safe=""), HIDDEN)
    return public_text(text)


def _public_argument(argument: str) -> str:
    option, backend, rest = argument.partition(BACKEND)
    return public_text(option) + (public_model(backend + rest) if backend else "")


def _arguments(name: str) -> Iterator[tuple[str, str]]:
    """(key, value) of a backend's arguments; what is no such pair has the key ""."""
    if not name.startswith(BACKEND) or "," not in name:
        return
    text = name.partition(",")[2]
    plain = re.split(r"[\"'{\[]", text, maxsplit=1)[0]
    pieces = plain.split(",")
    pieces[-1] += text[len(plain) :]  # behind a quote commas and equal signs may be anything
    for piece in pieces:
        key, equals, value = piece.partition("=")
        yield (key.strip(), value) if equals else ("", piece)


def _shown(key: str, value: str) -> str:
    if not HARMLESS.fullmatch(key) or re.search(r"[\"'{\[\s]", value):
        return f"{key}={HIDDEN}" if re.fullmatch(r"\w{1,40}", key) else HIDDEN
    public = _without_addresses(value)
    address = _PATH.match(public)
    if address and not _USUAL_PATH.fullmatch(address[2] or ""):
        public = f"{address[1]}/{HIDDEN}"
    return f"{key}={public}"
