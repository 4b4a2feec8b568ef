"""Tables, figures, attention overlays and pages from the results of runs."""
