"""`make faults`: kills, damaged files and bad inputs by the hundred, and a table of how they ended.

    python -m benchmarks.faults --kills 200 --bad-inputs 500 --out runs/faults

Right is: after a kill, a run that ends bit-identical to one that was never killed; after damage,
the same or one sentence with exit code 2; for a bad input, exit code 2 without a traceback, and
nothing left behind. Each case is kept in `cases.jsonl` as it ends: the same command goes on after a
stop. Every case is drawn from the seed and its number alone.

Commands are forked from a process that has imported what they need, and leave out the report and
the film of a finished run, so that a kill takes seconds of one core; each tenth kill is one of a
process that begins as a user's does.
"""

import ast
import json
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.commands import Command, in_copy, prepare
from kilolayer.config import RunConfig
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint

TINY = [
    "--depth=4", "--width=16", "--num-envs=4", "--unroll-length=10",
    "--min-replay-steps-per-env=40", "--replay-steps-per-env=100", "--batch-size=16",
    "--total-steps=800", "--num-evaluations=3", "--eval-envs=2", "--no-profile",
    "--no-tensorboard",
]  # fmt: skip
# The second is traced and compiled in half the time of the first.
AGENTS = ("crl", "gcsl")
FRESH = 10  # each so many-th kill is one of a fresh process
TWICE = 4  # each so many-th kill is followed by a kill of the resumed process
INPUTS = Path(__file__).parents[1] / "tests" / "faults" / "inputs"


@dataclass(frozen=True)
class Ended:
    """What one case came to. kind: its row of the table; note: what the table counts beside it."""

    kind: str
    number: int
    right: bool
    told: str = ""
    note: str = ""


@dataclass(frozen=True)
class Bench:
    """folder: where runs are made; seconds: of the processor, of an unbroken run by its agent."""

    folder: Path
    seconds: dict[str, float]

    @staticmethod
    def begin(folder: Path) -> "Bench":
        kept, seconds = folder / "seconds.json", {}
        if kept.exists():
            return Bench(folder, json.loads(kept.read_text()))
        for agent in AGENTS:
            run = folder / f"unbroken-{agent}"
            for _ in range(2):  # the first one fills the compilation cache
                shutil.rmtree(run, ignore_errors=True)
                command = Command(_train(agent, run), folder, quick=True)
                while not command.ended():
                    seconds[agent] = command.processor_seconds
                    time.sleep(0.01)
                code, told = command.wait()
                assert code == 0, told
        kept.write_text(json.dumps(seconds))
        return Bench(folder, seconds)

    def unbroken(self, agent: str) -> Path:
        return self.folder / f"unbroken-{agent}"


def _train(agent: str, run: Path) -> list[str]:
    return ["train", *TINY, f"--agent={agent}", f"--out={run}"]


def arrays_of(run: Path) -> dict[str, np.ndarray]:
    """The newest checkpoint's arrays."""
    root = run / "checkpoints"
    newest = checkpoint.latest(root)
    assert newest is not None
    parts = [checkpoint.stored_arrays(root, newest, part) or {} for part in ("agent", "loop")]
    return {f"{index} {name}": a for index, part in enumerate(parts) for name, a in part.items()}


def scores_of(run: Path) -> list[tuple]:
    """What was logged of training and evaluations."""
    return [
        (event["event"], event["round"], sorted(event["metrics"].items()))
        for event in RunDirectory.open(run).read_events()
        if event["event"] in ("train", "evaluation")
    ]


def same(one: Path, other: Path, curves: bool = True) -> bool:
    """Whether two runs ended in the same arrays, bit for bit, and on the same curves."""

    def compare() -> bool:
        left, right = arrays_of(one), arrays_of(other)
        equal = left.keys() == right.keys() and all(
            left[name].tobytes() == right[name].tobytes() for name in left
        )
        return equal and (not curves or scores_of(one) == scores_of(other))

    return in_copy(compare)


def kill(bench: Bench, number: int, sent: int, draw: random.Random) -> Ended:
    """End a run by a signal at a random moment, then bring it to its end."""
    kind, fresh = signal.Signals(sent).name, number % FRESH == FRESH - 1
    agent = "crl" if fresh else "gcsl"
    run = bench.folder / "killed"
    shutil.rmtree(run, ignore_errors=True)
    moments = [draw.random() for _ in range(2 if number % TWICE == TWICE - 1 else 1)]
    arguments, hit = _train(agent, run), 0
    for moment in moments:
        command = Command(arguments, bench.folder, fresh, quick=True)
        hit += command.signal_at(sent, moment * bench.seconds[agent])
        code, told = command.wait()
        if code not in (0, -sent, 128 + sent) or (sent != signal.SIGKILL and "Traceback" in told):
            return Ended(kind, number, False, f"exit code {code} after the signal\n{told}")
        begun = ["train", "--resume", str(run), *TINY, f"--agent={agent}"]
        arguments = begun if run.exists() else _train(agent, run)
        if (run / "DONE").exists():
            break
    note = f"{hit} signals"
    if not (run / "DONE").exists():
        code, told = Command(arguments, bench.folder, fresh, quick=True).wait()
        if code != 0:
            return Ended(kind, number, False, f"exit code {code} of the resume\n{told}", note)
    right = same(bench.unbroken(agent), run)
    return Ended(kind, number, right, "" if right else f"another result: {moments}", note)


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


def kinds_of_files(run: Path) -> list[Path]:
    """One file of each kind: of those that differ by a number or a checksum in their name alone,
    the newest, which is what a resume reads."""
    found: dict[str, Path] = {}
    for path in sorted(each.relative_to(run) for each in run.rglob("*")):
        if (run / path).is_file() and path.name != "DONE":
            found[re.sub(r"[0-9a-f]{12,}", "#", str(path))] = path
    return list(found.values())


def damage(bench: Bench, number: int, file: Path, how: Callable[[Path], None]) -> Ended:
    """Damage one file of a run that had been killed at its end, and resume it."""
    run, unbroken = bench.folder / "damaged", bench.unbroken("gcsl")
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(unbroken, run)
    (run / "DONE").unlink()
    how(run / file)
    code, told = Command(["train", "--resume", str(run)], bench.folder, quick=True).wait()
    # Lost lines of the metrics cannot come back, and it must be told.
    gap = "the curves have a gap" in told
    kept = code == 0 and same(unbroken, run, curves=not gap)
    refused = code == 2 and "Traceback" not in told and "error: " in told
    note = (
        "refused" if refused else "same result, a gap in the curves told" if gap else "same result"
    )
    told = "" if kept or refused else f"{how.__name__} {file}: exit code {code}\n{told}"
    return Ended("damaged file", number, kept or refused, told, note)


VALUES = (
    "0", "-1", "1e30", "nan", "inf", "-inf", "", "x", "[", "[bold]", "2147483648", "1e-320",
    "99999999999999999999", "0x10", "None,None", "\\", "~", "1.5", "[[]", "true", "é", "../..",
)  # fmt: skip
COMMANDS = (
    "evaluate", "play", "collect", "report", "compare", "inspect", "export", "prune", "distil",
    "hierarchy", "control", "latency", "ground", "say", "train-vla", "serve", "push", "study",
    "runs",
)  # fmt: skip


def own_code() -> list[str]:
    """Names of things in the modules of bad inputs, none of which is a task."""
    found = []
    for module in ("my_tasks", "my_agents", "my_questions", "my_own"):
        for node in ast.parse((INPUTS / f"{module}.py").read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else [node]
            names = [getattr(each, "name", getattr(each, "id", "")) for each in targets]
            found += [f"{module}:{name}" for name in names if name.lower() not in ("good", "")]
    return [*found, "broken_module:f", "needs_more:f", "a_script:f", "no_python:f", "nowhere:f"]


def bad_arguments(draw: random.Random) -> list[str]:
    """A bad command line: a setting that nobody can want, a thing that is not there or is none."""
    settings = [name for name in RunConfig().flat() if name not in ("wandb", "tensorboard")]
    files = [path.name for path in INPUTS.iterdir() if path.suffix in (".npz", ".py")]
    value, form = draw.choice(VALUES), draw.random()
    if form < 0.35:
        option = draw.choice(settings).replace("_", "-")
        command = draw.choice(["train", "plan"])
        return [command, f"--{option}={value}", "--dataset=not-there.npz"]
    if form < 0.6:
        command, rest = draw.choice(COMMANDS), [[], [f"--seed={value}"], ["--no-such-option"]]
        given = draw.choice([value, draw.choice(files)])
        given = "nowhere" if command == "runs" and given in ("", "~", "../..") else given
        return [command, given, *draw.choice(rest), *(["--no"] if command == "runs" else [])]
    if form < 0.75:
        robots = [path.name for path in INPUTS.iterdir() if path.suffix in (".xml", ".urdf")]
        place = draw.choice(
            ["--goal-site=no-such-site", f"--goal-body={value}", f"--goal-box={value}"]
        )
        return [draw.choice(["inspect", "train", "plan"]), f"--mjcf={draw.choice(robots)}", place]
    if form < 0.8:
        return ["train", "--agent=gcbc", f"--dataset={draw.choice(files)}", f"--seed={value}"]
    name = draw.choice(own_code())
    given = [
        ["inspect", f"--task={name}"], ["train", f"--task={name}"], ["train", f"--agent={name}"],
        ["plan", f"--task={name}"], ["study", "--dry-run", f"--name={name}"],
        ["collect", name, f"--out={value}.npz", "--steps=10"],
    ]  # fmt: skip
    return draw.choice(given)


def bad_input(bench: Bench, number: int, draw: random.Random) -> Ended:
    folder, arguments = bench.folder / "inputs", bad_arguments(draw)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(INPUTS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(folder.rglob("*"))
    code, told = Command(arguments, folder).wait()
    left = [str(path) for path in sorted(folder.rglob("*")) if path not in before]
    right = code == 2 and "Traceback" not in told and not left
    told = "" if right else f"{arguments}: exit code {code}, left {left}\n{told[-2000:]}"
    return Ended("bad input", number, right, told)


def cases(
    bench: Bench, kills: int, damages: int | None, bad_inputs: int, seed: int
) -> Iterator[tuple[str, int, Callable[[], Ended]]]:
    """Every case by its kind and number, and what runs it."""

    def drawn(kind: str, number: int) -> random.Random:
        return random.Random(f"{seed} {kind} {number}")

    for number in range(bad_inputs):
        draw = drawn("bad input", number)
        yield "bad input", number, lambda n=number, d=draw: bad_input(bench, n, d)
    every = [(file, how) for file in kinds_of_files(bench.unbroken("gcsl")) for how in DAMAGES]
    random.Random(seed).shuffle(every)
    for number, case in enumerate(every[:damages]):
        yield "damaged file", number, lambda n=number, c=case: damage(bench, n, *c)
    for sent in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        for number in range(kills if sent == signal.SIGKILL else -(-kills // 10)):
            draw = drawn(sent.name, number)
            yield sent.name, number, lambda n=number, s=sent, d=draw: kill(bench, n, s, d)


def main(
    kills: int = 20,
    damages: int | None = None,
    bad_inputs: int = 50,
    seed: int = 0,
    out: Path = Path("runs/faults"),
) -> None:
    """Run every kind of fault so often, or go on where this stopped, and print the table.

    Args:
        kills: Runs that are killed by SIGKILL; a tenth as many by SIGTERM and by Ctrl-C.
        damages: Files damaged; by default one of each kind in each way.
        bad_inputs: Command lines that cannot be done.
        seed: Seed of all that is drawn.
        out: Folder of the cases; those that are there are not run again.
    """
    folder, kept = out.absolute() / "runs", out.absolute() / "cases.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    ended = (
        [Ended(**json.loads(line)) for line in kept.read_text().splitlines()]
        if kept.exists()
        else []
    )
    there = {(case.kind, case.number) for case in ended}
    prepare()
    bench = Bench.begin(folder)
    for kind, number, run in cases(bench, kills, damages, bad_inputs, seed):
        if (kind, number) in there:
            continue
        case = run()
        ended.append(case)
        with kept.open("a") as file:
            file.write(json.dumps(asdict(case)) + "\n")
        # Hours may lie between here and the table.
        print(f"{kind} {number}: {'right' if case.right else 'WRONG'} {case.told}", flush=True)
    Console().print(table_of(ended))


def table_of(ended: list[Ended]) -> Table:
    table = Table("fault", "cases", "right", "of these")
    for kind in dict.fromkeys(case.kind for case in ended):
        own = [case for case in ended if case.kind == kind]
        notes = [case.note for case in own if case.note]
        counts = ", ".join(f"{notes.count(note)} {note}" for note in sorted(set(notes)))
        table.add_row(kind, str(len(own)), str(sum(case.right for case in own)), counts)
    return table


if __name__ == "__main__":
    tyro.cli(main)
