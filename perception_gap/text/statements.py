"""What a sentence states: the phrases that may be the answer, told from the words around them by fixed templates.

No parser and no model: a phrase counts only if a template frees it whole ("it is ..", "the colour of the star is ..",
"答案是 .."), so that "orange" is no answer of "the missing shape is an orange triangle".
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from typing import TypeVar

from perception_gap.text.categories import AUXILIARIES, PLACE_WORDS, vocabulary

T = TypeVar("T")

NEGATIONS = vocabulary(
    """not no never neither nor none without cannot isnt arent wasnt werent doesnt dont didnt cant couldnt wouldnt
    shouldnt hasnt havent hadnt wont aint"""
)
# What follows these is what the answer does not say: "closer than point b", "blue instead of red".
CONTRASTS = vocabulary("than instead except unlike opposite")
SUBJECTS = vocabulary("it there they he she this that these those i we you its theres")

_VERBS = AUXILIARIES | vocabulary(
    """looks look appears appear seems seem says say reads read shows show displays display depicts depict means mean
    equals equal remains wears wear holds hold contains contain
    est es ist é è sont son sind sono это"""
)
_PERSONS = vocabulary("i we you he she it they")  # "this" and "that" may stand before a noun: "that red star"
_CONTRACTED = vocabulary("its thats theres heres whats hes shes theyre im cest")
_OPENERS = vocabulary(
    """yes yeah no nope sure well ok okay indeed so thus therefore hence then maybe perhaps actually clearly certainly
    definitely probably possibly likely apparently obviously mostly mainly simply just really finally only"""
)
_CLAUSE_STARTS = vocabulary(
    "because since as while although though but which who whom whose that where when if so whereas"
)
_ENDS_OF_PREDICATE = CONTRASTS | NEGATIONS | {"rather"}
_BEFORE_PHRASE = vocabulary(
    """in on at to from being called named labeled labelled titled colored coloured
    wearing holding showing eating drinking riding playing using carrying driving pointing facing looking going making
    doing reading saying watching
    un une le la les el los las una der die das den ein eine einen il lo gli um uma"""
)
_AFTER_PHRASE = vocabulary("now here there today too overall")
_PICTURES = vocabulary("image picture photo photograph scene")
# Words with which the predicate only repeats the question, so that its answer is the subject: "point a is closer".
_REPEATED = (
    PLACE_WORDS
    | _BEFORE_PHRASE
    | vocabulary(
        """more most less least bigger biggest darker darkest lighter lightest larger largest smaller smallest taller
        tallest shorter shortest longer longest older oldest younger youngest brighter brightest missing different odd
        correct right answer one color colour shape visible shown present sitting standing
        lying walking running of with"""
    )
)
_NO_COUNT = vocabulary("hundred thousand million billion trillion dozen half quarter and point")


def phrases(clause: Sequence[str]) -> Iterator[list[str]]:
    """What one clause, as normalised words without separators, may state: all of it, its predicate, its subject."""
    words = list(clause)
    yield words
    while len(words) > 1 and words[0] in _OPENERS:
        words = words[1:]
        yield words
    for part in split_at(words, _CLAUSE_STARTS):
        verbs = [i for i, word in enumerate(part) if word in _VERBS]
        starts = {0, *(i + 1 for i in verbs)}
        if part and part[0] in _CONTRACTED:
            starts.add(1)
        if len(part) > 2 and part[0] in _PERSONS and part[1] not in _ENDS_OF_PREDICATE:
            starts.add(2)
        for start in starts:
            yield from _freed(part[start:])
        if verbs and verbs[0] > 0 and _only_repeats(part[verbs[0] + 1 :]):
            yield part[: verbs[0]]


def number_stated(phrase: Sequence[str]) -> str | None:
    """The number of a phrase that counts or measures ("2 cats", "87 of them"); None for two numbers and "2 million"."""
    numbers = [word for word in phrase if word.lstrip("-")[:1].isdigit()]
    if not phrase or numbers != [phrase[0]] or (len(phrase) > 1 and _NO_COUNT & set(phrase[1:])):
        return None
    return numbers[0]


def place_stated(phrase: Sequence[str]) -> str | None:
    """The word of place at the head of a phrase: "left" of "left of the star"."""
    return phrase[0] if len(phrase) > 2 and phrase[0] in PLACE_WORDS and phrase[1] == "of" else None


def _only_repeats(predicate: Sequence[str]) -> bool:
    return bool(predicate) and predicate[0] not in NEGATIONS and predicate[0] in _REPEATED


def _freed(predicate: list[str]) -> Iterator[list[str]]:
    """A predicate up to a negation or contrast, and what is left of it without words that belong to no answer."""
    end = next((i for i, word in enumerate(predicate) if word in _ENDS_OF_PREDICATE), len(predicate))
    phrase = predicate[:end]
    while phrase:
        yield phrase
        if len(phrase) > 1 and phrase[-1] in _AFTER_PHRASE:
            yield phrase[:-1]
        if len(phrase) > 2 and phrase[-1] in _PICTURES:
            start = next((i for i in range(len(phrase) - 2, 0, -1) if phrase[i] in ("in", "of")), None)
            if start is not None and len(phrase) - start <= 3:
                yield phrase[:start]
        if phrase[-2:] in (["in", "color"], ["in", "colour"]):
            yield phrase[:-2]
        phrase = phrase[1:] if phrase[0] in _BEFORE_PHRASE or phrase[0] in _OPENERS else []


def split_at(values: Iterable[T], marks: Container[T]) -> list[list[T]]:
    """The values between the marks, which are left out."""
    parts: list[list[T]] = [[]]
    for value in values:
        if value in marks:
            parts.append([])
        else:
            parts[-1].append(value)
    return parts
