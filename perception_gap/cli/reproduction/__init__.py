"""`gapcheck reproduce`: what each table and figure of the paper consists of, what it needs, and doing it."""
