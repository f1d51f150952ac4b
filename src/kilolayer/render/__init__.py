"""Pictures and films of tasks: scenes, marks on them, frames, video files.

Knows tasks, physics and episodes; knows nothing of runs, reports or policies. Offers `make_scene`,
`render_start`, `render_frames` and `write_video` to the report, the Gymnasium environments and the
local page.
"""
