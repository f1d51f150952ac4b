"""`python -m kilolayer` is the `kilolayer` command."""

from kilolayer.cli import main

main()
