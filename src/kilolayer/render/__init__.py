"""Pictures and films of tasks: scenes, ground markers, frames, video files.

This package depends on tasks, physics and evaluation, not on runs, reports or policies. The report,
the Gymnasium environments and the local page use `make_scene`, `render_start`, `render_frames` and
`write_video`.
"""
