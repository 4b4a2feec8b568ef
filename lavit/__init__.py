"""Training students to look where their teacher looks: traces, latent tokens, gating, losses."""
