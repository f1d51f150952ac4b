"""Reads run directories and says what they show: curves, diagnostics of depth, statistics.

Never trains. Offers `load.Run`, comparisons of groups of runs, verdicts with intervals.
"""
