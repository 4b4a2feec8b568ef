"""Hostile input for every command, seeded: `python -m tests.fuzz --cases 1000 --seed 0`."""
