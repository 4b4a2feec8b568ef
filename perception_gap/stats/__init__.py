"""Intervals and exact tests: `Estimate` is what every statistic is reported as, `side` the only rule of claims."""
