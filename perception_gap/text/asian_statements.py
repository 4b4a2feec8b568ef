"""What Chinese, Japanese, Korean and Thai answers state, by templates on the text: these answers have no English words.

A phrase counts if what stands before it is a copula, a topic or a cue ("这是", "答えは", "답은", "คือ") and what stands
behind it an ending ("的", "です", "입니다", "ครับ"); never one that is denied ("不是红色", "赤ではない").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from perception_gap.text.normalisation import words
from perception_gap.text.segmentation import closed_up

# Not at "、", which makes lists: "红色、蓝色".
_CLAUSE_END = re.compile(r"[。!?,;\n।]|\.(?=\s|$)")
_QUESTION = re.compile(r"(?:吗|嗎|呢|ですか|ますか|까요?)\s*$")
_OPENER = re.compile(r"(?:はい|いいえ|ええ|うん|是的|好的|对的?|對的?|不是?|嗯|네|예|아니[요오]|ใช่|ไม่ใช่)(?:[、\s]+|$)")
# What a phrase may follow.
_CUE = re.compile(
    r"[是为為有像呈在]|位于|位於|叫做?|等于|等於|写着|寫著|:"
    r"|ではなく|じゃなく|[はが]"
    r"|(?:이|가)?\s*아니라\s+|(?<=[\uac00-\ud7af])[은는이가]\s+"
    r"|คือ|เป็น|มี|อยู่"
)
_DENIED = re.compile(r"(?:[不没沒未非](?:太|再|会|會|可能|应该|應該|一定|能|就)?|ไม่(?:ใช่|ได้)?)$")
_ALTERNATIVE = re.compile(r"或|还是|還是|[还還]$|要么|要麼|是.*也|หรือ")
_ENDING = re.compile(
    r"(?:[的了吧呢啊哦呀]+"
    r"|の?(?:です|でした|だ|だった|である|でしょう|だと思います|と思います|になります|となります|のようです|に見えます"
    r"|に?あります|に?います)(?:よ?ね|よ)?"
    r"|(?:입니다|이에요|예요|이예요|이다|이요|인 것 같(?:습니다|아요)|(?:으)?로 보입니다|에 있습니다)"
    r"|(?:นะ)?(?:ครับ|ค่ะ|คะ))$"
)
# The subject is the answer where the predicate only says so, or compares: "红色是正确答案", "点a更近", "点aの方が近い".
_SUBJECT = re.compile(
    r"(?:才?是|为)(?:正确|正確|对的|對的|答案)|[更最比]|(?:の(?:方|ほう))?[がは](?:正解|正し|答え|近|遠|暗|明る|大き|小さ|一番|最も|より)"
    r"|[이가]\s+(?:정답|맞|더|가장)"
)
_DENIAL = re.compile(r"不是|并非|並非|ではな|じゃな|でない|ではありませ|じゃありませ|違い|아니|아닙|ไม่")
_MARKED = re.compile(r"[是在有为為的了很也因所这那它不没]|[はがをにでともの]|[은는이가을를]\s|다$|คือ|เป็น|ไม่|อยู่")
_LONGEST_ITEM = 8  # letters of a mere term, one more item of a list
_NUMERALS = {**{c: str(i) for i, c in enumerate("零一二三四五六七八九十")}, "〇": "0", "两": "2", "兩": "2"}
_COUNTED = re.compile(
    r"(?P<digits>\d+)(?![\d.,万萬千百億亿十点點分半만천백억])\D*"
    rf"|(?P<numeral>[{''.join(_NUMERALS)}])[个個只隻匹人つ枚台本頭头名位条條張张辆輛种種]\D*"
)


def says(answer: str, reference: str) -> bool:
    """Whether one clause of an answer states the reference, and no other denies it or adds an alternative."""
    wanted = _key(reference)
    clauses = list(_clauses(unicodedata.normalize("NFKC", answer)))
    stated = [any(_is(phrase, wanted) for phrase in _phrases(clause)) for clause in clauses]
    others = [c for c, here in zip(clauses, stated, strict=True) if not here and not _OPENER.fullmatch(c)]
    return any(stated) and not any(_is_item(c) or (wanted in _key(c) and _DENIAL.search(c)) for c in others)


def _clauses(text: str) -> Iterator[str]:
    """The clauses but questions; an opening yes or no is one."""
    start = 0
    for stop, mark in [*((m.span(), m[0]) for m in _CLAUSE_END.finditer(text)), ((len(text), len(text)), "")]:
        clause, start = text[start : stop[0]].strip(), stop[1]
        if not clause or mark == "?" or _QUESTION.search(clause):
            continue
        opener = _OPENER.match(clause)
        if opener:
            yield opener[0].strip("、 ")
        if not opener or opener.end() < len(clause):
            yield clause[opener.end() if opener else 0 :]


def _phrases(clause: str) -> Iterator[str]:
    starts = [0]
    for cue in _CUE.finditer(clause):
        before = clause[: cue.start()]
        if not _DENIED.search(before) and not _ALTERNATIVE.search(before):
            starts.append(cue.end())
    for start in starts:
        phrase = clause[start:]
        yield phrase
        ending = _ENDING.search(phrase)
        if ending:
            yield phrase[: ending.start()]
    for subject in _SUBJECT.finditer(clause):
        before = clause[: subject.start()]
        if not _DENIED.search(before):
            yield before


def _is(phrase: str, wanted: str) -> bool:
    key = _key(phrase)
    if key == wanted:
        return True
    counted = _COUNTED.fullmatch(key)
    return counted is not None and wanted == (counted["digits"] or _NUMERALS.get(counted["numeral"]))


def _key(text: str) -> str:
    key = closed_up(" ".join(words(text)))
    return _NUMERALS.get(key, key)


def _is_item(clause: str) -> bool:
    return len(clause) <= _LONGEST_ITEM and not _MARKED.search(clause)
