"""The ring buffer, the hindsight goals sampled from it, and files of recorded trajectories.

Offers `buffer.Buffer` with pure functions on it, `hindsight.sample`, which returns the `Batch` that
agents learn from, and readers and writers of OGBench's layout (`dataset`) and of Minari's format
(`minari_format`).
"""
