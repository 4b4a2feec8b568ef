"""Attention of a running model: rows of chosen queries over chosen keys, gated or read, layer by layer."""
