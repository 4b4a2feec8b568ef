"""`python -m perception_gap` is `gapcheck`."""

from perception_gap.cli import main

main()
