"""Findings in plain words: each a sentence with its strength."""

from dataclasses import dataclass

from kilolayer.analysis.cost import Comparison, Recommendation
from kilolayer.analysis.depth import CriticalDepth, Monotonicity, Saturation
from kilolayer.analysis.statistics import Estimate

NOT_ENOUGH = "not enough seeds to tell"
STRENGTHS = ((0.01, "strong"), (0.05, "moderate"), (0.1, "weak"))


@dataclass(frozen=True)
class Verdict:
    """strength: strong, moderate or weak evidence (p at most 0.01, 0.05, 0.1), or NOT_ENOUGH."""

    sentence: str
    strength: str

    def __str__(self) -> str:
        return f"{self.sentence} ({self.strength})"


def strength(p: float) -> str:
    """The word for a p-value."""
    return next((word for bound, word in STRENGTHS if p <= bound), NOT_ENOUGH)


def critical_verdict(found: CriticalDepth) -> Verdict:
    """Whether one step in depth brings more than half of what depth brings."""
    step = f"from depth {found.shallower} to {found.depth}"
    share = f"{_percent(found.share)} of what depth brings"
    jump, spread = strength(found.p_jump), strength(found.p_spread)
    if jump != NOT_ENOUGH:
        return Verdict(
            f"Depth {found.depth} is critical: the step {step} brings {share}, "
            f"p = {found.p_jump:.2g}.",
            jump,
        )
    if spread != NOT_ENOUGH:
        return Verdict(
            f"No depth is critical: no step brings half of what depth brings, "
            f"p = {found.p_spread:.2g}; from the shallowest depth to the deepest the score changes "
            f"by {found.whole_gain}.",
            spread,
        )
    return Verdict(
        f"Whether a depth is critical stays open: the step {step} brings {share}, where more "
        f"than half would be a jump, p = {found.p_jump:.2g}.",
        NOT_ENOUGH,
    )


def saturation_verdict(found: Saturation) -> Verdict:
    """From which depth on the score is close to the best; moderate where one depth alone fits."""
    percent = f"{100 * found.share:.0f} %"
    if found.depth == found.deepest:
        sentence = (
            f"No saturation up to depth {found.deepest}: only the deepest network has {percent} "
            "of the best score"
        )
    else:
        sentence = f"Depth {found.depth} is the shallowest with {percent} of the best score"
    if found.low == found.high:
        return Verdict(f"{sentence}, and no other depth fits the data.", "moderate")
    return Verdict(f"{sentence}; the data allow depths {found.low} to {found.high}.", NOT_ENOUGH)


def monotonicity_verdict(found: Monotonicity) -> Verdict:
    """Whether deeper is better throughout, or falls somewhere."""
    rise, fall = strength(found.p_rise), strength(found.p_fall)
    if fall != NOT_ENOUGH:
        return Verdict(
            f"Deeper is not always better: from depth {found.shallower} to {found.deeper} the "
            f"score changes by {found.change}, p = {found.p_fall:.2g}.",
            fall,
        )
    if rise != NOT_ENOUGH:
        return Verdict(f"Every step in depth raises the score, p = {found.p_rise:.2g}.", rise)
    return Verdict(
        "The score falls nowhere for certain, and not every rise is certain.", NOT_ENOUGH
    )


def comparison_verdict(found: Comparison, cost: str) -> Verdict:
    """Which of two depths is ahead at equal cost, such as "wall-clock", on how many tasks."""
    tasks = len(found.ahead)
    behind = sum(estimate.value < 0 for estimate in found.ahead.values())
    clearly_ahead = sum(estimate.low > 0 for estimate in found.ahead.values())
    clearly_behind = sum(estimate.high < 0 for estimate in found.ahead.values())
    if found.wins * 2 > tasks:
        result = f"depth {found.shallower} beats depth {found.deeper} on most tasks"
    elif behind * 2 > tasks:
        result = f"depth {found.deeper} beats depth {found.shallower} on most tasks"
    else:
        result = f"neither depth {found.shallower} nor {found.deeper} wins most tasks"
    return Verdict(
        f"At equal {cost} {result}: depth {found.shallower} is ahead on {found.wins} of {tasks} "
        f"({clearly_ahead} beyond the 95 % interval), depth {found.deeper} on {behind} "
        f"({clearly_behind}); sign test p = {found.p:.2g}.",
        strength(found.p),
    )


def recommendation_verdict(found: Recommendation, unit: str) -> Verdict:
    """Which depth to take for a budget in the given unit."""
    best = f"Within {found.budget:g} {unit} depth {found.depth} scores best"
    others = [depth for depth in found.rivals if depth != found.depth]
    if not others:
        return Verdict(f"{best}, and every other depth is clearly worse.", "moderate")
    names = ", ".join(map(str, others))
    shallowest = (
        f"{best}; {names} cannot be told from it, and depth {found.enough} is the shallowest"
    )
    return Verdict(f"{shallowest} that may do.", NOT_ENOUGH)


def _percent(share: Estimate) -> str:
    return (
        f"{100 * share.value:.0f} % (95 %: {100 * share.low:.0f} to {100 * share.high:.0f}; "
        f"{share.seeds} seeds)"
    )
