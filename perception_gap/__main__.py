"""`python -m perception_gap` is `gapcheck`, also under torchrun."""

import os
import sys

# Python puts the current folder first, where a `benchmarks` or `reports` of the user's would be taken for ours. A
# checkout that is not installed has nothing but that folder.
_HERE = os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir))
if not sys.flags.safe_path and os.path.realpath(sys.path[0]) == os.path.realpath(os.getcwd()) != _HERE:
    del sys.path[0]

from perception_gap.cli import main  # noqa: E402

main()
