"""Checksums of what runs write: a bit that flips on a disk or on the way is said, and not measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

import numpy as np

FIELD = "checksum"  # of a JSON object: of everything else in it
_BYTES, _BYTES_OF_ARRAY = 16, 8


def of_bytes(content: bytes) -> str:
    """blake2b, 32 hex digits."""
    return blake2b(content, digest_size=_BYTES).hexdigest()


def of_file(path: Path) -> str:
    """As `of_bytes`, in bounded memory."""
    with path.open("rb") as file:
        return file_digest(file, lambda: blake2b(digest_size=_BYTES)).hexdigest()


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the checksum of its other fields as its last one."""
    # Once to JSON and back, as a reader has it: tuples are lists there, and keys are texts.
    plain = json.loads(json.dumps({name: v for name, v in value.items() if name != FIELD}))
    return {**value, FIELD: of_bytes(json.dumps(plain, sort_keys=True).encode())}


def intact(value: Mapping[str, Any]) -> bool:
    """Whether an object is as it was `sealed`."""
    return bool(sealed(value)[FIELD] == value.get(FIELD))


def of_array(name: str, array: np.ndarray) -> str:
    """16 hex digits over name, type, shape and values."""
    digest = blake2b(f"{name}\0{array.dtype.name}\0{array.shape}\0".encode(), digest_size=_BYTES_OF_ARRAY)
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def metadata(of_arrays: Mapping[str, str]) -> dict[str, str]:
    """What a safetensors file says of its arrays: one checksum for their names, and one each in the order of these.

    Each array can so be checked when it is read, and a large file need not be read to be opened.
    """
    names = sorted(of_arrays)
    return {"names": of_names(names), "arrays": " ".join(of_arrays[name] for name in names)}


def of_metadata(facts: Mapping[str, str]) -> str:
    """One checksum for all arrays of a file, from its metadata."""
    return of_bytes(f"{facts['names']} {facts['arrays']}".encode())


def of_names(names: list[str]) -> str:
    return of_bytes("\0".join(names).encode())
