"""A script without a main guard."""

import sys

sys.exit("usage: a_script.py FILE")
