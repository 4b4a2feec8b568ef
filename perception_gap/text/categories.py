"""Words of an answer, their category, and the tokens that spell them (paper 3.2: functional, object, attribute).

Everything is BY WORD: a word has one category however a tokenizer cuts it, and two tokenizers are compared through
the character offsets of the same text.

| category | words |
|---|---|
| functional | stop words: articles, pronouns, auxiliaries, conjunctions, "in", "on", "at", "of", yes, no, not |
| object | nouns and names, also a letter that names something ("point a") |
| attribute | adjectives, and words of place: "above", "left", "behind", "closer", "top", "next" (to) |
| other | verbs with content, numbers, adverbs that are not of place, words the English tagger cannot know |

Known limits: words of place and colour go by the lexicon, whatever they mean in context ("the right answer", "he left",
"an orange for lunch" count as attribute); the categories are for English.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from perception_gap.errors import UsageError
from perception_gap.text.segmentation import UNSPACED, word_spans

CATEGORIES = ("functional", "object", "attribute", "other")
TAGGERS = ("auto", "hanta", "spacy")
SPACY_MODEL = "en_core_web_sm"


def vocabulary(words: str) -> frozenset[str]:
    """A set of words written as one text."""
    return frozenset(words.split())


PLACE_WORDS = vocabulary(
    """above across adjacent ahead alongside around atop away back background behind below beneath beside between
    beyond bottom bottommost center central centre close closer closest diagonal diagonally distant down downward
    downwards east eastern far farther farthest foreground forward front further furthest horizontal horizontally
    inner innermost inside left leftmost left-hand left-most leftward lower lowest middle near nearby nearer nearest
    next north northern opposite outer outermost outside over parallel rear right rightmost right-hand right-most
    rightward sideways south southern top topmost toward towards under underneath up upper uppermost upright upside
    upward upwards vertical vertically west western"""
)
ATTRIBUTE_WORDS = vocabulary(
    """beige black blue bluish brown crimson cyan golden gray green greenish grey khaki lavender magenta maroon navy
    orange pink purple red reddish teal turquoise violet white yellow yellowish
    big bigger biggest broad deep deeper deepest huge high higher highest large larger largest little long longer
    longest low narrow narrower short shorter shortest small smaller smallest tall taller tallest thick thicker thin
    thinner tiny wide wider
    blurry bright brighter brightest curved dark darker darkest dotted empty filled hollow lighter lightest missing
    pale plaid round shiny solid spotted striped transparent"""
)
AUXILIARIES = vocabulary(
    """am is are was were be been being has have had having do does did will would shall should can could may might
    must cannot ought"""
)
CONJUNCTIONS = vocabulary(
    "and or nor but because since as if than that though although unless until when whereas whether while so"
)
_PREPOSITIONS = vocabulary(
    "about after against among at before by during except for from in into like of off on onto out per through to"
    " upon via with within without"
)
_PRONOUNS = vocabulary(
    """i me my mine myself you your yours yourself he him his himself she her hers herself it its itself we us our ours
    ourselves they them their theirs themselves this these those there here who whom whose which what where how why
    something anything nothing everything someone anyone nobody everyone"""
)
_OTHER_FUNCTION_WORDS = vocabulary(
    """a an the some any no not yes each every either neither both all few many much more most less least such own
    same other another only just very too also quite rather then again once ever never even still yet already else
    almost perhaps maybe"""
)
FUNCTION_WORDS = AUXILIARIES | CONJUNCTIONS | _PREPOSITIONS | _PRONOUNS | _OTHER_FUNCTION_WORDS
# HanTa's English tags (CLAWS C5), by prefix; what is listed nowhere (verbs VV*, numbers, adverbs, unknown) is "other".
_FUNCTIONAL_CLAWS = ["AT", "AVQ", "CJ", "DPS", "DT", "EX", "PN", "PO", "PR", "TO", "VB", "VD", "VH", "VM", "XX"]
_CLAWS = {"AJ": "attribute", "NN": "object", "NP": "object", "ZZ": "object"}
_CLAWS |= dict.fromkeys(_FUNCTIONAL_CLAWS, "functional")
_UNIVERSAL = {"ADJ": "attribute", "NOUN": "object", "PROPN": "object"}
_UNIVERSAL |= dict.fromkeys(["ADP", "AUX", "CCONJ", "DET", "PART", "PRON", "SCONJ"], "functional")
_NEVER_AFTER_ARTICLE = AUXILIARIES | CONJUNCTIONS | _PREPOSITIONS | _PRONOUNS
_LONGEST = 50  # HanTa takes seconds for a word of hundreds of letters, which a looping model does write
_LETTERS = frozenset("abcdefghjklmnopqrstuvwxyz")  # "I" is a pronoun
_LABELLED = frozenset({"point", "option", "choice", "letter"})

# Combining marks are no \w for `re`; `words` turns each into this one, which the pattern keeps inside words.
_MARK = "\u0300"
_WORD = re.compile(rf"[^\W_](?:[^\W_]|{_MARK})*(?:['’\-\u2010\u2011](?:[^\W_]|{_MARK})+)*")
_SENTENCE = re.compile(r".+?(?:[.!?](?=\s)|[。！？।]|$)", re.MULTILINE)
_CLITIC = re.compile(r"'(?:s|re|ve|ll|d|m)$")


@dataclass(frozen=True)
class Word:
    """`text` stands at characters [start, end) of the text it was split from; `category` is one of CATEGORIES."""

    text: str
    start: int
    end: int
    category: str


def is_article(word: str, before: str | None, after: str | None) -> bool:
    """Whether a word (any case) is an article between its neighbours (None: end of the text or punctuation).

    "a" is a letter rather than an article after "point" or "option", at an end, or before what no article precedes
    ("point a is closer", "a or b").
    """
    word = word.lower()
    if word != "a":
        return word in ("an", "the")
    if after is None or after.lower() in _NEVER_AFTER_ARTICLE:
        return False
    return before is None or before.lower() not in _LABELLED


def words(text: str, tagger: str = "auto") -> list[Word]:
    """The words of a text in order, none overlapping: letters and digits with inner apostrophes and hyphens.

    Where a script puts no blanks between words (Chinese, Japanese, Thai ..), by ICU's dictionaries.

    `tagger`: "hanta" (comes with the package), "spacy" (needs en_core_web_sm), "auto" (spaCy where it loads, else
    HanTa). The lexicon of this file goes before the tagger. UsageError for a tagger that is unknown or cannot load.
    """
    tag = _tagger(tagger)[1]
    plain = "".join(_MARK if unicodedata.category(c)[0] == "M" else c for c in text)
    split = []
    for sentence in _SENTENCE.finditer(plain):  # the taggers read one sentence at a time
        spans = [span for m in _WORD.finditer(plain, *sentence.span()) for span in _parted(text, *m.span())]
        split += [
            Word(text[start:end], start, end, category)
            for (start, end), category in zip(spans, _categories(text, spans, tag), strict=True)
        ]
    return split


def _parted(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The words of what stands between two blanks or marks."""
    if not UNSPACED.search(text, start, end):
        return [(start, end)]
    return [(start + a, start + b) for a, b in word_spans(text[start:end])]


def tagger_name(tagger: str = "auto") -> str:
    """What `words` tags with, version included, for a run's provenance: "auto" depends on what is installed."""
    return _tagger(tagger)[0]


def tokens_of_words(words: Sequence[Word], token_spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """For each word (in order, as `words` gives them) the indices of its tokens; every token in at most one word.

    A token belongs to the word that its span [start, end) overlaps most, the first of equals; one that overlaps no
    word (punctuation, blanks, special tokens, the leading bytes of a character) belongs to none.
    """
    ends = [word.end for word in words]
    members: list[list[int]] = [[] for _ in words]
    for token, (start, end) in enumerate(token_spans):
        best, most = -1, 0
        for i in range(bisect_right(ends, start), len(words)):
            if words[i].start >= end:
                break
            overlap = min(end, words[i].end) - max(start, words[i].start)
            if overlap > most:
                best, most = i, overlap
        if best >= 0:
            members[best].append(token)
    return members


def token_spans(tokenizer: Any, ids: Sequence[int]) -> list[tuple[int, int]]:
    """Where each token stands in `tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)`.

    One (start, end) in characters per id; each starts where the one before ends, so together they cover the text.
    Special tokens are empty; of the tokens that spell one character by bytes, all but the last are. Works for any
    tokenizer by decoding every prefix, hence quadratic: about a second for 2,000 tokens.
    """
    ids = list(ids)
    text = _decode(tokenizer, ids)
    spans, end = [], 0
    for count in range(1, len(ids) + 1):
        # An unfinished character decodes to U+FFFD and thus ends the part that prefix and text have in common.
        start, end = end, max(end, _common_prefix(_decode(tokenizer, ids[:count]), text))
        spans.append((start, end))
    return spans


def _decode(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _common_prefix(a: str, b: str) -> int:
    if b.startswith(a):
        return len(a)
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _categories(text: str, spans: list[tuple[int, int]], tag: Callable[[list[str]], list[str]]) -> list[str]:
    """The category of every word of one sentence."""
    if not spans:
        return []
    forms = [unicodedata.normalize("NFKC", text[a:b]).replace("’", "'") for a, b in spans]
    # Neighbours count only across blanks: in "point a, the star" nothing follows "a" directly.
    joined = [text[a[1] : b[0]].isspace() for a, b in pairwise(spans)]
    before = [None, *(form if near else None for form, near in zip(forms, joined, strict=False))]
    after = [*(form if near else None for form, near in zip(forms[1:], joined, strict=False)), None]
    label = [
        len(form) == 1 and form.lower() in _LETTERS and not is_article(form, *near)
        for form, *near in zip(forms, before, after, strict=True)
    ]
    # "point a" names one thing, though "it point" reads as a verb to a tagger.
    noun = [
        here or (following and form.lower() in _LABELLED)
        for form, here, following in zip(forms, label, [*label[1:], False], strict=True)
    ]
    # A label "a" would read as an article and turn the noun before it into a verb: the tagger sees "b".
    stems = ["b" if named else _CLITIC.sub("", form)[:_LONGEST] for form, named in zip(forms, label, strict=True)]
    return [
        "object" if named else _lexicon(form) or tagged
        for form, named, tagged in zip(forms, noun, tag(stems), strict=True)
    ]


def _lexicon(form: str) -> str | None:
    """The category that does not wait for a tagger, or None."""
    form = form.lower()
    stem = _CLITIC.sub("", form)
    if form in PLACE_WORDS or form in ATTRIBUTE_WORDS or form.split("-")[-1] in ATTRIBUTE_WORDS:
        return "attribute"
    if stem in FUNCTION_WORDS or form.endswith("n't"):
        return "functional"
    if not any(c.isalpha() and unicodedata.name(c, "").startswith("LATIN") for c in form):
        return "other"
    return None


@functools.cache
def _tagger(name: str) -> tuple[str, Callable[[list[str]], list[str]]]:
    """Name with version, and the function from the words of a sentence to their categories."""
    if name not in TAGGERS:
        raise UsageError(f"unknown tagger {name!r}: expected one of {', '.join(TAGGERS)}")
    if name == "hanta":
        return _hanta()
    try:
        return _spacy()
    except (ImportError, OSError) as error:  # spaCy raises OSError for a model that is not installed
        if name == "auto":
            return _tagger("hanta")
        raise UsageError(
            f"tagger 'spacy' cannot load {SPACY_MODEL} ({error}): pip install spacy, "
            f"then python -m spacy download {SPACY_MODEL}, or use tagger 'hanta'"
        ) from error


def _hanta() -> tuple[str, Callable[[list[str]], list[str]]]:
    from importlib.metadata import version

    from HanTa import HanoverTagger

    # HanTa prefers a file of that name in the working directory: the full path excludes that.
    model = HanoverTagger.HanoverTagger(str(Path(HanoverTagger.__file__).parent / "morphmodel_en.pgz"))

    def tag(sentence: list[str]) -> list[str]:
        tags = [tag for _, _, tag in model.tag_sent(sentence)]
        return [next((_CLAWS[tag[:n]] for n in (3, 2) if tag[:n] in _CLAWS), "other") for tag in tags]

    return f"HanTa {version('HanTa')}", tag


def _spacy() -> tuple[str, Callable[[list[str]], list[str]]]:
    import spacy
    from spacy.tokens import Doc

    model = spacy.load(SPACY_MODEL, disable=["parser", "ner", "lemmatizer"])

    def tag(sentence: list[str]) -> list[str]:
        return [_UNIVERSAL.get(token.pos_, "other") for token in model(Doc(model.vocab, words=sentence))]

    return f"spaCy {spacy.__version__} {SPACY_MODEL} {model.meta['version']}", tag
