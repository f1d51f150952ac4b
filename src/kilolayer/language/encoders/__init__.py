"""Frozen encoders of sentences and pictures, with one protocol: `kilolayer.language.base.Encoder`.

Offers `open.open_encoder`, which opens MiniLM, a CLIP-like or SigLIP-like model, the package's own
small encoder or a pair of them by name, and `open.choose_encoder`, which trains the own encoder
where it is chosen. `cache.CachedEncoder` keeps features on disk.
"""
