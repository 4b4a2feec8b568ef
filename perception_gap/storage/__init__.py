"""Files that appear whole or not at all, are checked when read, and are written by one command at a time."""
