"""What `kilolayer plan` says against what training then takes: peak memory, seconds per round.

python -m benchmarks.plan_check [--settings quickstart ant deep] [--repeats 2] [--quick]

Plan and training run in fresh processes, one directly after the other. Memory is the training
process's largest resident set; seconds are the median round's. --quick: does it run?
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from kilolayer.config import run_config
from kilolayer.recommendations import recommended
from kilolayer.run_directory import RunDirectory

SETTINGS = {
    "quickstart": recommended("point_u_maze", total_steps=100_000, num_evaluations=1),
    "ant": run_config(
        task="ant",
        total_steps=95_000,
        replay_steps_per_env=5_000,
        min_replay_steps_per_env=124,
        num_evaluations=1,
        eval_envs=16,
    ),
    "deep": run_config(
        depth=64,
        width=128,
        total_steps=20_000,
        num_envs=64,
        unroll_length=50,
        update_to_data=1 / 160,
        min_replay_steps_per_env=100,
        num_evaluations=1,
    ),
}
QUICK = run_config(
    total_steps=160,
    num_envs=8,
    unroll_length=5,
    width=8,
    batch_size=8,
    replay_steps_per_env=10,
    min_replay_steps_per_env=5,
    num_evaluations=1,
    eval_envs=2,
)

TRAINING = """
import sys
from pathlib import Path
from kilolayer import RunConfig, train
from kilolayer.config import run_config
from kilolayer.runtime.devices import resident_bytes
train(RunConfig.read(Path(sys.argv[1])), sys.argv[2], progress=False)
print(resident_bytes())
"""


def planned(config: Path) -> dict:
    """The plan's figures."""
    command = [sys.executable, "-m", "kilolayer", "plan", "--config", str(config), "--json", "-"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def trained(config: Path, directory: Path) -> tuple[int, float]:
    """Peak bytes and the median round's seconds of a real training."""
    command = [sys.executable, "-c", TRAINING, str(config), str(directory)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    events = RunDirectory.open(directory).read_events()
    seconds = statistics.median(e["round_seconds"] for e in events if e["event"] == "train")
    return int(printed.splitlines()[-1]), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    settings = {name: SETTINGS[name] for name in arguments.settings}
    repeats = arguments.repeats
    if arguments.quick:
        settings, repeats = {"quick": QUICK}, 1
    print("| setting | plan, GB | real, GB | real / plan | plan, s | real, s | real / middle |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, config in settings.items():
        for repeat in range(repeats):
            with tempfile.TemporaryDirectory() as scratch:
                path = Path(scratch) / "config.json"
                path.write_text(config.to_json())
                plan = planned(path)
                real_bytes, seconds = trained(path, Path(scratch) / f"run{repeat}")
            peak, (low, high) = plan["peak_bytes"], plan["seconds_per_round"]
            print(
                f"| {name} | {peak / 1e9:.2f} | {real_bytes / 1e9:.2f} | {real_bytes / peak:.2f} | "
                f"{low:.2f} to {high:.2f} | {seconds:.2f} | {2 * seconds / (low + high):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
