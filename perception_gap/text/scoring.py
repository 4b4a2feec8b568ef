"""Right or wrong: an answer equals its reference, or states it in a sentence. Strict when in doubt.

Free answers: exact match, as in GQA (Hudson & Manning, arXiv 1902.09506), after VQA's normalisation (see
`normalisation`), of the whole answer or of a phrase that a fixed template frees from it (see `statements`). That a text
contains the reference makes it no answer. Questions with options: the option that the answer chooses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from perception_gap.errors import UsageError
from perception_gap.sample import LETTERS
from perception_gap.text import asian_statements
from perception_gap.text.categories import AUXILIARIES, FUNCTION_WORDS, vocabulary
from perception_gap.text.normalisation import SEPARATORS, pieces, words, words_of
from perception_gap.text.option_letters import ANSWER_CUE, final_part, option_letter, unboxed
from perception_gap.text.segmentation import ASIAN
from perception_gap.text.statements import (
    CONTRASTS,
    NEGATIONS,
    SUBJECTS,
    number_stated,
    phrases,
    place_stated,
    split_at,
)

__all__ = ["chosen_option", "matches", "normalize", "option_letter", "score"]

LONGEST_ITEM = 3  # words of a mere term, one more item of a list
_ALTERNATIVES = vocabulary("or either neither nor")
_DISCOURSE = vocabulary("yes yeah no nope sure well ok okay indeed please sir thanks")
_STATEMENT = re.compile(rf"{ANSWER_CUE}[\s*_:]*(?=\S)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")


def normalize(text: str) -> str:
    """Lower case, NFKC, without markup, punctuation and articles, number words to digits (0–12), single blanks.

    Numbers as `normalisation.pieces` writes them, apostrophes close up ("isn't" → "isnt"), hyphens become blanks. A
    letter "a" ("point a") stays. A text of nothing but articles keeps them.
    """
    return " ".join(words(unboxed(final_part(text))))


def matches(answer: str, reference: str) -> bool:
    """Whether a free answer says what the reference says; markup is taken from both.

    True when both are equal once normalised, or when a phrase that a template frees from a sentence of the answer
    equals the reference ("it is red", "the colour of the star is red", "there are two cats" for "2", "point a is
    closer" for "point a"), and the answer takes it back nowhere: no alternative or list beside it ("red or blue",
    "red, blue"), not denied ("red is not") nor contrasted ("instead of red"), and no question. A reference yes or no
    must open the answer ("yes, it is") and be contradicted nowhere. Of "the answer is .." and <answer> only what
    follows counts. An empty reference matches nothing.
    """
    text, wanted_text = unboxed(final_part(answer)), unboxed(final_part(reference))
    wanted = words(wanted_text)
    if not wanted:
        return bool(wanted_text) and text == wanted_text
    rest = text[_statement_start(text) :]
    statement = _first_sentence(rest) if rest != text else text
    if any(words(part) == wanted for part in (text, rest, statement)):
        return True
    if ASIAN.search(statement + wanted_text) and asian_statements.says(statement, wanted_text):
        return True
    split = pieces(statement)
    if wanted[0] in ("yes", "no") and len(wanted) == 1:
        return _opens_with(split, wanted[0])
    sentences = _sentences(split)
    about = [sentence for sentence in sentences if _runs(sentence, wanted)]
    return any(_states(sentence, wanted) for sentence in about) and all(_asserted(s, wanted) for s in about)


def chosen_option(text: str, options: Sequence[str]) -> int | None:
    """The index of the option that an answer chooses, or None when it names none or several.

    In this order: the answer is an option's text; it names a letter (see `option_letter`; the letters of options such
    as "point a" are no option letters where the whole option stands); exactly one option's words stand in it, not
    denied and not inside a longer option ("blue" in "light blue").
    """
    texts = [words(option) for option in options]
    final = final_part(text)
    whole = words(unboxed(final))
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


def _states(sentence: Sequence[str], wanted: list[str]) -> bool:
    """Whether a template frees the wanted words, whole, from a clause of the sentence or from all of it."""
    clauses = [*split_at(sentence, SEPARATORS), words_of(sentence)]
    return any(
        phrase == wanted or (len(wanted) == 1 and wanted[0] in (number_stated(phrase), place_stated(phrase)))
        for clause in clauses
        for phrase in phrases(clause)
    )


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
    first = next((i + 1 for i in range(start - 1, -1, -1) if pieces[i] in SEPARATORS | {"but"}), 0)
    behind = list(pieces[end : end + 2])
    if behind and behind[0] in AUXILIARIES:
        behind = behind[1:]
    return bool((NEGATIONS | CONTRASTS) & set(pieces[first:start])) or bool(behind and behind[0] in NEGATIONS)


def _asserted(sentence: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether a sentence that contains the wanted words asserts them, and nothing beside them."""
    runs = _runs(sentence, wanted)
    inside = {i for start, end in runs for i in range(start, end)}
    if _ALTERNATIVES & {p for i, p in enumerate(sentence) if i not in inside}:
        return False
    beside = {sentence[i] for start, end in runs for i in (start - 1, end) if 0 <= i < len(sentence)}
    if beside & {"and", "/"} or any(_denied(sentence, *run) for run in runs):
        return False
    clauses = split_at(range(len(sentence)), [i for i, piece in enumerate(sentence) if piece in SEPARATORS])
    return not any(_bare([sentence[i] for i in c]) for c in clauses if not inside & set(c))


def _bare(clause: Sequence[str]) -> bool:
    """Whether a clause is a mere term, one more item of a list, and no sentence or comment."""
    return 0 < len(clause) <= LONGEST_ITEM and not any(
        w in FUNCTION_WORDS or w in _DISCOURSE or w in SUBJECTS or w.endswith("ly") for w in clause
    )


def _opens_with(pieces: Sequence[str], wanted: str) -> bool:
    """Whether an answer begins with a plain yes or no and takes it back nowhere."""
    spoken = set(words_of(pieces))
    against = {"no": {"yes"}, "yes": set(NEGATIONS)}[wanted] | _ALTERNATIVES
    if not pieces or pieces[0] != wanted or spoken & against:
        return False
    return len(pieces) == 1 or pieces[1] in ".," or pieces[1] in SUBJECTS


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
    if any(ASIAN.search(word) for option in options for word in option):  # no blanks to find an option's words by
        return {i for i, option in enumerate(options) if matches(text, " ".join(option))}
    split = pieces(text)
    places = [(i, *run) for i, option in enumerate(options) if option for run in _runs(split, option)]
    longest = [
        (i, start, end)
        for i, start, end in places
        if not any(s <= start and end <= e and e - s > end - start for _, s, e in places)
    ]
    return {i for i, start, end in longest if not _denied(split, start, end)}
