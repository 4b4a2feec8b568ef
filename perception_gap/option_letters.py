"""Which lettered option an answer names: an explicit statement first, a bare letter last, None when in doubt."""

from __future__ import annotations

import re
from collections.abc import Iterable

from perception_gap.categories import is_article
from perception_gap.sample import LETTERS

# A letter on its own: not part of a word, an abbreviation (U.S.), a compound (T-shirt), C++ or C#.
_BEFORE = r"(?<![\w.'’\-])"
_ALONE = r"(?![\w'’+#]|[.\-][^\W_])"
_FILL = r"(?:[\W_]*\b(?:the|option|choice|letter|therefore|most\ likely|[a-z]+ly|boxed|text\w*|math\w*)\b)*"
ANSWER_CUE = r"""\b(?:answer|option|choice)\b(?:\s+(?:to|for)\s[^.:!?\n]{1,60}?)?[\s*_"']*""" + (
    r"(?:\b(?:is|was|must\ be|should\ be|would\ be|will\ be)\b|[:=])"
)
# "the answer is B", "Final answer: (c)", "**Answer:** \boxed{D}"
_CUED = re.compile(rf"{ANSWER_CUE}{_FILL}[\W_]*(?P<letter>[a-z]){_ALONE}", re.IGNORECASE)
# "(B) is the correct answer", "B is correct"
_STATED = re.compile(
    rf"{_BEFORE}(?P<letter>[A-Z]){_ALONE}[)*]*\s+(?:is|must be|would be)\s+(?:correct\b"
    r"|(?:the|my)\s+(?:(?:final|correct|right|best)\s+)*(?:answer|option|choice)\b)"
)
_CHOSEN = re.compile(
    r"\b(?:choose|pick|select|go with)\s+(?:(?:the\s+)?(?:option|choice|letter|answer)\s+)?"
    rf"[(*]*(?P<letter>[A-Z]){_ALONE}"
)
_JOINED = re.compile(
    r"[)*\s]*(?:[,/&]|\bor\b|\band\b)\s*(?:(?:or|and|option|maybe|possibly|perhaps|also)\s+)*"
    rf"[(*]*(?P<letter>[A-Z]){_ALONE}"
)
_BOXED = re.compile(r"\\boxed\{\s*(?:\\(?:text|math)\w*\{)?\s*\(?(?P<letter>[A-Za-z])(?:[.:)][^{}]*)?\s*\}")
_BOLD = re.compile(r"(?P<mark>\*\*|__)\s*\(?(?P<letter>[A-Za-z])(?:[.:)][^*_\n]*)?\s*(?P=mark)")
_LEADING = re.compile(r"[\W_]*(?P<letter>[A-Za-z])(?![+#])(?:\s*(?:[.):\]](?!\w)|\n)|[\W_]*$|\s+[-–—]\s)")
_LISTED = re.compile(r"(?<![\w.])(?P<letter>[A-Za-z])[.):]\s+(?=\w)")
_BARE = re.compile(rf"{_BEFORE}(?P<letter>[A-Z]){_ALONE}")
_MENTIONED = re.compile(rf"\b(?:option|choice)\s+[(*]*(?P<letter>[a-z]){_ALONE}", re.IGNORECASE)
_NEAR = 40  # characters around a letter that can tell what it is; keeps long answers linear
_REJECTED_BEFORE = re.compile(
    r"(?:\b(?:not|never|nor|neither|except|than|unlike|instead of)|n['’]t(?: be)?)\s+(?:the\s+)?"
    r"(?:(?:option|choice|letter|answer)\s+)?[(*\"']*$",
    re.IGNORECASE,
)
_REJECTED_AFTER = re.compile(
    r"[)*\"']*\s+(?:(?:is|was)\s+(?:[a-z]+ly\s+)?(?:not|wrong|incorrect|false)\b|(?:is|was|does|do|ca)n['’]t\b|cannot\b)",
    re.IGNORECASE,
)


def final_part(text: str) -> str:
    """What an answer states in the end: the last <answer> element where there is one, never <think> elements."""
    text = re.sub(r"<think>.*?(?:</think>|\Z)", " ", text, flags=re.DOTALL | re.IGNORECASE)
    text = re.split(r"</think>", text, flags=re.IGNORECASE)[-1]  # opened in the prompt
    answers = re.findall(r"<answer>(.*?)(?:</answer>|$)", text, flags=re.DOTALL | re.IGNORECASE)
    return re.sub(r"</?[a-z]+\s*/?>", " ", answers[-1] if answers else text).strip()


def option_letter(text: str, n_options: int) -> str | None:
    """The letter (capital, among the first `n_options`, at most 26) that an answer names, or None.

    The first of these that finds a letter decides, and None comes out where it finds several:
    1. an explicit answer, the last of them: "the answer is B", "Answer: (C)", "B is correct", "I choose D";
    2. a boxed or bold letter: the last \\boxed{B}; **B**;
    3. a leading delimited letter or nothing but the letter: "A. ..", "(b) ..", "D: ..", "c"; a list of the options
       ("A. red B. blue") names none;
    4. a capital standing alone, or "option d".
    The article "A", the pronoun "I" and letters that are negated ("not B", "B is wrong") never count.
    """
    text = final_part(text)
    allowed = LETTERS[: max(n_options, 0)]
    for rule in (_explicit, _boxed, _leading, _standalone):
        found = rule(text, allowed)
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def _explicit(text: str, allowed: str) -> set[str]:
    stated = [m for pattern in (_CUED, _STATED, _CHOSEN) for m in _letters(pattern.finditer(text), allowed)]
    if not stated:
        return set()
    last = max(stated, key=lambda m: m.start("letter"))
    found = {last["letter"].upper()}
    joined = _JOINED.match(text, last.end("letter"))
    while joined:  # "the answer is A or B" is no answer
        found |= {m["letter"] for m in _letters([joined], allowed)}
        joined = _JOINED.match(text, joined.end())
    return found


def _boxed(text: str, allowed: str) -> set[str]:
    boxed = [m["letter"].upper() for m in _letters(_BOXED.finditer(text), allowed)]
    return {boxed[-1]} if boxed else {m["letter"].upper() for m in _letters(_BOLD.finditer(text), allowed)}


def _leading(text: str, allowed: str) -> set[str]:
    first = _LEADING.match(text)
    if not first or first["letter"].upper() not in allowed:
        return set()
    letter = first["letter"]
    listed = {m["letter"] for m in _letters(_LISTED.finditer(text, first.end("letter")), allowed)}
    following = chr(ord(letter) + 1)
    return {letter.upper()} | ({following.upper()} if following in listed else set())


def _standalone(text: str, allowed: str) -> set[str]:
    found = _letters([*_BARE.finditer(text), *_MENTIONED.finditer(text)], allowed)
    # A bare "I" is the pronoun, in "option I" it is a letter.
    return {m["letter"].upper() for m in found if m["letter"] != "I" or m.start("letter") > m.start()}


def _letters(found: Iterable[re.Match[str]], allowed: str) -> list[re.Match[str]]:
    """Those matches whose letter is in range, not negated and no word."""
    return [
        m
        for m in found
        if m["letter"].upper() in allowed
        and not _REJECTED_BEFORE.search(m.string[max(0, m.start("letter") - _NEAR) : m.start("letter")])
        and not _REJECTED_AFTER.match(m.string, m.end("letter"))
        and not _is_word(m)
    ]


def _is_word(m: re.Match[str]) -> bool:
    """Whether the letter is the article "a" or the pronoun "I": both run on into a sentence."""
    letter, start, end = m["letter"], *m.span("letter")
    after = re.match(r"[*_]*[^\S\n]+[*_\"'“]*(\w+)", m.string[end : end + _NEAR])
    if after is None or letter not in "AaIi":
        return False
    before = re.search(r"(\w+)\s+$", m.string[max(0, start - _NEAR) : start])
    return letter in "Ii" or is_article(letter, before and before[1], after[1])
