"""Words of scripts that put no blanks between them: Chinese, Japanese, Thai, Lao, Khmer, Burmese.

By ICU's word boundaries (Unicode Standard Annex 29 with the dictionaries of CLDR), which icu4py ships in its wheel.
"""

from __future__ import annotations

import re

_UNSPACED = (
    r"\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\uff66-\uff9f\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
UNSPACED = re.compile(f"[{_UNSPACED}]")
# With Korean, whose blanks stand between phrases and are often left out.
ASIAN = re.compile(f"[{_UNSPACED}\uac00-\ud7af\u1100-\u11ff\u3130-\u318f]")
_GAP = re.compile(rf"(?<={ASIAN.pattern}) (?={ASIAN.pattern})")


def word_spans(text: str) -> list[tuple[int, int]]:
    """[start, end) of the words of a text without blanks, in order: together they cover its letters and digits."""
    from icu4py.breakers import WordBreaker

    spans, start = [], 0
    for word in WordBreaker(text, ""):  # its own offsets count UTF-16 units
        end = start + len(word)
        if any(c.isalnum() for c in word):
            spans.append((start, end))
        start = end
    return spans


def closed_up(text: str) -> str:
    """The text without blanks between letters of these scripts, where they mean nothing."""
    return _GAP.sub("", text)
