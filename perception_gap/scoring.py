"""Right or wrong: normalised match of short answers, and the option that an answer chooses. Strict when in doubt."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from perception_gap.categories import AUXILIARIES, FUNCTION_WORDS, is_article, vocabulary
from perception_gap.errors import UsageError
from perception_gap.option_letters import ANSWER_CUE, final_part, option_letter
from perception_gap.sample import LETTERS

__all__ = ["chosen_option", "matches", "normalize", "option_letter", "score"]

_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
NUMBERS = {name: str(value) for value, name in enumerate(_NAMES)}
LONGEST_PHRASE = 3  # words of a reference that may stand inside a longer answer
NEGATIONS = vocabulary(
    """not no never neither nor none without cannot isnt arent wasnt werent doesnt dont didnt cant couldnt wouldnt
    shouldnt hasnt havent hadnt wont aint"""
)
# What follows these is what the answer does not say: "closer than point b", "blue instead of red".
_CONTRASTS = vocabulary("than instead except unlike opposite")
_ALTERNATIVES = vocabulary("or either neither nor")
_DISCOURSE = vocabulary("yes yeah no nope sure well ok okay indeed please sir thanks")
_SUBJECTS = vocabulary("it there they he she this that these those i we you its theres")
_SEPARATORS = frozenset(".?,/")

_MARK = "\u0300"  # stands for any combining mark, which `re` does not count among word characters
_PIECE = re.compile(
    rf"(?P<number>(?<![^\W_])-?\d+(?:,\d{{3}})*(?:\.\d+)?(?![^\W_]|{_MARK}))"
    rf"|(?P<word>(?:[^\W_]|{_MARK})+)|(?P<and>&)|(?P<question>\?)|(?P<end>\.(?=\s|$)|[!\n])"
    r"|(?P<slash>/|(?<=\d)\s?[-–—]\s?(?=\d))|(?P<comma>[,;:()\[\]{}|–—]|(?<=\s)-(?=\s))"
)
_STATEMENT = re.compile(rf"{ANSWER_CUE}[\s*_:]*(?=\S)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")


def normalize(text: str) -> str:
    """Lower case, NFKC, without punctuation and articles, number words to digits (0–12), single blanks (as in VQA).

    Decimal points and signs of numbers stay, thousands commas go, apostrophes close up ("isn't" → "isnt"), hyphens
    become blanks. A letter "a" ("point a") stays. A text of nothing but articles keeps them.
    """
    return " ".join(_words(_pieces(text)))


def matches(answer: str, reference: str) -> bool:
    """Whether a free answer says what the reference says.

    True when both are equal once normalised, or when the reference has at most 3 words and they stand together in the
    answer, asserted: in no alternative or list ("red or blue", "red and blue", "red/blue", "red, blue"), not denied
    ("not red", "red is not") nor contrasted ("closer than point b", "instead of red"), and in no question. A
    reference yes or no must open the answer ("yes, it is") and be contradicted nowhere. Of "the answer is .." and
    <answer> only what follows counts. The subject of a sentence is not told from its predicate: "the red star is
    small" matches "red". An empty reference matches nothing.
    """
    wanted = _words(_pieces(reference))
    if not wanted:
        return bool(reference.strip()) and answer.strip() == reference.strip()
    final = final_part(answer)
    rest = final[_statement_start(final) :]
    statement = _first_sentence(rest) if rest != final else final
    if any(_words(_pieces(part)) == wanted for part in (answer, final, rest, statement)):
        return True
    if len(wanted) > LONGEST_PHRASE:
        return False
    pieces = _pieces(statement)
    if wanted[0] in ("yes", "no") and len(wanted) == 1:
        return _opens_with(pieces, wanted[0])
    verdicts = [_asserted(sentence, wanted) for sentence in _sentences(pieces) if _runs(sentence, wanted)]
    return bool(verdicts) and all(verdicts)


def chosen_option(text: str, options: Sequence[str]) -> int | None:
    """The index of the option that an answer chooses, or None when it names none or several.

    In this order: the answer is an option's text; it names a letter (see `option_letter`; the letters of options such
    as "point a" are no option letters where the whole option stands); exactly one option's words stand in it, not
    denied and not inside a longer option ("blue" in "light blue").
    """
    texts = [_words(_pieces(option)) for option in options]
    final = final_part(text)
    whole = _words(_pieces(final))
    same = [i for i, option in enumerate(texts) if option and option == whole]
    if len(same) == 1:
        return same[0]
    letter = option_letter(_without_lettered_options(final, options), len(options))
    if letter:
        return LETTERS.index(letter)
    start = _statement_start(final)
    for part in (_first_sentence(final[start:]), final) if start else (final,):
        named = _named(part, texts)
        if named:
            return named.pop() if len(named) == 1 else None
    return None


def score(text: str, reference: str, options: Sequence[str] = ()) -> bool:
    """Whether an answer is right: with options, it chooses the one that the reference names; without, `matches`.

    The reference may be a letter, an option's text, or a sentence that contains exactly one option. UsageError when
    it names no option or several: such a sample has no right answer.
    """
    if not options:
        return matches(text, reference)
    right = chosen_option(reference, options)
    if right is None:
        raise UsageError(
            f"reference {reference!r} does not name exactly one of the options {list(options)}: "
            "give a letter, an option's text or a sentence with one option in it"
        )
    return chosen_option(text, options) == right


def _pieces(text: str) -> list[str]:
    """Normalised words, and between them "." or "?" (sentence), "," (clause) or "/" (alternatives, ranges)."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(r"(?<=\w)['’](?=\w)", "", text)
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")  # invisible: joiners, direction marks
    plain = "".join(_MARK if unicodedata.category(c)[0] == "M" else c for c in text.replace("−", "-"))
    pieces: list[str] = []
    for m in _PIECE.finditer(plain):
        word = text[m.start() : m.end()]
        match m.lastgroup:
            case "number":
                pieces.append(m[0].replace(",", ""))
            case "word":
                pieces.append(NUMBERS.get(word, word))
            case kind:
                pieces.append({"and": "and", "question": "?", "end": ".", "slash": "/", "comma": ","}[str(kind)])
    around = [None if p in _SEPARATORS else p for p in [".", *pieces, "."]]
    kept = [p for p, before, after in zip(pieces, around, around[2:], strict=False) if not is_article(p, before, after)]
    return kept if _words(kept) else pieces


def _words(pieces: Sequence[str]) -> list[str]:
    return [p for p in pieces if p not in _SEPARATORS]


def _sentences(pieces: Sequence[str]) -> list[list[str]]:
    """The sentences' pieces, questions left out: "Is it red? No." says nothing of red being right."""
    sentences: list[list[str]] = []
    current: list[str] = []
    for piece in [*pieces, "."]:
        if piece not in ".?":
            current.append(piece)
            continue
        if current and piece == ".":
            sentences.append(current)
        current = []
    return sentences


def _statement_start(text: str) -> int:
    """Where the text after the last "the answer is" or "answer:" begins; 0 without one."""
    ends = [m.end() for m in _STATEMENT.finditer(text)]
    return ends[-1] if ends else 0


def _first_sentence(text: str) -> str:
    end = _SENTENCE_END.search(text)
    return text[: end.start()] if end else text


def _runs(pieces: Sequence[str], wanted: Sequence[str]) -> list[tuple[int, int]]:
    """[start, end) in `pieces` of every place where the wanted words follow each other, commas aside."""
    at = [i for i, p in enumerate(pieces) if p not in ".?/,"]
    n = len(wanted)
    return [
        (at[k], at[k + n - 1] + 1)
        for k in range(len(at) - n + 1)
        if [pieces[i] for i in at[k : k + n]] == list(wanted)
        and not {".", "?", "/"} & set(pieces[at[k] : at[k + n - 1] + 1])
    ]


def _denied(pieces: Sequence[str], start: int, end: int) -> bool:
    """Whether the clause negates or contrasts the run [start, end): before it, or right behind it ("red is not")."""
    first = next((i + 1 for i in range(start - 1, -1, -1) if pieces[i] in _SEPARATORS), 0)
    behind = list(pieces[end : end + 2])
    if behind and behind[0] in AUXILIARIES:
        behind = behind[1:]
    return bool((NEGATIONS | _CONTRASTS) & set(pieces[first:start])) or bool(behind and behind[0] in NEGATIONS)


def _asserted(sentence: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether a sentence that contains the wanted words asserts them, and nothing beside them."""
    runs = _runs(sentence, wanted)
    inside = {i for start, end in runs for i in range(start, end)}
    if _ALTERNATIVES & {p for i, p in enumerate(sentence) if i not in inside}:
        return False
    beside = {sentence[i] for start, end in runs for i in (start - 1, end) if 0 <= i < len(sentence)}
    if beside & {"and", "/"} or any(_denied(sentence, *run) for run in runs):
        return False
    clauses: list[list[int]] = [[]]
    for i, piece in enumerate(sentence):
        if piece in _SEPARATORS:
            clauses.append([])
        else:
            clauses[-1].append(i)
    return not any(_bare([sentence[i] for i in c]) for c in clauses if not inside & set(c))


def _bare(clause: Sequence[str]) -> bool:
    """Whether a clause is a mere term, one more item of a list, and no sentence or comment."""
    return 0 < len(clause) <= LONGEST_PHRASE and not any(
        w in FUNCTION_WORDS or w in _DISCOURSE or w in _SUBJECTS or w.endswith("ly") for w in clause
    )


def _opens_with(pieces: Sequence[str], wanted: str) -> bool:
    """Whether an answer begins with a plain yes or no and takes it back nowhere."""
    said = set(_words(pieces))
    against = {"no": {"yes"}, "yes": set(NEGATIONS)}[wanted] | _ALTERNATIVES
    if not pieces or pieces[0] != wanted or said & against:
        return False
    return len(pieces) == 1 or pieces[1] in ".," or pieces[1] in _SUBJECTS


def _without_lettered_options(text: str, options: Sequence[str]) -> str:
    """The text with options such as "point a" made neutral, so that their letters are not taken for an option's."""
    for option in options:
        parts = option.split()
        if len(parts) > 1 and any(len(part) == 1 and part.isalpha() for part in parts):
            phrase = r"\s+".join(map(re.escape, parts))
            text = re.sub(rf"(?<!\w){phrase}(?!\w)", "thing", text, flags=re.IGNORECASE)
    return text


def _named(text: str, options: Sequence[Sequence[str]]) -> set[int]:
    """Indices of the options whose words stand in the text, not denied and not within a longer option's words."""
    if all(len(option) == 1 and option[0] in ("yes", "no") for option in options):
        return {i for i, option in enumerate(options) if matches(text, option[0])}
    pieces = _pieces(text)
    found = [(i, *run) for i, option in enumerate(options) if option for run in _runs(pieces, option)]
    longest = [
        (i, start, end)
        for i, start, end in found
        if not any(s <= start and end <= e and e - s > end - start for _, s, e in found)
    ]
    return {i for i, start, end in longest if not _denied(pieces, start, end)}
