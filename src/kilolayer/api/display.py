"""Progress, where someone looks."""

import jax

from kilolayer.runtime.progress import LiveDisplay, ProgressDisplay, Silent


def shown(progress: bool) -> ProgressDisplay:
    """A live display in the first process if progress is wanted."""
    return LiveDisplay() if progress and jax.process_index() == 0 else Silent()
