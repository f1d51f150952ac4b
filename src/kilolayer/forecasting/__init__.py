"""Forecast the cost of a run before it is launched: arithmetic, memory, disk and hours.

This package compiles one round of the config's training program and times a part of it; it writes
nothing. It offers `forecast_run`, and the arithmetic of single updates and actions, to the API and
the studies.
"""
