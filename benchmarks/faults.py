"""`make faults`: kills, damaged files and bad inputs by the hundred, and a table of how they ended.

    python -m benchmarks.faults --kills 200 --inputs 500

Every case starts the command anew in a process of its own. Right is: after a kill, a run that ends
bit-identical to one that was never killed; after damage, the same or one sentence with exit code 2;
for a bad input, exit code 2 without a traceback, and nothing left behind.
"""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from kilolayer.config import RunConfig
from kilolayer.runtime import checkpoint

TINY = [
    "--depth=4", "--width=16", "--num-envs=4", "--unroll-length=10",
    "--min-replay-steps-per-env=40", "--replay-steps-per-env=200", "--batch-size=16",
    "--total-steps=4000", "--num-evaluations=8", "--eval-envs=2", "--no-profile",
    "--no-tensorboard",
]  # fmt: skip
MOST_SECONDS = 600


@dataclass(frozen=True)
class Ended:
    """What one case came to: right or not, and what it said."""

    right: bool
    told: str


def kilolayer(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "kilolayer", *map(str, arguments)]


def ran(*arguments: str | Path, folder: Path) -> tuple[int, str]:
    """Exit code and output of a command; -1 if it takes too long."""
    try:
        done = subprocess.run(
            kilolayer(*arguments), cwd=folder, capture_output=True, text=True, errors="replace",
            timeout=MOST_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return -1, "no end"
    return done.returncode, done.stdout + done.stderr


def arrays_of(run: Path) -> dict[str, np.ndarray]:
    """The newest checkpoint's arrays."""
    root = run / "checkpoints"
    newest = checkpoint.latest(root)
    assert newest is not None
    parts = [checkpoint.stored_arrays(root, newest, part) or {} for part in ("agent", "loop")]
    return {f"{index} {name}": a for index, part in enumerate(parts) for name, a in part.items()}


def same(one: Path, other: Path) -> bool:
    left, right = arrays_of(one), arrays_of(other)
    return left.keys() == right.keys() and all(
        left[name].tobytes() == right[name].tobytes() for name in left
    )


def kill(folder: Path, unbroken: Path, seconds: float, number: int, at: float) -> Ended:
    """End a run with a signal after a share `at` of its time, then bring it to its end."""
    run = folder / f"killed-{number}-{at:.4f}"
    process = subprocess.Popen(
        kilolayer("train", *TINY, "--out", run), cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(at * seconds)
    process.send_signal(number)
    code = process.wait()
    if code not in (0, -number, 128 + number):
        return Ended(False, f"exit code {code} after signal {number}")
    again = ["--resume", run] if run.exists() else ["--out", run]
    if not (run / "DONE").exists():
        code, told = ran("train", *again, *TINY, folder=folder)
        if code != 0:
            return Ended(False, told)
    right = same(unbroken, run)
    shutil.rmtree(run)
    return Ended(right, "" if right else f"another result after a kill at {at:.3f}")


def empty(file: Path) -> None:
    file.write_bytes(b"")


def halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    if data:
        data[len(data) // 2] ^= 1
    file.write_bytes(data)


def scramble(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00" + file.read_bytes()[::-1])


DAMAGES: tuple[Callable[[Path], None], ...] = (empty, halve, flip, scramble, Path.unlink)


def damage(folder: Path, unbroken: Path, file: Path, how: Callable[[Path], None]) -> Ended:
    """Damage one file of a run that had been killed at its end, and resume it."""
    run = folder / "damaged"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(unbroken, run)
    (run / "DONE").unlink()
    how(run / file)
    code, told = ran("train", "--resume", run, folder=folder)
    kept = code == 0 and same(unbroken, run)
    refused = code == 2 and "Traceback" not in told and "error: " in told
    return Ended(kept or refused, f"{how.__name__} {file}: exit code {code}\n{told}")


VALUES = (
    "0", "-1", "1e30", "nan", "inf", "-inf", "", "x", "[", "[bold]", "2147483648", "1e-320",
    "99999999999999999999", "0x10", "None,None", "\\", "~", "1.5", "[[]", "true", "é", "../..",
)  # fmt: skip
COMMANDS = (
    "evaluate", "play", "collect", "report", "compare", "inspect", "export", "prune", "distil",
    "hierarchy", "control", "latency", "ground", "say", "train-vla",
)  # fmt: skip


def inputs(chance: random.Random) -> Iterator[list[str]]:
    """Bad command lines without end: a setting with a value that none has, or things not there."""
    settings = [name for name in RunConfig().flat() if name not in ("wandb", "tensorboard")]
    while True:
        value = chance.choice(VALUES)
        if chance.random() < 0.5:
            command = chance.choice(["train", "plan"])
            option = chance.choice(settings).replace("_", "-")
            yield [command, f"--{option}={value}", "--dataset=not-there.npz"]
        else:
            command = chance.choice(COMMANDS)
            yield [command, value, *chance.choice([[], [f"--seed={value}"], ["--no-such-option"]])]


def bad_input(folder: Path, arguments: list[str]) -> Ended:
    before = sorted(folder.rglob("*"))
    code, told = ran(*arguments, folder=folder)
    left = sorted(folder.rglob("*")) != before
    right = code == 2 and "Traceback" not in told and not left
    return Ended(right, f"{arguments}: exit code {code}, left {left}\n{told}")


def main(kills: int = 20, damages: int = 40, bad_inputs: int = 50, seed: int = 0) -> None:
    """Run every kind of fault so often and print the table."""
    chance, table = random.Random(seed), Table("fault", "cases", "right")

    def count(name: str, cases: Iterator[Ended]) -> None:
        ended = []
        for case in cases:
            ended.append(case)
            right = sum(each.right for each in ended)
            # Hours may lie between here and the table.
            print(f"{name}: {right} of {len(ended)} right", file=sys.stderr, flush=True)
            if not case.right:
                print(case.told, file=sys.stderr, flush=True)
        table.add_row(name, str(len(ended)), str(sum(each.right for each in ended)))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unbroken = folder / "unbroken"
        began = time.perf_counter()
        code, told = ran("train", *TINY, "--out", unbroken, folder=folder)
        assert code == 0, told
        seconds = time.perf_counter() - began
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            share = kills if number == signal.SIGKILL else -(-kills // 10)
            moments = [chance.random() for _ in range(share)]
            count(number.name, (kill(folder, unbroken, seconds, number, at) for at in moments))
        inside = sorted(path.relative_to(unbroken) for path in unbroken.rglob("*"))
        files = [path for path in inside if (unbroken / path).is_file() and path.name != "DONE"]
        cases = [(file, how) for file in files for how in DAMAGES]
        chosen = chance.sample(cases, min(damages, len(cases)))
        count("damaged file", (damage(folder, unbroken, *case) for case in chosen))
        empty_folder = folder / "empty"
        empty_folder.mkdir()
        generated = inputs(chance)
        count("bad input", (bad_input(empty_folder, next(generated)) for _ in range(bad_inputs)))
    Console().print(table)


if __name__ == "__main__":
    tyro.cli(main)
