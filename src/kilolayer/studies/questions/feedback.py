"""Does the contrastive objective supply more bits per parameter than a sparse reward?"""

import numpy as np

from kilolayer.agents.crl import CRL
from kilolayer.analysis.answer import Answer, Plot, Series, Table
from kilolayer.analysis.claims import Claim, assess_claims
from kilolayer.analysis.differences import Difference, paired_difference
from kilolayer.analysis.feedback import Feedback, feedback
from kilolayer.analysis.load import Run
from kilolayer.analysis.statistics import Estimate, mean_interval
from kilolayer.analysis.study import Study
from kilolayer.analysis.study_scores import TIME_AT_GOAL, group_runs
from kilolayer.errors import UserError
from kilolayer.studies.cost import operations

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
    # Evaluations measure how often a step lies within the radius. Training goals are preferred if
    # every evaluation includes them, since the data are collected with those goals.
    training = "evaluation_training_goals/time_at_goal"
    steps, time = run.curve(training)
    if len(steps) < len(run.curve(TIME_AT_GOAL)[0]):
        steps, time = run.curve(TIME_AT_GOAL)
    env_steps = np.array([event["env_steps"] for event in rounds], float)
    success = np.interp(env_steps, steps, time / run.task.episode_length)
    return feedback(updates, loss, success, agent.batch_size)


def analyse(study: Study) -> Answer:
    series, rows, claims = [], [], []
    for (depth,), runs in group_runs(study.finished, "depth").items():
        results = [feedback_of(run.run) for run in runs]
        parameters = operations(runs[0].run.config).parameters
        for name in ("contrastive", "bound", "reward"):
            total = np.array([getattr(result, name) for result in results]).mean(0) / parameters
            series.append(
                Series(f"{name}, depth {depth}", tuple(results[0].updates.tolist()), tuple(total))
            )
        contrastive, reward, bound = (
            np.array([getattr(result, name)[-1] / parameters for result in results])
            for name in ("contrastive", "reward", "bound")
        )
        if len(runs) < 2:
            continue
        claims.append(_claim(study, depth, paired_difference(np.log2(contrastive / reward))))
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
        raise UserError("an interval needs at least two seeds at one depth: run more seeds.")
    columns = ("depth", "parameters", "contrastive, bits", "upper bound (log2 B)", "reward, bits")
    return Answer(
        verdicts=assess_claims(claims),
        plots=(
            Plot("Cumulative bits per parameter", "updates", "bits per parameter", tuple(series)),
        ),
        tables=(Table("Bits per parameter at the end", columns, tuple(rows)),),
        notes=(
            "Contrastive: log2 B minus the InfoNCE loss, without penalties. It is a lower bound "
            "of the mutual information of a state-action pair and its goal, and at most log2 B. "
            "Reward: the entropy of the event that a step lies within the success radius, an "
            "upper bound of the information in a sparse reward. Both are counted for every "
            "transition of every update. A transition that is sampled again counts again.",
            "The reward is computed for the data of the same runs, from the share of steps at the "
            "goal in evaluations. An agent trained on that reward would collect other data.",
        ),
    )


def _claim(study: Study, depth: int, ratio: Difference) -> Claim:
    """ratio: log2 of contrastive over reward; 0 if both supply equal information."""
    log2 = ratio.estimate
    times = Estimate(2.0**log2.value, 2.0**log2.low, 2.0**log2.high, log2.seeds)
    statement = (
        f"At depth {depth} the contrastive objective supplies this multiple of the bits of a "
        "sparse reward on the same data:"
    )
    return Claim(statement, times, ratio.p, study.failed, None)
