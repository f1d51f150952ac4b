"""Choose the progress display."""

import jax

from kilolayer.runtime.progress import LiveDisplay, ProgressDisplay, SilentDisplay


def make_display(progress: bool) -> ProgressDisplay:
    """A live display if `progress` is set and this is the first process, else a silent one."""
    return LiveDisplay() if progress and jax.process_index() == 0 else SilentDisplay()
