"""How much does each of several factors contribute to the gain, and how much their interaction?"""

import dataclasses

import numpy as np

from kilolayer.agents.registry import name_of
from kilolayer.analysis.answer import Answer, Plot
from kilolayer.analysis.claims import assess_claims
from kilolayer.analysis.effects import (
    code_two_levels,
    decomposition_evidence,
    interaction_table,
    shapley_decomposition,
    two_by_two_evidence,
    two_way_interactions,
)
from kilolayer.analysis.study import Study
from kilolayer.analysis.study_scores import (
    DEPTH_AXIS,
    SCORE_AXIS,
    SCORE_NOTE,
    score_series,
    score_table,
    scores_by,
)
from kilolayer.studies.collector_learner import CollectorLearner
from kilolayer.studies.grid import Factor, Grid, field_factor
from kilolayer.studies.question import Setup

ATTRIBUTION = ("objective", "recipe", "depth")
ACTOR_CRITIC = ("actor", "critic")
COLLECTOR_LEARNER = ("collector", "learner")
BATCH_DEPTH = ("held", "batch", "depth")

# The gain is measured from the first value of each factor.
OBJECTIVES: Factor = {"sac-her": {"agent": "sac-her"}, "crl": {"agent": "crl"}}
ARCHITECTURES: Factor = {"plain-mlp": {"recipe": "plain-mlp"}, "residual": {}}
# Values of the factor `held`: what stays equal when the batch grows.
UPDATES, SAMPLES = "updates held", "samples held"
GROWTH = 4  # ratio of the larger batch size to the smaller one


def attribution_grids(setup: Setup) -> list[Grid]:
    """Every combination of two objectives, two architectures and two depths."""
    factors = {"objective": OBJECTIVES, "recipe": ARCHITECTURES, "depth": setup.depth_factor}
    return [setup.grid(factors)]


def analyse_attribution(study: Study) -> Answer:
    scores = code_two_levels(scores_by(study, *ATTRIBUTION))
    decomposition = shapley_decomposition(scores, ATTRIBUTION, np.random.default_rng(0))
    claims, plot, table = decomposition_evidence(study, decomposition, "the gain from all three")
    interactions = interaction_table(two_way_interactions(scores, ATTRIBUTION))
    return Answer(
        verdicts=assess_claims(claims),
        plots=(plot,),
        tables=(table, interactions, score_table(study, *ATTRIBUTION)),
        notes=(
            SCORE_NOTE,
            "Shapley values: the gain from a factor, averaged over all orders in which the three "
            "factors can be switched on. They add up to the total gain. With three factors and few "
            "seeds their intervals are wide. The gain of an interaction is divided equally between "
            "its factors.",
        ),
    )


def actor_critic_grids(setup: Setup) -> list[Grid]:
    actor = field_factor("actor_depth", setup.depths)
    return [setup.grid({"actor": actor, "critic": field_factor("critic_depth", setup.depths)})]


def analyse_actor_critic(study: Study) -> Answer:
    scores = scores_by(study, *ACTOR_CRITIC)
    names = ("a deep actor alone", "a deep critic alone")
    claims, plot, table = two_by_two_evidence(
        study, scores, names, "their interaction", "the gain from depth in both networks"
    )
    lines = tuple(
        score_series(
            study,
            f"critic {depth}",
            {actor: row for (actor, critic), row in scores.items() if critic == depth},
        )
        for depth in sorted({critic for _, critic in scores})
    )
    title = "Score by depth of actor and critic"
    return Answer(
        verdicts=assess_claims(claims),
        plots=(Plot(title, "depth of the actor", SCORE_AXIS, lines, log_x=True), plot),
        tables=(table, score_table(study, *ACTOR_CRITIC)),
        notes=(SCORE_NOTE, "Verdicts compare the shallowest with the deepest network."),
    )


def collector_learner_grids(setup: Setup) -> list[Grid]:
    collector = field_factor("collector_depth", setup.depths)
    factors = {"collector": collector, "learner": setup.depth_factor}
    return [setup.grid(factors, agent=name_of(CollectorLearner))]


def analyse_collector_learner(study: Study) -> Answer:
    scores = scores_by(study, *COLLECTOR_LEARNER)
    names = ("exploration", "expressivity")
    claims, plot, table = two_by_two_evidence(
        study, scores, names, "interaction", "the gain from depth"
    )
    return Answer(
        verdicts=assess_claims(claims),
        plots=(plot,),
        tables=(table, score_table(study, *COLLECTOR_LEARNER)),
        notes=(
            SCORE_NOTE,
            "The collector fills the replay buffer; collector and learner train on the same "
            "batches of it, and the learner is evaluated. Exploration: the gain from a deep "
            "collector with a shallow learner. Expressivity: the gain from a deep learner with a "
            "shallow collector. Interaction: the gain from both, minus these two gains.",
            "The learner never collects data with its own policy, so its scores may be lower than "
            "those of an agent that does.",
        ),
    )


def batch_depth_grids(setup: Setup) -> list[Grid]:
    """The base's batch size and a quarter of it. Equal samples: larger batches, fewer updates."""
    base = setup.base
    largest, updates = base.agent.batch_size, base.collection.update_to_data
    sizes = (largest // GROWTH, largest)
    batches = {
        UPDATES: {size: {"batch_size": size} for size in sizes},
        # The smallest batch gives the same run in both grids, so it is trained once.
        SAMPLES: {largest: {"batch_size": largest, "update_to_data": updates * sizes[0] / largest}},
    }
    return [
        setup.grid({"batch": factor, "depth": setup.depth_factor}, {"held": held})
        for held, factor in batches.items()
    ]


def analyse_batch_depth(study: Study) -> Answer:
    scores = scores_by(study, *BATCH_DEPTH)
    smallest = min(batch for _, batch, _ in scores)
    claims, tables, series = [], [], []
    for held in (UPDATES, SAMPLES):
        # The runs of the smallest batch belong to both comparisons.
        own = {
            (batch, depth): row
            for (kept, batch, depth), row in scores.items()
            if kept == held or batch == smallest
        }
        names = ("a larger batch alone", "depth alone")
        own_claims, _, table = two_by_two_evidence(
            study, own, names, "their interaction", "the gain from both"
        )
        claims += [claim.with_prefix(f"With {held}") for claim in own_claims]
        tables.append(dataclasses.replace(table, title=f"{table.title}, {held}"))
        for size in sorted({batch for batch, _ in own}):
            by_depth = {depth: row for (batch, depth), row in own.items() if batch == size}
            series.append(score_series(study, f"batch {size}, {held}", by_depth))
    return Answer(
        verdicts=assess_claims(claims),
        plots=(Plot("Score by depth", DEPTH_AXIS, SCORE_AXIS, tuple(series), log_x=True),),
        tables=(*tables, score_table(study, *BATCH_DEPTH)),
        notes=(
            SCORE_NOTE,
            "A larger contrastive batch has more samples per update and more negatives per sample. "
            "With updates held, the larger batch also sees more samples in total; with samples "
            "held, it makes fewer updates.",
        ),
    )
