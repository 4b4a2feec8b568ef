"""A model opened: its files, its processor, its family (roles and places of tokens), its endings and context."""
