"""The `kilolayer` command: a thin layer over the Python API."""

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.table import Table
from rich.text import Text

from kilolayer import (
    control_commands,
    deploy_commands,
    language_commands,
    run_commands,
    study_commands,
    task_commands,
)
from kilolayer.boundary import answered
from kilolayer.errors import UserError, bad_field
from kilolayer.language_commands import check_say_options, print_interpretation, print_next_steps
from kilolayer.runtime.devices import refuse_wrong_jax
from kilolayer.runtime.files import guard_disk, require_file, shell_quoted
from kilolayer.runtime.startup import keep_compiled_programs, load_mujoco
from kilolayer.settings import MAX_SEED
from kilolayer.terminal import OUTPUT, READERS, whole_number

if TYPE_CHECKING:
    from kilolayer.analysis.load import Run
    from kilolayer.arguments import PlanArguments, TrainArguments

RunPath = tyro.conf.Positional[Path]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a user error is one sentence and exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # These loggers print tracebacks of errors that the command reports in one sentence.
    for name in ("absl", "jax._src.callback"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for command, option in (("study", "--name"), ("inspect", "--task")):
        if arguments[:1] == [command] and len(arguments) > 1 and not arguments[1].startswith("-"):
            arguments.insert(1, option)
    with answered(arguments):
        _dispatch([_expand_home(each) for each in arguments])


def _dispatch(arguments: list[str]) -> None:
    if arguments[:1] != ["plan"]:  # plan measures how long a compilation takes
        keep_compiled_programs()
    os.environ["MPLBACKEND"] = "agg"  # plots go to files, and Matplotlib stops at a mistyped one
    load_mujoco()
    check_seed(arguments)
    if arguments[:1] != ["train"]:  # train checks once its processes are connected
        refuse_wrong_jax()
    if arguments[:1] in (["train"], ["plan"]):
        from kilolayer.arguments import PlanArguments, TrainArguments, with_config

        if arguments[0] == "train":
            train(with_config(TrainArguments, "train", arguments[1:]))
        else:
            plan(with_config(PlanArguments, "plan", arguments[1:]))
        return
    tyro.extras.subcommand_cli_from_dict(
        {
            "train": _listed(train),
            "plan": _listed(plan),
            "evaluate": evaluate,
            "play": play,
            "collect": collect,
            "report": report,
            "compare": compare,
            **run_commands.COMMANDS,
            **task_commands.COMMANDS,
            **study_commands.COMMANDS,
            **deploy_commands.COMMANDS,
            **control_commands.COMMANDS,
            **language_commands.COMMANDS,
        },
        description="Train goal-reaching agents at any depth, without rewards.",
        args=arguments,
        prog="kilolayer",
        registry=READERS,
    )


def _expand_home(argument: str) -> str:
    """Expand ~ at the start of an argument or of an option's value, which shells do not expand."""
    option, _, value = argument.rpartition("=") if argument.startswith("--") else ("", "", argument)
    if not value.startswith("~"):
        return argument
    home = os.path.expanduser(value)
    if home == value and "/" in value:
        raise UserError(
            f"{value}: this machine has no user {value[1:].split('/')[0]}: write ./{value} for a "
            "folder of that name."
        )
    return f"{option}={home}" if option else home


def check_seed(arguments: list[str]) -> None:
    """Raises UserError for a --seed that is a whole number outside of [0, 2^32), in any command."""
    for position, argument in enumerate(arguments):
        option, _, value = argument.partition("=")
        if option != "--seed":
            continue
        value = value or "".join(arguments[position + 1 : position + 2])
        try:
            seed = whole_number(value[:30])
        except ValueError:  # the parser of the options says so
            continue
        if not 0 <= seed < MAX_SEED:
            nearest = 0 if seed < 0 else MAX_SEED - 1
            raise bad_field("seed", value, f"it must lie in [0, {MAX_SEED})", nearest)


def _listed(command: Callable[..., None]) -> Callable[[], None]:
    """The command in the list of all commands, without its options, which are parsed elsewhere."""

    def about() -> None: ...

    about.__doc__ = command.__doc__
    return about


def train(arguments: "TrainArguments") -> None:
    """Train an agent, evaluate it during training and write its report."""
    from kilolayer import api
    from kilolayer.run_directory import is_unstarted
    from kilolayer.runtime.processes import Processes, find_address

    address = find_address(arguments.coordinator, arguments.num_processes, arguments.process_id)
    together = {
        "devices": arguments.devices,
        "processes": Processes(address),
        "model_devices": arguments.model_devices,
    }
    out = arguments.out
    if arguments.resume is not None and is_unstarted(arguments.resume):
        out = arguments.resume
        OUTPUT.print(f"{out} holds no run yet: one begins there, with this command's options.")
    if arguments.resume not in (None, out):
        runs = api.resume(arguments.resume, **together)
    elif arguments.seeds == 1:
        runs = [api.train(arguments.config, out, **together)]
    elif address is None and arguments.devices in (None, 1) and arguments.model_devices == 1:
        runs = api.train_seeds(arguments.seeds, arguments.config, out)
    else:
        raise bad_field("seeds", arguments.seeds, "several train on one device only", 1)
    if runs[0].directory.writes:
        _print_results(runs)


def _print_results(runs: Sequence["Run"]) -> None:
    from kilolayer.report.run_report import divergence_notes

    for run in runs:
        success = run.final("evaluation/success")
        steps = int(run.curve("evaluation/success")[0][-1])
        seed = f", seed {run.config.seed}" if len(runs) > 1 else ""
        rate = Text(f"\nsuccess rate {success:.2f}", "bold")
        OUTPUT.print(rate.append(f" after {steps:,} {run.progress_unit}{seed}", "not bold"))
        for sentence in divergence_notes(run):
            OUTPUT.print(sentence)
        film = run.path / "media" / "evaluation.mp4"
        if film.is_file():
            OUTPUT.print(f"film    {film}")
        OUTPUT.print(f"report  {run.path / 'report.html'}")
    run, path = runs[0], shell_quoted(runs[0].path)
    goal = ",".join(f"{value:g}" for value in run.episodes("evaluation")["goal"][0, 0].round(2))
    # Gymnasium's environments cannot be drawn.
    play = [] if run.config.task.gym else [f"kilolayer play {path} --goal {goal}"]
    # Deeper networks cannot start from the run that this one started from.
    start_option = "" if run.config.start_from is None else " --start-from None"
    depth = 4 * run.config.network.depth
    config = shell_quoted(run.path / "config.json")
    print_next_steps(
        *play,
        f"kilolayer evaluate {path} --samples 16",
        f"kilolayer train --config {config} --depth {depth}{start_option}",
    )


def plan(arguments: "PlanArguments") -> None:
    """Estimate what a run will cost and whether it fits, without training.

    Look for: a peak beyond the device's memory, more hours than you have, a replay buffer larger
    than everything else.
    """
    from kilolayer import api
    from kilolayer.report.terminal_tables import forecast_tables

    path = None if arguments.json in (None, "-") else Path(arguments.json)
    if path is not None:
        require_file(path, field="json")
    found = api.forecast(
        arguments.config, arguments.device, arguments.devices, arguments.calibration
    )
    text = json.dumps(dataclasses.asdict(found), indent=2)
    if arguments.json == "-":
        print(text)
        return
    OUTPUT.print(found.decisions)
    for table in forecast_tables(found):
        OUTPUT.print(table)
    for assumption in found.assumptions:
        OUTPUT.print(assumption)
    if path is not None:
        with guard_disk(path):
            path.write_text(text + "\n", encoding="utf-8")


def evaluate(
    run: RunPath,
    episodes: int | None = None,
    goal: str | None = None,
    samples: int = 1,
    seed: int = 0,
    steps: int | None = None,
    gym: str | None = None,
) -> None:
    """Score a trained agent.

    Args:
        run: The run directory, a policy directory or zoo:NAME.
        episodes: Episodes per goal split. Default: 128; with --gym 10 per task. Raise it for
            narrower intervals.
        goal: Use this goal, such as 8,0, in every episode. Default: sample goals of the task.
        samples: Actions sampled per step, of which the critic chooses the best. 1 takes the
            deterministic action. Raise it if the policy is worse than its critic.
        seed: Seed of starts, goals and sampled actions. Change it for other episodes.
        steps: Control steps of an episode. Default: the task's own. The time at goal is at most
            this number.
        gym: Score an ant in an unchanged environment of OGBench: ogbench:antmaze-medium-v0, large,
            giant, or arena for the open task ant. Default: the policy's own task. Needs the extra
            ogbench; see docs/gymnasium.md.
    """
    from kilolayer import api
    from kilolayer.report.terminal_tables import score_tables

    scores = api.evaluate(run, episodes, goal, samples, seed, steps, gym)
    for table in score_tables(scores, episodes or api.EVALUATION_EPISODES, gym):
        OUTPUT.print(table)


def play(
    run: RunPath,
    goal: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    say: str | None = None,
    grounding: Path | None = None,
    module: Path | None = None,
    picture: Path | None = None,
    out: Path | None = None,
    seed: int = 0,
) -> None:
    """Write a video of the agent, with goals or with a sentence that names a goal.

    With --say the video shows coloured markers that the sentence can name. The command prints the
    interpreted goal, its confidence, and whether the sentence is like the training sentences. The
    picture that the encoder used is saved beside the video.

    Args:
        run: The run directory, a policy directory or zoo:NAME.
        goal: A goal such as 8,0. Repeat the option for several goals, side by side. Default: four
            goals of the evaluation.
        say: A sentence with the goal, such as "go to the red marker".
        grounding: The grounding that interprets the sentence, a directory made by
            `kilolayer ground`. Default: the run's newest.
        module: An action module of `kilolayer train-vla` that acts instead of the policy.
        picture: A picture for the encoder, a .png of 96 x 96 pixels. Default: markers drawn from
            the seed.
        out: The file to write, .mp4, .gif or .png (a few frames). Default: in the run's media/, or
            play_NAME.mp4 for zoo:NAME.
        seed: Seed of the start, the goals and the markers.
    """
    words = {"grounding": grounding, "module": module, "picture": picture}
    check_say_options(say, words, {"goal": goal})
    if say is not None:
        from kilolayer.api import sentences

        played = sentences.play_instruction(run, say, grounding, module, picture, out, seed)
        print_interpretation(played.interpretation, played.task)
        OUTPUT.print(
            f"not reached within {played.limit:g} s"
            if played.reached is None
            else f"reached after {played.reached:.1f} s"
        )
        OUTPUT.print(f"video    {played.film}\npicture  {played.picture}")
        return
    from kilolayer import api

    OUTPUT.print(str(api.play(run, goals=goal, out=out, seed=seed)))


def collect(
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|TASK")],
    out: str,
    steps: int,
    noise: float | None = None,
    seed: int = 0,
    to: Literal["ogbench", "minari"] = "ogbench",
) -> None:
    """Record a dataset for `train --dataset`.

    Args:
        source: A run, a policy directory or zoo:NAME whose policy acts, or a task for random
            actions.
        out: A new .npz file to write, or with --to minari a name such as maze/random-v0.
        steps: Control steps to record, over all episodes.
        noise: Standard deviation of the noise on the policy's actions. Default: 0.2. Raise it for
            more varied states. Not allowed for a task.
        seed: Seed of starts, goals, noise and random actions. Change it for another dataset.
        to: Format. ogbench: a file in OGBench's layout. minari: a local data set of Minari (extra
            `minari`), which `train --dataset minari:NAME` reads; it also takes Gymnasium
            environments.
    """
    from kilolayer.api import collect as collect_dataset

    dataset = collect_dataset(source, out, steps, noise, seed, to=to)
    mark = dataset.fingerprint
    OUTPUT.print(
        f"{mark['path']}  {dataset.steps:,} steps in {dataset.trajectories:,} trajectories, "
        f"{mark['bytes']:,} bytes\nSHA-256  {mark['sha256']}"
    )


def report(run: RunPath, published: Path | None = None) -> None:
    """Write the report.html of a run, a study, a grounding or an action module again.

    Args:
        run: The directory of the run, study, grounding or action module.
        published: For a study: a file of published curves to draw with the study's curves.
    """
    from kilolayer import api

    OUTPUT.print(str(api.write_report(run, published)))


def compare(runs: tyro.conf.Positional[tuple[Path, ...]], out: Path = Path("compare.html")) -> None:
    """Compare runs: scores with intervals, curves, and which runs are better.

    Runs that differ only by their seed form one group. Several tasks are compared one by one and
    then together. Look for: a single seed (its score does not show the effect of chance), intervals
    that overlap, runs of unequal length.

    Args:
        runs: The run directories, at least two.
        out: The page to write, an .html file.
    """
    from kilolayer import api

    answer = api.compare(runs, out)
    for found in answer.tables:
        table = Table(*found.columns, title=found.title, title_justify="left")
        for row in found.rows:
            table.add_row(*row)
        OUTPUT.print(table)
    for verdict in answer.verdicts:
        OUTPUT.print(str(verdict))
    OUTPUT.print(f"report  {out}")
