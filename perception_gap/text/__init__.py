"""Words of an answer, what they state, and whether that is right."""
