"""A run, a study or a comparison as one HTML file.

Reads through `analysis` and draws with `render`.
"""
