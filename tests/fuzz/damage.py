"""Damage to files: bytes, JSON, tables, places."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
from PIL import Image

MARKUP = ["=1+1|'x'!A0", "<script>alert(1)</script>", "%s%n{0}{x}", "$x_{1$", "`rm -rf`", "https://u:p@h/x?k=1"]
NUMBERS = ["nan", "-1", "1e999", "9" * 400]
TEXTS = ["", " ", "x" * 5000, "é字🙂\u202e", "a\nb\tc", "../../../etc/passwd", "\x1b[31m\x07", *MARKUP, *NUMBERS]
HALF = "\ud800"  # of a character, which JSON can hold and nothing else
VALUES = [None, True, 0, -1, 1.5, 10**30, [], {}, [[]], [None], {"a": [1]}, HALF, *TEXTS]


def value(rng: Random, old: Any = None) -> Any:
    """A hostile value, not the one that is there."""
    return rng.choice([new for new in VALUES if type(new) is not type(old) or new != old])


def damage(rng: Random, path: Path) -> str:
    """Damages a file, or what stands in its place; what was done, "" where that may do no harm."""
    kinds = ["cut", "empty", "noise", "gone", "folder", "loop", "flip"]
    kind = rng.choice(kinds)
    content = path.read_bytes()
    path.unlink()
    if kind == "gone":
        return kind
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "noise":
        path.write_bytes(rng.randbytes(rng.randint(1, 3000)))
    elif kind == "flip" and content:
        flipped = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(flipped))
    else:
        path.write_bytes(b"" if kind == "empty" else content[: int(len(content) * rng.random() * 0.95)])
    return kind


def change_json(rng: Random, found: Any) -> str:
    """Replaces, removes or adds a value somewhere in lists and objects; what was done."""
    at, trail = found, []
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return "nothing"
        key = rng.choice(keys)
        trail.append(str(key))
        if not isinstance(at[key], dict | list) or not at[key] or rng.random() < 0.3:
            break
        at = at[key]
    if rng.random() < 0.3:
        del at[key]
        return f"{'.'.join(trail)} removed"
    at[key] = value(rng, at[key])
    return f"{'.'.join(trail)} = {json.dumps(at[key])[:40]}"


def change_json_file(rng: Random, path: Path) -> str:
    found = json.loads(path.read_text())
    said = change_json(rng, found)
    path.write_text(json.dumps(found))
    return said


def change_table(rng: Random, path: Path) -> str:
    """A column of a Parquet file or CSV removed, renamed, of other values or other types, or its rows doubled."""
    read, write = (pd.read_parquet, "to_parquet") if path.suffix == ".parquet" else (pd.read_csv, "to_csv")
    frame = read(path)
    name, kind = (
        rng.choice(list(frame.columns)),
        rng.choice(["removed", "texts", "null", "numbers", "twice", "no rows"]),
    )
    if kind == "removed":
        frame = frame.drop(columns=name)
    elif kind in ("twice", "no rows"):
        frame = pd.concat([frame, frame]) if kind == "twice" else frame[:0]
    else:
        frame[name] = {"texts": rng.choice(TEXTS), "null": None, "numbers": rng.choice([-1e308, 7.5])}[kind]
    getattr(frame, write)(path, index=False)
    return f"{name} {kind}"


def picture(rng: Random) -> tuple[bytes, bool]:
    """(bytes of a picture, whether it can be read at all)."""
    kind = rng.choice(["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "EPS", "PDF", "SGI"])
    size = rng.choice([(1, 1), (64, 48), (1, 900), (900, 2), (300, 300)])
    mode = rng.choice(["RGB", "L"] if kind in ("EPS", "JPEG", "BMP", "PDF", "SGI") else ["RGB", "L", "RGBA", "P", "1"])
    file = io.BytesIO()
    Image.new(mode, size, 1).save(file, kind)
    content = file.getvalue()
    cut = rng.random()
    if cut < 0.3:
        return content[: int(len(content) * cut * 3)], False
    if cut < 0.4:
        return rng.randbytes(200), False
    return content, kind not in ("EPS", "PDF", "SGI")


def place(rng: Random, work: Path, suffix: str) -> tuple[str, str]:
    """(an --out, "bad" or "any")."""
    (work / "file").write_text("mine")
    (work / "circle").symlink_to("circle")
    os.mkfifo(work / "pipe")
    bad = ["", "file/below", "circle/x", "/proc/none/x", "x" * 300, "d/" * 2500 + "x"]
    odd = ["d/" * 1100 + "x", "a#b?c%20 'd\"", "-x", "\udcff", "é字", "a\nb", "new/x", f"pipe{suffix and '/x'}"]
    name = rng.choice([*bad, *odd])
    return name + suffix * bool(name), "bad" if name in bad else "any"
