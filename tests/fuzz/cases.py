"""What is tried on which command: every generator gives the arguments, and whether they must be refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

import click

import benchmarks.published
from perception_gap.cli import COMMANDS, main
from perception_gap.tiny import WEIGHTS
from tests.fuzz import damage
from tests.fuzz.base import KINDS


class Case(NamedTuple):
    """argv, what was done to its input, and how it must end: "bad", "said", "any" or "good" (`run.fault`)."""

    argv: list[str]
    about: str
    expected: str = "any"


SMALL = ["--limit", "2", "--max-new-tokens", "4"]
Maker = Callable[[Random, Path, Path], Case]  # (rng, an empty folder to work in, the folder of `base`)
# Of every command a line that takes little time, to which one hostile option is added.
PLAIN = dict(
    [*line.split(maxsplit=1), ""][:2]
    for line in """
analyze tiny:student --limit 2 --max-new-tokens 4 --no-figures --out new
compare tiny:student tiny:sft --limit 2 --max-new-tokens 4 --no-page --out new
trace tiny:teacher --limit 2 --max-new-tokens 4 --out new
train tiny:student --traces BASE/traces --scale tiny --set steps=1 --set batch_size=4 --out new
ablate --student tiny:student --teacher tiny:teacher --traces BASE/traces --presets paper --scale tiny --out none/file
latents tiny:lavit --limit 2 --max-new-tokens 4 --out new
published lavit
bench tiny:student --suite scenes_iq --limit 2 --max-new-tokens 4 --out new
overlay tiny:student --image IMAGE --question q --max-new-tokens 4
report BASE/run --out page.html
tables BASE/run
reproduce table1 --tiny --dry-run
figures BASE/run --only entropy --format png --out figures
demo --limit 1 --out new
scenes --n 2 --out new
doctor
""".strip().splitlines()
)


def plain(command: str, base: Path) -> list[str]:
    one = sorted((base / "data" / "images").iterdir())[0]
    return [command, *PLAIN[command].replace("BASE", str(base)).replace("IMAGE", str(one)).split()]


def option(rng: Random, _: Path, base: Path) -> Case:
    """An option of any command with a value it was not made for."""
    name = rng.choice(list(COMMANDS))
    command = main.get_command(click.Context(main), name)
    assert command is not None
    chosen = rng.choice([one for one in command.params if isinstance(one, click.Option)] or [click.Option(["--none"])])
    text = rng.choice(damage.TEXTS)
    argv = plain(name, base)
    if chosen.is_flag or chosen.count:
        return Case([*argv, rng.choice([*chosen.opts, *chosen.secondary_opts])], "flag")
    limited = isinstance(chosen.type, click.IntRange | click.FloatRange | click.Choice)
    text = rng.choice(["0", "-1", "x", "1.5", "", "1e99"]) if limited and rng.random() < 0.7 else text
    try:
        chosen.type_cast_value(click.Context(command), (text,) if chosen.multiple else text)
        expected = "any"
    except click.ClickException:
        expected = "bad"
    return Case([*argv, chosen.opts[0], text], f"{chosen.opts[0]} {text[:30]!r}", expected)


def argument(rng: Random, work: Path, base: Path) -> Case:
    """A hostile name of a model, a run or a paper."""
    name = rng.choice([name for name in COMMANDS if not PLAIN[name].startswith("--")])
    paths = ["/dev/null", "/", ".", str(work), str(base / "data"), "file:///etc/passwd", "\udcff"]
    models = ["tiny:nobody", "nobody/nothing", "lmms-eval:", "lmms-eval:openai,a", "lmms-eval:none,api_key=hunter2"]
    hostile = rng.choice([*damage.TEXTS, *paths, *models, "-"])
    argv = plain(name, base)
    return Case([argv[0], hostile, *argv[2:]], f"argument {hostile[:30]!r}", "bad")


def where(rng: Random, work: Path, base: Path) -> Case:
    """An --out that cannot be written, is somebody else's, or has an odd name."""
    name = rng.choice(["report", "tables", "figures", "scenes", "analyze", "bench", "trace", "compare", "train"])
    suffix = {"report": ".html", "tables": ".md"}.get(name, "")
    out, expected = damage.place(rng, work, suffix)
    argv = plain(name, base)
    argv = argv[: argv.index("--out")] if "--out" in argv else argv
    return Case([*argv, f"--out={out}"], f"--out {out[:30]!r}", expected)


def folder(rng: Random, work: Path, base: Path) -> Case:
    """A run, comparison, benchmark, matrix, training or traces with one damaged file."""
    kind = rng.choice(KINDS)
    shutil.copytree(base / kind, work / kind, symlinks=True)
    shutil.copytree(base / "data", work / "data")
    files = sorted(path for path in (work / kind).rglob("*") if path.is_file() and "parts" not in path.parts)
    path = rng.choice(files)
    whole = rng.random() < 0.4 or path.suffix not in (".json", ".parquet", ".csv") or path.stat().st_size < 5
    how = damage.damage if whole else damage.change_table if path.suffix != ".json" else damage.change_json_file
    done = how(rng, path)
    read = rng.choice([["report"], ["tables"], ["figures"], ["tables", "--as", "table2"], ["tables", "--as", "table3"]])
    if kind == "traces":
        argv = [
            "train",
            "tiny:student",
            "--traces",
            "traces",
            "--scale",
            "tiny",
            "--set",
            "steps=1",
            "--set",
            "batch_size=4",
            "--out",
            "new",
        ]
    else:
        argv = [*read, kind] + (["--out", "page.html"] if read == ["report"] else [])
    # Files that these commands rest on; others may be anything.
    rests = path.name in ("run.json", "bench.json", "compare.json", "train.json", "results.csv", "samples.parquet")
    harmful = whole and done != "gone" and rests and path.parent == work / kind
    return Case(argv, f"{path.relative_to(work)}: {done}", "said" if harmful else "any")


# Field and value of one record: of which the run must not begin, and of which the sample must at least be spoken of.
REFUSED = [("boxes", new) for new in ("all", [[1, 2]], 0, {}, False, "")]
REFUSED += [("image", 5), ("image", ""), ("question", None), ("question", ""), ("options", "A"), ("id", [])]
REFUSED += [("video", "a.mp4"), ("messages", [{"role": "user", "content": "what?"}])]
SPOKEN_OF = [("boxes", [box]) for box in ([9, 9, 1, 1], [0, 0, 9999, 9999], [0, 0, 0.5, 0.5])]
SPOKEN_OF += [("image", "none.png"), ("image", "x" * 5000), ("box", [[1, 1, 9, 9]]), ("answr", "red")]


def data(rng: Random, work: Path, base: Path) -> Case:
    """A JSON Lines or Visual-CoT file with a hostile record."""
    viscot = rng.random() < 0.25
    source = base / ("viscot.json" if viscot else "data/scenes.jsonl")
    shutil.copytree(base / "data", work / "data")
    path = work / "data" / ("viscot.json" if viscot else "scenes.jsonl")
    spec = f"viscot:{path}" if viscot else str(path)
    argv = ["analyze", "tiny:student", "--data", spec, *SMALL, "--no-figures", "--out", "new"]
    shutil.copy(source, path)
    if rng.random() < 0.2:
        done = damage.damage(rng, path)
        # A file cut at the end of a line, or with other letters in a word, is whole.
        return Case(argv, f"{path.name}: {done}", "any" if done in ("cut", "flip") else "bad")
    records = json.loads(source.read_text()) if viscot else [json.loads(line) for line in source.open()]
    record = rng.choice(records[:2])
    if rng.random() < 0.4:
        field, new = rng.choice([*REFUSED, *SPOKEN_OF])
        expected = "bad" if (field, new) in REFUSED else "said"
        record[field] = new
        done, expected = f"{field} = {str(new)[:30]!r}", "any" if viscot else expected
    else:
        done, expected = damage.change_json(rng, record), "any"
    text = json.dumps(records) if viscot else "".join(json.dumps(record) + "\n" for record in records)
    path.write_text(text)
    return Case(argv, f"{path.name}: {done}", expected)


def image(rng: Random, work: Path, base: Path) -> Case:
    """A hostile picture, typed or in the data."""
    content, readable = damage.picture(rng)
    (work / "picture.png").write_bytes(content)
    if rng.random() < 0.1:
        (work / "picture.png").unlink()
        rng.choice([os.mkfifo, os.mkdir])(work / "picture.png")
        readable = False
    ask = ["overlay", "tiny:student", "--image", "picture.png", "--question", "q", "--max-new-tokens", "2"]
    return Case([*ask, "--out", "o.png"], f"picture of {len(content)} bytes", "any" if readable else "bad")


def model(rng: Random, work: Path, base: Path) -> Case:
    """A checkpoint with one damaged file."""
    shutil.copytree(WEIGHTS / "student", work / "model")
    path = rng.choice([path for path in sorted((work / "model").iterdir()) if path.suffix in (".json", ".safetensors")])
    whole = path.suffix != ".json" or rng.random() < 0.4
    done = (damage.damage if whole else damage.change_json_file)(rng, path)
    argv = rng.choice(
        [["analyze", "model", *SMALL, "--no-figures"], ["bench", "model", "--suite", "scenes_iq", *SMALL]]
    )
    needed = path.name in ("config.json", "model.safetensors", "tokenizer.json")
    harmful = whole and needed and done != "flip"
    return Case([*argv, "--out", "new"], f"{path.name}: {done}", "bad" if harmful else "any")


def paper(rng: Random, work: Path, base: Path) -> Case:
    """A damaged file of published figures."""
    text = (Path(benchmarks.published.__file__).parent / "papers" / "lavit.toml").read_text()
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    if rng.random() < 0.5:
        lines[at] = rng.choice(["", "x = [\n", "[[\n", "row = 1e999\n", 'label = "é\\u202e"\n', lines[at] * 2])
    else:
        words = lines[at].split(" ")
        words[rng.randrange(len(words))] = rng.choice(["", "-1", '"x"', "[]", "true", "nan", "9" * 400])
        lines[at] = " ".join(words)
    (work / "p.toml").write_text("".join(lines))
    return Case(["published", "p.toml", *rng.choice([[], ["--check"], ["--format", "csv"]])], f"line {at + 1}")


def whole(rng: Random, _: Path, base: Path) -> Case:
    """Nothing is wrong: what refuses this refuses everything."""
    name = rng.choice(["report", "tables", "figures", "published", "reproduce", "scenes", "doctor", "analyze"])
    return Case(plain(name, base), "nothing", "good")


# How often each is tried; those that load a model are the slow ones.
MAKERS: dict[Maker, int] = {
    option: 25,
    argument: 12,
    where: 12,
    folder: 25,
    data: 8,
    image: 6,
    model: 6,
    paper: 4,
    whole: 2,
}


def case(seed: int, number: int, work: Path, base: Path) -> tuple[str, Case]:
    """(generator, case) of this number, its input written into `work`."""
    rng = Random(f"{seed}/{number}")
    maker = rng.choices(list(MAKERS), list(MAKERS.values()))[0]
    return maker.__name__, maker(rng, work, base)
