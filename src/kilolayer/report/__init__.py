"""Write a run, a study or a comparison as one HTML file.

This package reads runs through `analysis` and draws with `render`.
"""
