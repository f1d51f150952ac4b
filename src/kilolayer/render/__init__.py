"""Pictures and films of tasks: scenes, marks on them, frames, video files.

Depends on tasks, physics and evaluation; does not depend on runs, reports or policies. The report,
the Gymnasium environments and the local page use `make_scene`, `render_start`, `render_frames` and
`write_video`.
"""
