"""Entries of a large JSON file one after another, in bounded memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from perception_gap.errors import UsageError

CHUNK = 1 << 18  # bytes read at a time
# Characters of one entry, which may hold a picture; a damaged file must not be read to its end in search of a brace.
LONGEST = 1 << 25
BLANK = re.compile(r"[ \t\r\n]*")


class NoListError(UsageError):
    """The file's one object has no list under the name that was asked for."""


class Entry(NamedTuple):
    """`number` counts from 1; `offset` and `size` are the entry's bytes in the file."""

    number: int
    offset: int
    size: int
    value: dict[str, Any]


class _Text:
    """A file's text from `position` on, read as needed; `offset` is the byte of the file at `position`."""

    def __init__(self, path: Path, file: IO[bytes]):
        self.path, self.file = path, file
        self.decode = codecs.getincrementaldecoder("utf-8")().decode
        marked = file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8  # as editors on Windows write it
        self.text, self.position, self.offset, self.ended = "", 0, len(codecs.BOM_UTF8) if marked else 0, False
        file.seek(self.offset)

    def grow(self) -> None:
        data = self.file.read(max(CHUNK, len(self.text) - self.position))  # a long entry is tried again few times
        self.ended = not data
        try:
            more = self.decode(data, self.ended)
        except UnicodeDecodeError as error:
            raise UsageError(f"{self.path}: not UTF-8 text ({error.reason}): save it as UTF-8") from None
        self.text, self.position = self.text[self.position :] + more, 0

    def advance(self, position: int) -> int:
        """Move on to a position of the text; returns how many bytes that was."""
        size = len(self.text[self.position : position].encode())
        self.position = position
        self.offset += size
        return size

    def peek(self) -> str:
        """The next character that is no white space, '' at the end."""
        while True:
            blank = BLANK.match(self.text, self.position)
            self.advance(blank.end() if blank else self.position)
            if self.position < len(self.text) or self.ended:
                return self.text[self.position : self.position + 1]
            self.grow()


def stream_entries(path: Path, field: str | None = None) -> Iterator[Entry]:
    """The objects of a JSON array, or of JSON Lines, in the order of the file.

    field: the name under which the file's one object holds the array, if the file is an object.
    Memory is bounded by the longest entry (32 Mi characters), not by the file. UsageError names the number of an
    entry that is malformed, too long or no object, and says so when the file ends before the array does.
    """
    try:
        with path.open("rb") as file:
            text = _Text(path, file)
            if field is not None and text.peek() == "{":
                _enter(text, field)
            yield from _entries(text)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None


def _enter(text: _Text, field: str) -> None:
    """From the opening brace to the array under `field`; what the object holds before it is passed over."""
    mark = "{"
    while mark in ("{", ","):
        text.advance(text.position + 1)
        if text.peek() != '"':
            break
        name, end = _next_value(text, 1)
        text.advance(end)
        if text.peek() != ":":
            break
        text.advance(text.position + 1)
        if text.peek() == "[" and name == field:
            return
        _pass_over(text)
        mark = text.peek()
    raise NoListError(f"{text.path}: holds no list {field!r}: expected an array of objects, or one under that name")


def _pass_over(text: _Text) -> None:
    """Move behind the value at the text's position, a list value by value: it may be as long as the file."""
    if text.peek() != "[":
        text.advance(_next_value(text, 1)[1])
        return
    mark = "["
    while mark in ("[", ","):
        text.advance(text.position + 1)
        if text.peek() != "]":
            text.advance(_next_value(text, 1)[1])
        mark = text.peek()
    if mark == "]":
        text.advance(text.position + 1)


def _entries(text: _Text) -> Iterator[Entry]:
    array = text.peek() == "["
    if array:
        text.advance(text.position + 1)
    number = 0
    while (mark := text.peek()) not in ("", "]"):
        if array and number:
            if mark != ",":
                raise UsageError(f"{text.path}: entry {number} is followed by {mark!r}: expected a comma or ]")
            text.advance(text.position + 1)
            text.peek()
        number += 1
        value, end = _next_value(text, number)
        if not isinstance(value, dict):
            raise UsageError(f"{text.path}: entry {number} is no JSON object: expected one with image and question")
        offset = text.offset
        yield Entry(number, offset, text.advance(end), value)
    if array and mark != "]":
        raise UsageError(f"{text.path}: ends after entry {number} without the closing ]: is the download complete?")


def _next_value(text: _Text, number: int) -> tuple[Any, int]:
    """The JSON value at the text's position and where it ends; reads on for as long as it is incomplete."""
    decoder = json.JSONDecoder(object_pairs_hook=once)
    while True:
        try:
            value, end = decoder.raw_decode(text.text, text.position)
            if end < len(text.text) or text.ended:  # else it may be a number that goes on
                return value, end
        except json.JSONDecodeError as error:
            # An object cut by the end of the chunk fails like a malformed one, so read on, within bounds.
            if text.ended or len(text.text) - text.position > LONGEST:
                long = "" if text.ended else f", or longer than {LONGEST >> 20} Mi characters"
                raise UsageError(f"{text.path}: entry {number} is not valid JSON ({error.msg}){long}") from None
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{text.path}: entry {number} is not valid JSON ({str(error)[:80]})") from None
        text.grow()


def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError for a field that stands twice in it, of which Python would keep the last."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)[:60]!r} stands twice in one object")
    return value


def read_entry(path: Path, offset: int, size: int) -> dict[str, Any]:
    """The entry that `stream_entries` found at these bytes; UsageError when the file has changed since."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            entry: dict[str, Any] = json.loads(file.read(size))
            return entry
    except (OSError, ValueError):
        raise UsageError(f"{path}: changed or vanished while it was read: start again") from None
