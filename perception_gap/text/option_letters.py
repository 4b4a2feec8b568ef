"""Which lettered option an answer names: an explicit statement first, a bare letter last, None when in doubt."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from perception_gap.sample import LETTERS
from perception_gap.text.categories import is_article

# A letter on its own: not part of a word, an abbreviation (U.S.), a compound (T-shirt), C++ or C#.
_BEFORE = r"(?<![\w.])(?<!\w['’\-])"
_ALONE = r"(?![\w+#]|['’.\-][^\W_])"
_FILL = r"(?:[\W_]*\b(?:the|option|choice|letter|therefore|most\ likely|[a-z]+ly|boxed|text\w*|math\w*)\b)*"
ANSWER_CUE = r"""\b(?:answer|option|choice)\b(?:\s+(?:to|for)\s[^.:!?\n]{1,60}?)?[\s*_"']*""" + (
    r"(?:\b(?:is|was|must\ be|should\ be|would\ be|will\ be)\b|[:=])"
)
# "the answer is B", "Final answer: (c)", "**Answer:** \boxed{D}"
_CUED = re.compile(rf"{ANSWER_CUE}{_FILL}[\W_]*(?P<letter>[a-z]){_ALONE}", re.IGNORECASE)
# "La réponse est la B", "Antwort: B"; capitals only, since "a" is a preposition there ("a la izquierda").
_CUED_ROMANCE_GERMAN = re.compile(
    r"(?i:\b(?:réponse|antwort|respuesta|resposta|risposta)\b(?:\s+(?:correct[ea]|corretta|final[e]?))?"
    r"\s*(?:\b(?:est|ist|es|é|è)\b|[:=])(?:[\W_]*\b(?:la|le|die|option|opción|lettre|letra)\b)*)"
    rf"[\W_]*(?P<letter>[A-Z]){_ALONE}"
)
# "答案是 B", "正解は C です", "정답은 B 입니다": no blanks between words there, `option_letter` puts them in.
_CUED_EAST_ASIAN = re.compile(
    rf"(?:答案|正解|答え|정답|답)\s*(?:应该)?(?:是|为|は|은|는)?(?:选项?|選項)?[\W_]*(?P<letter>[a-z]){_ALONE}",
    re.IGNORECASE,
)
_EAST_ASIAN = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
_SCRIPT_CHANGE = re.compile(rf"(?<={_EAST_ASIAN})(?=[A-Za-z])|(?<=[A-Za-z])(?={_EAST_ASIAN})")
# The last words of an answer: ".. so B.", ".. leaving C", ".. the best match is D", "A.. wait, B", ".. I mean (b)".
_CONCLUDED = re.compile(
    r"(?i:\b(?:so|thus|hence|therefore|leaving|leaves|wait|correction|I\ mean|best\s\w+\sis)\b"
    r"(?:[\W_]*\b(?:no(?=[,.])|it|it['’]s|is|must\ be|should\ be|only|option)\b)*)"
    rf"[\W_]*(?P<letter>[A-HJ-Z]|(?<=\()[a-z](?=\))){_ALONE}[)*\"'.!\s]*\Z"
)
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
    rf"[(*]*(?P<letter>[A-Z]|(?<=\()[a-z](?=\))){_ALONE}"
)
_BOXED = re.compile(r"\\boxed\{\s*(?:\\(?:text|math)\w*\{)?\s*\(?(?P<letter>[A-Za-z])(?:[.:)][^{}]*)?\s*\}")
_BOLD = re.compile(r"(?P<mark>\*\*|__)\s*\(?(?P<letter>[A-Za-z])(?:[.:)][^*_\n]*)?\s*(?P=mark)")
_LEADING = re.compile(
    r"[\W_]*(?P<letter>[A-Za-z])(?![+#])(?:\s*(?:[.):\]](?!\w)|\n)|(?:[\W_]+(?P=letter))*[\W_]*$|\s+[-–—]\s)"
)
_LISTED = re.compile(r"(?<![\w.])(?P<letter>[A-Za-z])(?:[.):]\s+(?=\w)|(?<=\n[A-Za-z])(?=\n|$))")
_BARE = re.compile(rf"{_BEFORE}(?P<letter>[A-Z]){_ALONE}")
_MENTIONED = re.compile(rf"\b(?:option|choice)\s+[(*]*(?P<letter>[a-z]){_ALONE}", re.IGNORECASE)
_QUESTION = re.compile(r"\W*(?:is|are|was|do|does|can|could|would|should|which|what)\b[^?]*\?", re.IGNORECASE)
_ANSWER_ELEMENT = re.compile(
    r"<answer>(?P<tag>.*?)(?:</answer>|$)|<\|begin_of_box\|>(?P<box>.*?)(?:<\|end_of_box\|>|$)",
    re.DOTALL | re.IGNORECASE,
)
_MARKUP = re.compile(r"</?[a-z][\w\-]*\s*/?>|<\|[^<>|\s]{1,40}\|>")  # "<B>" is a letter
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_EXPLICIT = (_CUED, _CUED_ROMANCE_GERMAN, _CUED_EAST_ASIAN, _CONCLUDED, _STATED, _CHOSEN)
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
    """What an answer or a reference states in the end: never <think> elements, of <answer> elements the last one.

    GLM's box tokens count as an <answer> element. Other tags and special tokens (<lvr1>, <|im_end|>, </s>) are blanks.
    """
    text = re.sub(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", " ", text, flags=re.DOTALL | re.IGNORECASE)
    text = re.split(r"</think(?:ing)?>", text, flags=re.IGNORECASE)[-1]  # opened in the prompt
    answers = [m["tag"] or m["box"] or "" for m in _ANSWER_ELEMENT.finditer(text)]
    return _MARKUP.sub(" ", answers[-1] if answers else text).strip()


def unboxed(text: str) -> str:
    """The content of the last \\boxed{..} of a text, or the text; \\text{..} and \\frac{a}{b} in plain."""
    boxed = _BOX.findall(text)
    inner = boxed[-1] if boxed else text
    inner = re.sub(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"\1/\2", inner)
    return re.sub(r"\\(?:text|math|operatorname)\w*\s*\{([^{}]*)\}", r"\1", inner)


def option_letter(text: str, n_options: int) -> str | None:
    """The letter (capital, among the first `n_options`, at most 26) that an answer names, or None.

    The first of these that finds a letter decides, and None comes out where it finds several:
    1. an explicit answer, the last of them: "the answer is B", "Answer: (C)", "答案是 B", "B is correct", "I choose D",
       as the last words ".. so B" or ".. wait, B", as the last line a mere "B";
    2. a boxed or bold letter: the last \\boxed{B}; **B**;
    3. a leading delimited letter or nothing but the letter, once or repeated: "A. ..", "(b) ..", "D: ..", "c"; a list
       of the options ("A. red B. blue") and an alternative ("(A) or (B)") name none;
    4. a capital standing alone, or "option d", outside of questions ("Is it A?").
    The article "A", the pronoun "I" and letters that are negated ("not B", "B is wrong") never count.
    """
    text = _SCRIPT_CHANGE.sub(" ", unicodedata.normalize("NFKC", final_part(text)))
    allowed = LETTERS[: max(n_options, 0)]
    for rule in (_explicit, _boxed, _leading, _standalone):
        letters = rule(text, allowed)
        if letters:
            return letters.pop() if len(letters) == 1 else None
    return None


def _explicit(text: str, allowed: str) -> set[str]:
    stated = [m for pattern in _EXPLICIT for m in _letters(pattern.finditer(text), allowed)]
    last_line = _last_line(text, allowed)
    if last_line or not stated:
        return last_line
    return _with_joined(max(stated, key=lambda m: m.start("letter")), allowed)


def _last_line(text: str, allowed: str) -> set[str]:
    """The letter that is all of the last line of several, unless it goes on with a list ("A. red", "B. blue", "C")."""
    above, _, line = text.rpartition("\n")
    only = re.fullmatch(r"[\W_]*([A-Za-z])[\W_]*", line)
    if not above or only is None or only[1].upper() not in allowed:
        return set()
    listed = [m["letter"].upper() for m in _LISTED.finditer(f"\n{above}")]
    return {only[1].upper()} if not listed or ord(listed[-1]) + 1 != ord(only[1].upper()) else set()


def _with_joined(m: re.Match[str], allowed: str) -> set[str]:
    """The letter of a match and those joined to it: "A or B" names two and so is no answer."""
    letters = {m["letter"].upper()}
    joined = _JOINED.match(m.string, m.end("letter"))
    while joined:
        letters |= {other["letter"].upper() for other in _letters([joined], allowed)}
        joined = _JOINED.match(m.string, joined.end())
    return letters


def _boxed(text: str, allowed: str) -> set[str]:
    boxed = [m["letter"].upper() for m in _letters(_BOXED.finditer(text), allowed)]
    return {boxed[-1]} if boxed else {m["letter"].upper() for m in _letters(_BOLD.finditer(text), allowed)}


def _leading(text: str, allowed: str) -> set[str]:
    first = _LEADING.match(text)
    if not first or first["letter"].upper() not in allowed:
        return set()
    letter = first["letter"]
    listed = [m["letter"] for m in _letters(_LISTED.finditer(text, first.end("letter")), allowed)]
    following = chr(ord(letter) + 1)
    return _with_joined(first, allowed) | ({following.upper()} if listed[:1] == [following] else set())


def _standalone(text: str, allowed: str) -> set[str]:
    sentences = re.split(r"(?<=[.!?\n])", text)
    text = "".join(s for s in sentences if not _QUESTION.fullmatch(s))
    matches = _letters([*_BARE.finditer(text), *_MENTIONED.finditer(text)], allowed)
    # A bare "I" is the pronoun, in "option I" it is a letter.
    return {m["letter"].upper() for m in matches if m["letter"] != "I" or m.start("letter") > m.start()}


def _letters(matches: Iterable[re.Match[str]], allowed: str) -> list[re.Match[str]]:
    """Those matches whose letter is in range, not negated and no word."""
    return [
        m
        for m in matches
        if m["letter"].upper() in allowed
        and not _REJECTED_BEFORE.search(m.string[max(0, m.start("letter") - _NEAR) : m.start("letter")])
        and not _REJECTED_AFTER.match(m.string, m.end("letter"))
        and not _is_word(m)
    ]


def _is_word(m: re.Match[str]) -> bool:
    """Whether the letter is the article "a" or the pronoun "I": both run on into a sentence."""
    letter, start, end = m["letter"], *m.span("letter")
    after = re.match(r"[*_]*[^\S\n]+[*_\"'“]*(\w+)", m.string[end : end + _NEAR])
    if after is None or letter not in "AaIi" or re.match(_EAST_ASIAN, after[1]) or m.re is _CUED_ROMANCE_GERMAN:
        return False
    before = re.search(r"(\w+)\s+$", m.string[max(0, start - _NEAR) : start])
    return letter in "Ii" or is_article(letter, before and before[1], after[1])
