"""Where a model's files lie: the package, a folder or the hub; and the base that an adapter names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from perception_gap.errors import UsageError
from perception_gap.models import adapters
from perception_gap.tiny import TINY, WEIGHTS, embedded

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?")
_PROBE_SECONDS = 10


@dataclass(frozen=True)
class ModelFiles:
    """source, and the options with which transformers opens it; commit where the hub was asked."""

    source: str  # a folder or a hub id
    options: dict[str, Any]
    commit: str | None = None
    base: ModelFiles | None = None  # of an adapter


def locate(name: str, revision: str | None) -> ModelFiles:
    """The files of a model; UsageError for a name that leads nowhere, or to an adapter without its base."""
    if name.startswith(TINY):
        folder = WEIGHTS / name.removeprefix(TINY)
        if name == TINY or not (folder / "config.json").is_file():
            raise UsageError(f"model {name!r} is not embedded; present: {', '.join(embedded()) or 'none'}")
        return ModelFiles(str(folder), {"local_files_only": True})
    if os.path.isdir(name):
        if adapters.is_adapter_folder(Path(name)):
            return _with_base(ModelFiles(name, {"local_files_only": True}), name)
        if not os.path.isfile(os.path.join(name, "config.json")):
            raise UsageError(
                f"folder {name!r} has no config.json: expected a checkpoint or an adapter saved by save_pretrained"
            )
        return ModelFiles(name, {"local_files_only": True})
    if os.path.exists(name):
        raise UsageError(f"model {name!r} is a file: expected the folder that holds config.json")
    if not _HUB_ID.fullmatch(name):
        raise UsageError(f"model {name!r} does not exist: expected a folder, a hub id (owner/name) or tiny:NAME")
    return _locate_on_hub(name, revision)


def _with_base(files: ModelFiles, name: str) -> ModelFiles:
    """An adapter with the base that it names; UsageError where that is not there, or is an adapter itself."""
    config = file_of(files, adapters.CONFIG)
    assert config is not None
    base_name, revision = adapters.base_of(config, name)
    try:
        base = locate(base_name, revision)
    except UsageError as error:
        raise UsageError(f"adapter {name!r}: its base: {error}; {adapters.REMEDY}") from error
    if base.base is not None:
        raise UsageError(f"adapter {name!r}: its base {base_name!r} is an adapter too: merge that one first")
    return replace(files, base=base)


def _locate_on_hub(name: str, revision: str | None) -> ModelFiles:
    """Asks the hub once: transformers' own downloads would retry an unreachable hub for minutes."""
    from huggingface_hub import HfApi, errors

    try:
        info = HfApi().model_info(name, revision=revision, timeout=_PROBE_SECONDS)
    except errors.RevisionNotFoundError as error:
        raise UsageError(f"model {name!r} has no revision {revision!r} on the hub") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise UsageError(
            f"model {name!r} is no folder and not on the hub (or private: set HF_TOKEN): expected a folder, "
            "a hub id (owner/name) or tiny:NAME"
        ) from error
    except (errors.HTTPError, OSError):  # offline, unreachable, out of service: the cache may have it
        files = ModelFiles(name, {"local_files_only": True, "revision": revision})
        is_adapter = file_of(files, "config.json") is None and file_of(files, adapters.CONFIG) is not None
        return _with_base(files, name) if is_adapter else files
    files = ModelFiles(name, {"revision": info.sha or revision}, info.sha)
    names = {sibling.rfilename for sibling in info.siblings or ()}
    return _with_base(files, name) if adapters.CONFIG in names and "config.json" not in names else files


def file_of(files: ModelFiles, filename: str) -> Path | None:
    """One of the files, fetched where it lies on the hub; None where there is none of that name."""
    if os.path.isdir(files.source):
        path = Path(files.source) / filename
        return path if path.is_file() else None
    quiet = dict.fromkeys(("_raise_exceptions_for_missing_entries", "_raise_exceptions_for_connection_errors"), False)
    cached = cached_file(files.source, filename, **quiet, **files.options)
    return Path(cached) if cached else None
