"""What two answers are compared by: lower-case words, with numbers written one way.

The normalisation of VQA (Antol et al., arXiv 1505.00468, and its evaluation code: lower case, punctuation and articles
out, number words to digits), widened to decimals, dates and other scripts; the same for an answer and a reference.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

from perception_gap.text.categories import is_article

SEPARATORS = frozenset(".?,/")
_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
NUMBERS = {name: str(value) for value, name in enumerate(_NAMES)}

_MARK = "\u0300"  # stands for any combining mark, which `re` does not count among word characters
_PIECE = re.compile(
    # A sign may stand before a currency; letters that follow directly belong to the number ("5kg", "2nd").
    r"(?P<number>(?<![^\W_])(?P<sign>-?)[$€£¥]?(?P<digits>(?:\d+|(?<![\d.])\.\d+)(?:[.,/]\d+)*)"
    rf"(?P<exponent>e[+-]?\d{{1,2}})?(?P<unit>(?:[^\W\d_]|{_MARK})*)(?![^\W_]|{_MARK}))"
    rf"|(?P<word>(?:[^\W_]|{_MARK})+)|(?P<and>&)|(?P<question>[?؟])|(?P<end>\.(?=\s|$)|[!\n。।])"
    r"|(?P<slash>/|(?<=\d)\s?[-–—]\s?(?=\d))|(?P<comma>[,;:、،؛()\[\]{}|–—]|(?<=\s)-(?=\s))"
)
_SIGNS = {"and": "and", "question": "?", "end": ".", "slash": "/", "comma": ","}
_ENGLISH = re.compile(r"\d+|(?!0,)\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.\d+")  # 1,000.50 and .87
_THOUSANDS_BY_DOTS = re.compile(r"\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}")  # 1.000,50 and 1.234.567
_DECIMAL_COMMA = re.compile(r"\d+,\d+")  # 0,87; three digits are a thousand, but for 0,875
_WRITTEN = re.compile(r"\d+(?:\.\d+)+")  # 12.05.2026
# Before NFKC, which writes "1½" as 11⁄2, "10²" as 102 and a blank of any width as a blank.
_BEFORE_NFKC = (
    (re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞↉])"), " "),
    (re.compile(r"(?<=\d)(?=[⁰¹²³⁴-⁹⁻₀-₉])"), "^"),
    (re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))"), ""),
)
_AFTER_NFKC = str.maketrans({"−": "-", "⁄": "/", "٫": ".", "٬": ","})
_EN_DASH_AS_SIGN = re.compile(r"(?<![\w.)])–(?=[$€£¥]?\.?\d)")
_PERCENT = re.compile(r"(?<=\d)\s*per\s?cent\b")


def words(text: str) -> list[str]:
    """The normalised words of a text, without what separates them."""
    return words_of(pieces(text))


def words_of(pieces: Sequence[str]) -> list[str]:
    """`pieces` without the separators."""
    return [p for p in pieces if p not in SEPARATORS]


def pieces(text: str) -> list[str]:
    """Normalised words, and between them "." or "?" (sentence), "," (clause) or "/" (alternatives, ranges).

    Numbers that are equal are written equally: .87, 0.87, 0,87 and 0.870 as "0.87", 1,000.50 and 1.000,50 as "1000.5",
    1e3 as "1000". A fraction, a date and a version stay as they are ("1/2", "12.05.2026"), leading zeros too ("007").
    Signs of currency and percent are dropped, as all punctuation is.
    """
    for pattern, replacement in _BEFORE_NFKC:
        text = pattern.sub(replacement, text)
    text = unicodedata.normalize("NFKC", text).lower().translate(_AFTER_NFKC)
    text = _PERCENT.sub("%", _EN_DASH_AS_SIGN.sub("-", re.sub(r"(?<=\w)['’](?=\w)", "", text)))
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")  # invisible: joiners, direction marks
    plain = "".join(_MARK if unicodedata.category(c)[0] == "M" else c for c in text)
    split: list[str] = []
    for m in _PIECE.finditer(plain):
        match m.lastgroup:
            case "number":
                split += _numbers(m, text[m.start("unit") : m.end("unit")])
            case "word":
                word = text[m.start() : m.end()]
                split.append(NUMBERS.get(word, word))
            case kind:
                split.append(_SIGNS[str(kind)])
    around = [None if p in SEPARATORS else p for p in [".", *split, "."]]
    kept = [p for p, before, after in zip(split, around, around[2:], strict=False) if not is_article(p, before, after)]
    return kept if words_of(kept) else split


def _numbers(m: re.Match[str], unit: str) -> list[str]:
    """The pieces of digits with what stands between them: one number, or several with separators ("1,2,3")."""
    digits = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in m["digits"])
    parts = [_canonical(part, m["exponent"] or "") for part in digits.split("/")]
    if None in parts:
        return [(m["sign"] + piece) if i == 0 else piece for i, piece in enumerate(re.split(r"([,/])", digits))]
    number = "/".join(part or "" for part in parts)
    return [("" if number.strip("0") == "" else m["sign"]) + number + unit]


def _canonical(digits: str, exponent: str) -> str | None:
    """One number without separators of thousands and closing zeros; None for a list of several."""
    if _THOUSANDS_BY_DOTS.fullmatch(digits):
        digits = digits.replace(".", "").replace(",", ".")
    elif _ENGLISH.fullmatch(digits):
        digits = digits.replace(",", "")
    elif _DECIMAL_COMMA.fullmatch(digits):
        digits = digits.replace(",", ".")
    elif not _WRITTEN.fullmatch(digits):
        return None
    if digits.count(".") > 1:
        return digits
    if exponent:
        digits = f"{Decimal(digits + exponent):f}"
    whole, point, decimals = digits.partition(".")
    decimals = decimals.rstrip("0")
    return (whole or "0") + (point + decimals if decimals else "")
