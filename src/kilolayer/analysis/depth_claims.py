"""Claims about the effect of depth."""

from kilolayer.analysis.claims import Claim
from kilolayer.analysis.cost import Recommendation
from kilolayer.analysis.depth import CriticalDepth, Monotonicity, Saturation


def critical_claim(found: CriticalDepth, failed: int) -> Claim:
    """Whether one step in depth brings more than half of the total gain from depth."""
    step = f"the step from depth {found.shallower} to {found.depth}"
    share = "this share of what depth brings:"
    says = f"Depth {found.depth} is critical: {step} brings {share}"
    if found.p_spread < found.p_jump:
        says = f"No depth is critical: no step brings half; {step} brings {share}"
    open_still = f"Whether a depth is critical stays open: {step} brings {share}"
    p = min(found.p_jump, found.p_spread)
    return Claim(says, found.share, p, failed, None, open_still)


def saturation_claim(found: Saturation, failed: int) -> Claim:
    """The shallowest depth whose score is close to the best score."""
    says = f"The shallowest depth with {100 * found.share:.0f} % of the best score is"
    if found.depth.value == found.deepest:
        says = f"No saturation up to depth {found.deepest}: {says[0].lower()}{says[1:]}"
    return Claim(says, found.depth, found.p, failed, None)


def monotonicity_claim(found: Monotonicity, failed: int) -> Claim:
    """Whether the score rises with every step in depth or falls somewhere; both cannot be true."""
    rise, fall = found.rise, found.fall
    clearest = f"from depth {fall.shallower} to {fall.deeper}"
    if fall.p <= rise.p:
        says = f"Deeper is not always better: {clearest} the score changes by"
        open_still = f"A fall with depth is not certain: {clearest} the score changes by"
        return Claim(says, fall.value, fall.p, failed, None, open_still)
    least = f"from depth {rise.shallower} to {rise.deeper}"
    says = f"Every step in depth raises the score; the least certain, {least}, by"
    open_still = f"Not every rise with depth is certain: {least} the score changes by"
    return Claim(says, rise.value, rise.p, failed, None, open_still)


def recommendation_claim(found: Recommendation, unit: str, failed: int) -> Claim:
    """Which depth to train for a budget in the given unit."""
    says = f"Within {found.budget:g} {unit} depth {found.depth} scores best, ahead of the next by"
    others = ", ".join(str(depth) for depth in found.rivals if depth != found.depth)
    open_still = (
        f"Within {found.budget:g} {unit} depth {found.depth} scores best, but {others or 'others'} "
        f"may do as well, depth {found.enough} the shallowest; it is ahead of the next by"
    )
    return Claim(says, found.lead, found.p, failed, None, open_still)
