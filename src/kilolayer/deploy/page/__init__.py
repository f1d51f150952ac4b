"""The local page of `kilolayer serve`: policies side by side in 3D, with goals set by clicks.

Offers `session.open_session`, which opens the policies, and `serve.PageServer`, which shows them. A
session steps the robots in its own thread; `view` draws them with viser, and `guard` refuses
requests from other pages. This package trains nothing.
"""
