"""Attention knockout: which image tokens does an answer need? (Geva et al. 2023, arXiv 2304.14767)

`conditions` names what is done, `rows` and `tokens` say whose attention is cut from which image tokens, `batch` reads
and generates under every cut (`reading`: how probable an answer is), `table` keeps a row a sample and condition,
`summary` has the intervals.
"""
