"""Read run directories: curves, depth diagnostics and statistics.

This package never trains. It offers `load.Run`, comparisons of groups of runs, and verdicts with
intervals.
"""
