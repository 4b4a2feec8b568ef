"""Run directories: what they hold, and what made it."""
