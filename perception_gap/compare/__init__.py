"""`gapcheck compare`: models that were never trained together, on the same pictures, questions and text.

    OUT/  compare.json  summary.json  pairs.parquet  words.parquet  MODEL/ (a run of `analyze`)  teacher/  data/

`run.compare_models` makes it, `budget` decides what every model gets to see, `pairs` measures how far two gazes lie
apart, `summary` puts it into numbers with intervals.
"""
