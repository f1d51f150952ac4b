"""Write a run, a study, a comparison, a language policy or latencies as one HTML file.

This package reads runs through `analysis` and draws with `render`.
"""
