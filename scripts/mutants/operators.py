"""The mutants of a module: its syntax tree with one node changed as a slip of the pen would change it.

Left alone: what tests do not judge (messages of `raise` and f-strings, docstrings, annotations, decorators, imports,
`strict` of zip).
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_NAMES = {"min": "max", "amin": "amax", "any": "all", "minimum": "maximum", "argmin": "argmax", "floor": "ceil"}
_NAMES |= {other: name for name, other in _NAMES.items()}
_SKIPPED_FIELDS = {"annotation", "returns", "decorator_list"}
_SKIPPED = (ast.Raise, ast.Assert, ast.Import, ast.ImportFrom, ast.JoinedStr, ast.Global, ast.Nonlocal)


@dataclass(frozen=True)
class Mutant:
    """One change: in `scope` (qualified name of the function, "" for the module's level), `before` became `after`."""

    line: int
    scope: str
    before: str
    after: str
    slot: tuple[ast.AST, str, int | None]
    replacement: ast.AST

    def apply(self) -> None:
        """Change the tree that the mutant was made from, for good."""
        parent, field, index = self.slot
        if index is None:
            setattr(parent, field, self.replacement)
        else:
            getattr(parent, field)[index] = self.replacement


def mutants(tree: ast.Module) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    return sorted(_walk(tree, ""), key=lambda mutant: mutant.line)


def _walk(parent: ast.AST, scope: str) -> Iterator[Mutant]:
    for field, value in ast.iter_fields(parent):
        if field in _SKIPPED_FIELDS:
            continue
        for index, node in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(node, ast.AST) or isinstance(node, _SKIPPED) or _is_guard(node):
                continue
            condition = field == "test" or (field == "ifs" and isinstance(parent, ast.comprehension))
            slot = parent, field, index if isinstance(value, list) else None
            unlike = {ast.unparse(node)}
            for other in _variants(node, parent, condition):
                replacement = ast.fix_missing_locations(ast.copy_location(other, node))
                after = ast.unparse(replacement)
                if after not in unlike:
                    unlike.add(after)
                    yield Mutant(getattr(node, "lineno", 0), scope, ast.unparse(node), after, slot, replacement)
            inner = node.name if isinstance(node, ast.FunctionDef | ast.ClassDef) else ""
            yield from _walk(node, ".".join(filter(None, (scope, inner))))


def _is_guard(node: ast.AST) -> bool:
    """Imports for the type checker, and `strict` of zip, which only a programming error meets."""
    if isinstance(node, ast.keyword):
        return node.arg == "strict"
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _variants(node: ast.AST, parent: ast.AST, condition: bool) -> Iterator[Any]:
    if condition and isinstance(node, ast.expr) and not _flips(node):
        yield node.operand if _is_not(node) else ast.UnaryOp(ast.Not(), node)
    match node:
        case ast.Compare():
            for i, op in enumerate(node.ops):
                ops = [*node.ops[:i], _COMPARISONS[type(op)](), *node.ops[i + 1 :]]
                yield ast.Compare(node.left, ops, node.comparators)
        case ast.BinOp() if type(node.op) in _ARITHMETIC:
            yield ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right)
        case ast.AugAssign() if type(node.op) in _ARITHMETIC:
            yield ast.AugAssign(node.target, _ARITHMETIC[type(node.op)](), node.value)
        case ast.BoolOp():
            for i in range(len(node.values)):
                rest = [*node.values[:i], *node.values[i + 1 :]]
                yield ast.BoolOp(node.op, rest) if len(rest) > 1 else rest[0]
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield ast.Constant(node.value + 1)
            yield ast.Constant(node.value - 1)
        case ast.Attribute(attr="nan") | ast.Name(id="NOTHING", ctx=ast.Load()):
            yield ast.Constant(0.0)
        case ast.Return(value=ast.expr()):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.Slice():
            for end in ("lower", "upper"):
                if getattr(node, end) is not None:
                    yield _without(node, end)
        case ast.Subscript(slice=ast.Name() | ast.Subscript() | ast.Attribute() | ast.UnaryOp(), ctx=ast.Load()):
            if not (isinstance(parent, ast.Call) and node is parent.func):  # `list[int]()` is for the type checker
                yield node.value
        case ast.Call():
            yield from _calls(node)


def _calls(node: ast.Call) -> Iterator[ast.Call]:
    for i, keyword in enumerate(node.keywords):
        if _is_guard(keyword):
            continue
        yield ast.Call(node.func, node.args, [*node.keywords[:i], *node.keywords[i + 1 :]])
    # The last argument may have a default; a lone one that does is most often an axis.
    if len(node.args) > 1 or (node.args and isinstance(node.func, ast.Attribute) and _is_number(node.args[0])):
        yield ast.Call(node.func, node.args[:-1], node.keywords)
    match node.func:
        case ast.Name(id=name) if name in _NAMES:
            yield ast.Call(ast.Name(_NAMES[name], ast.Load()), node.args, node.keywords)
        case ast.Attribute(attr=name) if name in _NAMES:
            yield ast.Call(ast.Attribute(node.func.value, _NAMES[name], ast.Load()), node.args, node.keywords)


def _without(node: ast.Slice, end: str) -> ast.Slice:
    shorter = copy.copy(node)
    setattr(shorter, end, None)
    return shorter


def _is_not(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def _is_number(node: ast.expr) -> bool:
    literal = node.operand if isinstance(node, ast.UnaryOp) else node
    return isinstance(literal, ast.Constant) and isinstance(literal.value, int | float)


def _flips(node: ast.expr) -> bool:
    """Whether a comparison's own mutant is its negation already."""
    return isinstance(node, ast.Compare) and isinstance(
        node.ops[0], ast.Eq | ast.NotEq | ast.Is | ast.IsNot | ast.In | ast.NotIn
    )
