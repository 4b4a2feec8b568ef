"""What tables of a paper's TOML file hold, and what is wrong with one in a line: the dotted key, value and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ValidationError, model_validator

from perception_gap.errors import UsageError

Item = TypeVar("Item")
# pydantic's kind of error -> what was expected. Every whole number of the layout counts something.
EXPECTED = {
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a table",
    "int_type": "a whole number above 0",
    "greater_than": "a whole number above 0",
    "date_type": "a date such as 2026-01-15",
    "too_short": "two or more that should agree",
}


class LayoutError(UsageError, ValueError):
    """What is wrong at one place; as a ValueError pydantic adds the place."""


class Printed(float):
    """A number with its digits as they stand in the file: 32.0 and 32.00 say different things about the rounding."""

    digits: str

    def __new__(cls, digits: str) -> Printed:
        number = super().__new__(cls, digits)
        number.digits = digits
        return number


class Entry(BaseModel):
    """One table of the file. Fields with `exclude` are not of the file: reading it fills them in."""

    @model_validator(mode="before")
    @classmethod
    def known_keys(cls, entry: Any) -> Any:
        """Every required key is there, and no unknown one."""
        fields = {field.alias or name: field for name, field in cls.model_fields.items() if not field.exclude}
        required = [name for name, field in fields.items() if field.is_required()]
        if not isinstance(entry, dict):
            raise LayoutError(f"is {entry!r}; expected a table with {', '.join(required)}")
        for key in entry:
            pick(key, fields, "key")
        for key in required:
            if key not in entry:
                raise LayoutError(f"lacks {key!r}; expected {', '.join(required)}")
        return entry


def pick(name: Any, among: Mapping[str, Item], kind: str) -> Item:
    """The entry of that name, or a UsageError that names what is near, else all there is."""
    if name in among:
        return among[name]
    near = get_close_matches(str(name), among, n=3, cutoff=0.5)
    raise LayoutError(f"no {kind} {name!r}: expected {'one like ' if near else ''}{', '.join(near or among) or 'none'}")


def different(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The texts; ValueError for one that stands there twice."""
    for text in texts:
        if texts.count(text) > 1:
            raise LayoutError(f"has {text!r} twice; expected a list of different texts")
    return texts


Texts = Annotated[tuple[str, ...], AfterValidator(different)]


def first_fault(error: ValidationError, data: Any) -> str:
    """The first error of a file's data, with its dotted key, in which entries of lists count from 1."""
    fault, here = error.errors()[0], data
    keys: list[str] = []
    for part in fault["loc"]:
        # What is not in the data was put there in reading it, as the kind of a recomputation.
        inside = isinstance(here, list) or (isinstance(here, dict) and part in here)
        if inside:
            keys.append(str(part + 1) if isinstance(part, int) else part)
            here = here[part]
    raised = fault.get("ctx", {}).get("error")
    what = str(raised) if raised else f"is {fault['input']!r}; expected {EXPECTED.get(fault['type'], fault['msg'])}"
    return f"{'.'.join(keys)}: {what}" if keys else what
