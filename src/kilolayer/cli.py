"""The `kilolayer` command: a thin face of the Python API."""

import dataclasses
import logging
import sys
import warnings
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from kilolayer.config import TrainConfig
from kilolayer.presets import PRESETS
from kilolayer.types import UserError, bad_field

OUTPUT = Console(highlight=False, soft_wrap=True)

RunPath = tyro.conf.Positional[Path]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a user error is one sentence and exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    warnings.filterwarnings("ignore", module="orbax")
    # Orbax logs pages of traceback before an error that we tell in one sentence.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    try:
        if arguments[:1] == ["train"]:
            _run_train(arguments[1:])
        else:
            tyro.extras.subcommand_cli_from_dict(
                {"train": train, "evaluate": evaluate, "play": play, "report": report},
                description="Train goal-reaching agents at any depth, without rewards.",
                args=arguments,
                prog="kilolayer",
            )
    except UserError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"error: {error}", markup=False)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped; continue with `kilolayer train --resume RUN`", file=sys.stderr)
        raise SystemExit(130) from None


def _run_train(arguments: list[str]) -> None:
    """Take the preset or config file out of the arguments, for it sets all other defaults."""
    base, arguments = _take_base_config(arguments)
    names = "; ".join(f"{name}: {config.task}" for name, config in PRESETS.items())
    chosen = tyro.cli(
        TrainArguments,
        args=arguments,
        prog="kilolayer train",
        default=TrainArguments(**dataclasses.asdict(base)),
        description=(
            "Train an agent; without any option, the quickstart.\n\n"
            f"Start from a preset with --preset NAME ({names}) or from a file with --config "
            "FILE.json; options given beside it override its fields. The defaults shown here are "
            "those of the preset or file chosen."
        ),
    )
    train(chosen)


def _take_base_config(arguments: list[str]) -> tuple[TrainConfig, list[str]]:
    base, rest = PRESETS["quickstart"], list(arguments)
    for option in ("--preset", "--config"):
        at = next((i for i, a in enumerate(rest) if a.split("=")[0] == option), None)
        if at is None:
            continue
        words = rest.pop(at).split("=", 1)
        if len(words) == 1 and at == len(rest):
            raise UserError(f"{option} needs a value.")
        value = words[1] if len(words) == 2 else rest.pop(at)
        base = _preset(value) if option == "--preset" else TrainConfig.read(Path(value))
    return base, rest


def _preset(name: str) -> TrainConfig:
    if name not in PRESETS:
        raise bad_field("preset", name, f"one of {', '.join(PRESETS)}", "quickstart")
    return PRESETS[name]


@dataclasses.dataclass(frozen=True)
class TrainArguments(TrainConfig):
    """A config, and where its run goes."""

    out: Path | None = None
    """The run directory to make; by default a fresh one under runs/."""
    resume: Path | None = None
    """Continue the killed run in this directory; all other options are then taken from it."""

    def config(self) -> TrainConfig:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(TrainConfig)}
        return TrainConfig(**fields)


def train(arguments: TrainArguments) -> None:
    """Train an agent, evaluate it on the way and write its report."""
    from kilolayer import api

    if arguments.resume is not None:
        run = api.resume(arguments.resume)
    else:
        run = api.train(arguments.config(), arguments.out)
    from kilolayer.report.run_report import write_report

    path = write_report(run)
    success, steps = run.final("evaluation/success"), run.events[-1]["env_steps"]
    OUTPUT.print(f"\n[bold]success rate {success:.2f}[/bold] after {steps:,} environment steps")
    OUTPUT.print(f"report  {path}\n\nwhat to try next:")
    goal = ",".join(f"{value:g}" for value in run.episodes("evaluation")["goal"][0, 0].round(2))
    task = f"--gym {run.config.gym}" if run.config.gym else f"--task {run.config.task}"
    # Gymnasium's environments cannot be drawn.
    play = [] if run.config.gym else [f"kilolayer play {run.path} --goal {goal}"]
    for command in (
        *play,
        f"kilolayer evaluate {run.path} --samples 16",
        f"kilolayer train {task} --depth {4 * run.config.depth}",
    ):
        OUTPUT.print(f"  {command}")


def evaluate(
    run: RunPath,
    episodes: int = 128,
    goal: str | None = None,
    samples: int = 1,
    seed: int = 0,
) -> None:
    """Score a trained agent.

    Args:
        run: The run directory.
        episodes: Episodes per goal split.
        goal: Send every episode to this goal, such as 8,0, instead of drawing goals.
        samples: Actions drawn per step; the critic picks one. 1 is the deterministic action.
        seed: Seed of starts, goals and drawn actions.
    """
    from kilolayer.api import evaluate as evaluate_run

    scores = evaluate_run(run, episodes=episodes, goal=goal, samples=samples, seed=seed)
    for split, metrics in scores.items():
        table = Table(title=f"{split}, {episodes} episodes", title_justify="left")
        table.add_column("metric")
        table.add_column("value", justify="right")
        for name, value in metrics.items():
            table.add_row(name, f"{value:.3f}")
        OUTPUT.print(table)


def play(
    run: RunPath,
    goal: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    out: Path | None = None,
    seed: int = 0,
) -> None:
    """Write a video of the agent on its way to goals.

    Args:
        run: The run directory.
        goal: A goal such as 8,0; give the option again for more, side by side. By default four
            goals of the evaluation.
        out: The file to write; .mp4 and .gif are understood. By default in the run's media/.
        seed: Seed of the start and the goals.
    """
    from kilolayer.api import play as play_run

    OUTPUT.print(str(play_run(run, goals=goal, out=out, seed=seed)))


def report(run: RunPath) -> None:
    """Write the run's report.html anew.

    Args:
        run: The run directory.
    """
    from kilolayer.analysis.load import load
    from kilolayer.report.run_report import write_report

    OUTPUT.print(str(write_report(load(run))))
