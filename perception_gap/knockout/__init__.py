"""Attention knockout: which image tokens does an answer need? (Geva et al. 2023, arXiv 2304.14767)

`conditions` names what is done, `rows` and `tokens` say whose attention is cut from which image tokens, `measure` reads
and generates under every cut (`reading`: how probable an answer is), `table` keeps a row a sample and condition,
`summary` has the intervals.
"""

from perception_gap.knockout.conditions import CONDITIONS, Knockout

__all__ = ["CONDITIONS", "Knockout"]
