"""The embedded scenes as six tasks of lmms-eval (`--include_path` of its command line takes this folder)."""
