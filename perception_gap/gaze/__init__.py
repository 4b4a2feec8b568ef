"""What one model does with one batch: answer, then show where it looked while saying one given text."""
