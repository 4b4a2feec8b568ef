"""Nothing of ours unpickles: a file from a shared folder must not run code."""

import ast
from collections.abc import Iterator

import pytest

from tests.unit.test_imports import OURS, ROOT

PICKLERS = ("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "pickletools")
# Calls that unpickle whatever they are given, by the name behind the last dot.
UNPICKLERS = ("read_pickle", "unsafe_load", "UnpicklingError", "Unpickler")
# from_pretrained of these reads no weights; all others are told to read safetensors.
WITHOUT_WEIGHTS = ("Config", "Tokenizer", "Processor", "ImageProcessor", "GenerationConfig")


def called(node: ast.Call) -> str:
    """The name of what is called, as far as it is written: torch.load, AutoModel.from_pretrained."""
    return ast.unparse(node.func)


def keyword(node: ast.Call, name: str) -> object:
    """The constant that a keyword argument is given, None where it has none."""
    return next((k.value.value for k in node.keywords if k.arg == name and isinstance(k.value, ast.Constant)), None)


def unpickling(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of everything in a module that may unpickle a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            names += [a.name for a in node.names] if isinstance(node, ast.ImportFrom) else []
            yield from ((node.lineno, f"import {name}") for name in names if name.split(".")[0] in PICKLERS)
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        last, owner = name.rsplit(".", 1)[-1], name.rsplit(".", 1)[0]
        pickled = last in UNPICKLERS or (last in ("__import__", "import_module") and _constant(node) in PICKLERS)
        pickled |= (
            last == "load" and owner in ("torch", "torch.serialization") and keyword(node, "weights_only") is not True
        )
        pickled |= name in ("yaml.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter")
        pickled |= any(k.arg == "allow_pickle" for k in node.keywords) and keyword(node, "allow_pickle") is not False
        reads = last == "from_pretrained" and not owner.endswith(WITHOUT_WEIGHTS)
        if pickled or (reads and keyword(node, "use_safetensors") is not True):
            yield node.lineno, f"{name}(..)"


def _constant(node: ast.Call) -> object:
    return node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None


def test_nothing_of_ours_unpickles():
    modules = sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))
    assert len(modules) > 100
    found = [
        f"{path.relative_to(ROOT)}:{line} {what}"
        for path in modules for line, what in unpickling(ast.parse(path.read_text(encoding="utf-8")))
    ]  # fmt: skip
    # Refuses what is no safetensors file before; of a hub PEFT loads tensors alone (weights_only).
    explained = "perception_gap/models/adapters.py"
    assert [place for place in found if not place.startswith(f"{explained}:")] == []


@pytest.mark.parametrize(
    ("code", "flagged"),
    [
        ("import pickle", True),
        ("import pickle as p", True),
        ("def f():\n    from joblib import load", True),
        ("from pandas.compat import pickle", True),
        ("import_module('dill')", True),
        ("torch.load(path)", True),
        ("torch.load(path, weights_only=False)", True),
        ("torch.load(path, weights_only=chosen)", True),
        ("torch.load(path, weights_only=True)", False),
        ("np.load(path)", False),
        ("np.load(path, allow_pickle=True)", True),
        ("np.load(path, allow_pickle=chosen)", True),
        ("np.load(path, allow_pickle=False)", False),
        ("pandas.read_pickle(path)", True),
        ("yaml.load(text)", True),
        ("yaml.safe_load(text)", False),
        ("AutoModelForImageTextToText.from_pretrained(folder)", True),
        ("type(model).from_pretrained(folder, use_safetensors=None)", True),
        ("AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)", False),
        ("AutoTokenizer.from_pretrained(folder)", False),
        ("AutoConfig.from_pretrained(folder)", False),
        ("json.load(file)", False),
    ],
)
def test_what_counts_as_unpickling(code, flagged):
    assert bool(list(unpickling(ast.parse(code)))) is flagged
