"""`gapcheck analyze`: a model measured alone or against its teacher, from samples to a summary."""
