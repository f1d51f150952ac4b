"""Does self-supervision give a network more to learn from than a sparse reward would?"""

import numpy as np

from kilolayer.agents.crl import CRL
from kilolayer.analysis.answer import Answer, Plot, Series, Table
from kilolayer.analysis.claims import Claim, judged
from kilolayer.analysis.differences import Difference, gain
from kilolayer.analysis.feedback import Feedback, feedback
from kilolayer.analysis.load import Run
from kilolayer.analysis.outcomes import TIME_AT_GOAL, group
from kilolayer.analysis.statistics import Estimate, mean_interval
from kilolayer.analysis.study import Study
from kilolayer.studies.cost import operations
from kilolayer.studies.question import Question
from kilolayer.studies.questions.depth import grids
from kilolayer.studies.setups import by_depth, with_training_goals
from kilolayer.types import UserError

POSITIVE = (0.0, np.inf)
LOSS = "critic/contrastive_loss"


def feedback_of(run: Run) -> Feedback:
    """Feedback of one run; raises UserError if the run's loss does not bound information."""
    config, agent = run.config, run.config.agent
    if not isinstance(agent, CRL) or agent.contrastive_loss == "binary":
        loss = f" with the loss {agent.contrastive_loss}" if isinstance(agent, CRL) else ""
        raise UserError(
            f"the run {run.path.name} has agent {config.agent_name}{loss}: only InfoNCE (forward, "
            "backward, symmetric) bounds information."
        )
    rounds = [event for event in run.events if LOSS in event.get("metrics", {})]
    updates = np.array([event["updates"] for event in rounds], float)
    loss = np.array([event["metrics"][LOSS] for event in rounds])
    # Evaluations measure how often a step lies within the radius. The training goals are preferred
    # if every evaluation played them, since the data are collected with those goals.
    training = "evaluation_training_goals/time_at_goal"
    steps, time = run.curve(training)
    if len(steps) < len(run.curve(TIME_AT_GOAL)[0]):
        steps, time = run.curve(TIME_AT_GOAL)
    env_steps = np.array([event["env_steps"] for event in rounds], float)
    success = np.interp(env_steps, steps, time / run.task.episode_length)
    return feedback(updates, loss, success, agent.batch_size)


def analyse(study: Study) -> Answer:
    series, rows, claims = [], [], []
    for (depth,), runs in group(study.finished, "depth").items():
        found = [feedback_of(run.run) for run in runs]
        parameters = operations(runs[0].run.config).parameters
        for name in ("contrastive", "bound", "reward"):
            total = np.array([getattr(each, name) for each in found]).mean(0) / parameters
            series.append(
                Series(f"{name}, depth {depth}", tuple(found[0].updates.tolist()), tuple(total))
            )
        contrastive, reward, bound = (
            np.array([getattr(each, name)[-1] / parameters for each in found])
            for name in ("contrastive", "reward", "bound")
        )
        if len(runs) < 2:
            continue
        claims.append(_claim(study, depth, gain(np.log2(contrastive / reward))))
        rows.append(
            (
                str(depth),
                f"{parameters:,}",
                str(mean_interval(contrastive, POSITIVE)),
                f"{bound[0]:.3g}",
                str(mean_interval(reward, POSITIVE)),
            )
        )
    if not claims:
        raise UserError("an interval needs two seeds at one depth at least: run more seeds.")
    columns = ("depth", "parameters", "contrastive, bits", "at most (log2 B)", "reward, bits")
    return Answer(
        verdicts=judged(claims),
        plots=(Plot("Bits per parameter so far", "updates", "bits per parameter", tuple(series)),),
        tables=(Table("Bits per parameter at the end", columns, tuple(rows)),),
        notes=(
            "Contrastive: log2 B minus the InfoNCE loss, a lower bound of what a pair tells of its "
            "goal that cannot exceed log2 B; penalties are left out. Reward: the entropy of being "
            "within the success radius at a step, an upper bound of what a sparse reward tells. "
            "Each is counted for every transition of every update, so one that is drawn again "
            "counts again.",
            "The reward is that of the same runs' data, by the share of steps at the goal in "
            "evaluations; what an agent trained on that reward would have collected is another "
            "question.",
        ),
    )


def _claim(study: Study, depth: int, ratio: Difference) -> Claim:
    """ratio: log2 of contrastive over reward; 0 if both supply the same."""
    log2 = ratio.value
    times = Estimate(2.0**log2.value, 2.0**log2.low, 2.0**log2.high, log2.seeds)
    says = (
        f"At depth {depth} the contrastive objective supplies, of the bits of a sparse reward on "
        "the same data, times"
    )
    return Claim(says, times, ratio.p, study.failed, None)


def question() -> Question:
    return Question(
        name="feedback",
        asks="How many bits per parameter does the contrastive objective supply, and a reward?",
        setups=with_training_goals(by_depth()),
        grids=grids,
        analyse=analyse,
        needs="depth",
    )
