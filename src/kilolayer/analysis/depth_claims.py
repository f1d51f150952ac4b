"""Claims about the effect of depth."""

from kilolayer.analysis.claims import Claim
from kilolayer.analysis.cost_curves import Recommendation
from kilolayer.analysis.depth import (
    MAJORITY,
    SATURATED,
    CriticalDepth,
    Monotonicity,
    Saturation,
)
from kilolayer.analysis.statistics import number_text


def critical_claim(critical: CriticalDepth, failed: int) -> Claim:
    """Whether one step in depth contributes more than half of the total gain from depth."""
    step = f"the step from depth {critical.shallower} to {critical.depth}"
    share = f"{step} contributes this share of the gain from depth:"
    statement = f"Depth {critical.depth} is critical: {share}"
    if critical.p_gradual < critical.p_jump:
        # A step wider than half of the range may contribute more than half of the gain.
        part = "half of the gain"
        if critical.widest > MAJORITY:
            part = f"both more than {part} and more than its share of the doublings in depth"
        statement = f"No depth is critical: no step contributes {part}; {share}"
    fallback = f"It is uncertain whether a depth is critical: {share}"
    p = min(critical.p_jump, critical.p_gradual)
    return Claim(statement, critical.share, p, failed, None, fallback)


def saturation_claim(saturation: Saturation, failed: int) -> Claim:
    """The shallowest depth whose score is close to the best score."""
    statement = f"The shallowest depth with {100 * SATURATED:.0f} % of the best score is"
    if saturation.depth.value == saturation.deepest:
        statement = (
            f"No saturation up to depth {saturation.deepest}: {statement[0].lower()}{statement[1:]}"
        )
    return Claim(statement, saturation.depth, saturation.p, failed, None)


def monotonicity_claim(trend: Monotonicity, failed: int) -> Claim:
    """Whether the score increases with every step or decreases somewhere; both cannot be true.

    Both can be false: two neighbouring depths may score equally. Then the first claim is made at
    its level, and the second at its level divided by the number of pairs. So p is multiplied by 1 +
    1 / pairs: for two depths it is the two-sided p-value.
    """
    increase, decrease = trend.increase, trend.decrease
    p = min(1.0, (1 + 1 / trend.pairs) * min(increase.p, decrease.p))
    step = f"from depth {decrease.shallower} to {decrease.deeper} the score changes by"
    if decrease.p <= increase.p:
        statement = f"Deeper is not always better: {step}"
        fallback = f"It is uncertain whether the score decreases with depth: {step}"
        return Claim(statement, decrease.estimate, p, failed, None, fallback)
    step = f"from depth {increase.shallower} to {increase.deeper}"
    statement = f"Every step in depth raises the score; the least certain step, {step}, by"
    fallback = f"Not every increase with depth is certain: {step} the score changes by"
    return Claim(statement, increase.estimate, p, failed, None, fallback)


def recommendation_claim(found: Recommendation, unit: str, failed: int) -> Claim:
    """Which depth to train for a budget in the given unit."""
    best = f"Within {number_text(found.budget)} {unit} depth {found.depth} scores best"
    others = [str(depth) for depth in found.candidates if depth != found.depth]
    verb = "depth {} is" if len(others) == 1 else "depths {} are"
    rivals = f", but {verb.format(' and '.join(others))} not significantly worse" if others else ""
    fallback = (
        f"{best}{rivals}; the shallowest candidate is depth {found.candidates[0]}; the lead "
        "over the next depth is"
    )
    statement = f"{best}, ahead of the next depth by"
    return Claim(statement, found.lead, found.p, failed, None, fallback)
