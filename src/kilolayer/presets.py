"""Named starting points for a config; options given beside a preset override its fields."""

from kilolayer.config import TrainConfig

PRESETS: dict[str, TrainConfig] = {
    # A point U-maze that a laptop learns in about two minutes.
    "quickstart": TrainConfig(
        task="point_u_maze",
        total_steps=600_000,
        num_envs=128,
        width=128,
        unroll_length=50,
        min_replay_steps_per_env=200,
        replay_steps_per_env=4_000,
        num_evaluations=8,
    ),
    # The real thing on two cores: native MuJoCo physics, an hour or so.
    "laptop": TrainConfig(task="ant", total_steps=20_000_000, width=128),
    # arXiv 2503.14858: for a GPU.
    "paper": TrainConfig(
        task="ant_big_maze",
        total_steps=100_000_000,
        num_envs=512,
        batch_size=512,
        depth=64,
        num_evaluations=100,
    ),
}
