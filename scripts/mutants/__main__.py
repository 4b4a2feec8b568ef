"""Which slips of the pen would the tests not notice? `python -m scripts.mutants MODULE.py ..` changes one thing at a
time and runs the tests that reach it; what survives is printed.

Own, since mutmut 3 leaves out module constants and every decorated function (properties, class methods, cached and
inference-mode functions: half of what is measured here), and cosmic-ray starts a Python, and so imports torch, for each
mutant.
"""

from __future__ import annotations

import ast
import os
import random
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from scripts.mutants.operators import Mutant, mutants
from scripts.mutants.trial import baseline, trial, warm

Explained = tuple[Any, ...]  # where a mutant is, what it was, what it became
EXPLAINED = Path(__file__).with_name("explained.toml")


@dataclass
class Tally:
    """Of one file: how many mutants were run, and what became of them."""

    file: Path
    mutants: int = 0
    killed: int = 0
    explained: int = 0
    surviving: int = 0
    met: set[Explained] = field(default_factory=set)  # the explanations that were needed


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--tests", multiple=True, help="Test files or folders; default: the module's mirror, and explained.toml's."
)
@click.option("--sample", type=int, help="Run so many mutants a file, chosen by --seed.")
@click.option("--seed", default=0, show_default=True)
@click.option("--at", type=int, multiple=True, help="Only the mutants of this line.")
@click.option(
    "--explained",
    default=EXPLAINED,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML: mutants that no test can kill, with the reason; tests beside a module's mirror.",
)
@click.option("--list", "only_list", is_flag=True, help="Print the mutants, run none.")
@click.option("--killed", "show_killed", is_flag=True, help="Print killed mutants too, with the test that killed each.")
def main(
    files: Sequence[Path],
    tests: Sequence[str],
    sample: int | None,
    seed: int,
    at: Sequence[int],
    explained: Path,
    only_list: bool,
    show_killed: bool,
) -> None:
    """Change FILES one slip at a time; print what their tests do not notice, and a table; exit 1 if anything survives.

    Run it in the root of the checkout: python -m scripts.mutants perception_gap/metrics/transport.py
    """
    settings = tomllib.loads(explained.read_text())
    tallies = []
    for file in files:
        tree = ast.parse(file.read_text())
        chosen = [m for m in mutants(tree) if not at or m.line in at]
        if sample is not None and sample < len(chosen):
            chosen = [chosen[i] for i in sorted(random.Random(seed).sample(range(len(chosen)), sample))]
        if only_list:
            for mutant in chosen:
                _show("mutant", file, mutant)
            continue
        proof = list(tests) or [*_mirror(file), *settings.get("tests", {}).get(file.as_posix(), [])]
        if not proof:
            raise click.UsageError(f"{file}: no tests/unit/../test_{file.stem}.py; name its tests with --tests")
        reasons = {
            (e["in"], e["before"], e["after"]) for e in settings.get("explained", []) if e["file"] == file.as_posix()
        }
        tallies.append(_run(file, tree, chosen, proof, reasons, show_killed))
        if not at and sample is None:
            for entry in sorted(reasons - tallies[-1].met):
                click.echo(f"{file}: explained, but killed or gone: {' | '.join(entry)}")
    if tallies:
        _table(tallies)
        sys.stdout.flush()
        # No teardown: libraries that were imported for the forks alone would write their complaints under the table.
        os._exit(any(tally.surviving for tally in tallies))


def _mirror(file: Path) -> list[str]:
    test = Path("tests/unit") / file.parent / f"test_{file.stem}.py"
    return [str(test)] if test.exists() else []


def _run(
    file: Path, tree: ast.Module, chosen: list[Mutant], tests: list[str], reasons: set[Explained], show_killed: bool
) -> Tally:
    facts = baseline(file.resolve(), tests)
    warm(facts["warm"])
    tally, kills = Tally(file), Counter[str]()
    for mutant in chosen:
        reaching = _reaching(mutant, facts)
        # Neighbours are mostly killed by the same test, so the best killers go first.
        reaching.sort(key=lambda test: -kills[test])
        outcome = {"code": 0, "failed": None}
        if reaching:

            def mutated(mutant: Mutant = mutant) -> ast.Module:
                mutant.apply()  # in the fork, so the tree here stays whole
                return tree

            name = ".".join(file.with_suffix("").parts).removesuffix(".__init__")
            limit_s = 20 + 5 * sum(facts["seconds"][test] for test in reaching)
            outcome = trial(name, file.resolve(), mutated, reaching, limit_s)
        what = mutant.scope, mutant.before, mutant.after
        tally.mutants += 1
        if outcome["code"] != 0:
            tally.killed += 1
            kills[outcome["failed"] or ""] += 1
            if show_killed:
                _show("killed", file, mutant, str(outcome["failed"]))
        elif what in reasons:
            tally.explained += 1
            tally.met.add(what)
        else:
            tally.surviving += 1
            _show("survived", file, mutant, f"{len(reaching)} tests" if reaching else "no test runs this line")
    return tally


def _reaching(mutant: Mutant, facts: dict[str, Any]) -> list[str]:
    """The tests that run a line of the mutant, in their order; all of them where it runs outside of a test."""
    span = {mutant.line}
    node = mutant.slot[0]
    if isinstance(node, ast.expr | ast.stmt) and not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.With):
        span = set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    if span & set(facts["shared"]):
        return list(facts["lines"])
    return [test for test, lines in facts["lines"].items() if span & set(lines)]


def _show(word: str, file: Path, mutant: Mutant, more: str = "") -> None:
    where = f" in {mutant.scope}" if mutant.scope else ""
    click.echo(f"{file}:{mutant.line}: {word}{where}{f' ({more})' if more else ''}")
    click.echo(f"  - {mutant.before}\n  + {mutant.after}")


def _table(tallies: list[Tally]) -> None:
    click.echo(f"{'file':44} mutants killed explained surviving  killed of the rest")
    whole = Tally(Path("all"))
    for tally in tallies:
        for name in ("mutants", "killed", "explained", "surviving"):
            setattr(whole, name, getattr(whole, name) + getattr(tally, name))
    for tally in [*tallies, *([whole] if len(tallies) > 1 else [])]:
        rest = tally.mutants - tally.explained
        share = f"{tally.killed / rest:.1%}" if rest else "-"
        counts = f"{tally.mutants:7} {tally.killed:6} {tally.explained:9} {tally.surviving:9}"
        click.echo(f"{tally.file.as_posix():44} {counts}  {share}")


if __name__ == "__main__":
    main()
