"""Error rates of the statistics by simulation: false claims, power and coverage.

`python -m benchmarks.error_rates` writes `results/statistics/README.md`. Whole studies are
simulated and analysed by the code for real studies.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.simulated_studies import (
    NO_JUMP,
    NOISES,
    STEPS,
    Studies,
    by_depth,
    jump,
    normal,
    simulate,
)
from kilolayer.analysis.claims import NO_DIFFERENCE, Claim, assess_claims
from kilolayer.analysis.cost_curves import CostCurve, recommend_depth
from kilolayer.analysis.depth import (
    DepthScores,
    critical_depth,
    jump_p_values,
    monotonicity,
    saturation_depth,
)
from kilolayer.analysis.differences import (
    CellMeans,
    difference_of_means,
    mean_difference,
    permutation_p_value,
    sign_flip_p_value,
)
from kilolayer.analysis.statistics import (
    Estimate,
    improvement_p_value,
    interquartile_mean,
    mean_interval,
    probability_of_improvement,
    proportion_interval,
    stratified_bootstrap,
)
from kilolayer.analysis.threshold import steps_to_share_delay

PAGE = Path(__file__).parents[1] / "results" / "statistics" / "README.md"
SEEDS = (3, 5, 10)
LEVELS = (0.05, 0.1)
BATCH = 500  # studies at the same time, limited by memory
FEWEST = 20  # studies for a figure that takes long, unless fewer are requested


def found(scores: DepthScores, step: int, level: float) -> float:
    """Share of the studies that report the jump at the right step."""
    p = jump_p_values(scores)
    return float(((p.argmin(-1) == step - 1) & (p.min(-1) <= level)).mean())


@dataclass(frozen=True)
class Test:
    """p: of every study. null: means for which the claim is false, of which the worst is reported.
    alternative: means for which it is true; effect: their description. share: of the repeats, for
    slow tests."""

    name: str
    p: Callable[[Studies], np.ndarray]
    null: tuple[np.ndarray, ...]
    alternative: np.ndarray
    effect: str
    share: float = 1.0
    noises: tuple[str, ...] = tuple(NOISES)


def two_groups(studies: Studies) -> np.ndarray:
    parts = np.array_split(studies, max(1, len(studies) * studies.shape[-1] ** 2 // BATCH))
    return np.concatenate(
        [permutation_p_value(part[:, 1], part[:, 0], difference_of_means) for part in parts]
    )


def interaction(studies: Studies) -> np.ndarray:
    both = np.array([[1.0, -1, -1, 1], [-1.0, 1, 1, -1]])
    return np.minimum(1, 2 * by_depth(studies).cells.p_above_zero(both).min(-1))


def for_each(test: Callable[[np.ndarray], float]) -> Callable[[Studies], np.ndarray]:
    """Apply a test of one study to every study."""
    return lambda studies: np.array([test(study) for study in studies])


def saturates_at_16(study: np.ndarray) -> float:
    """p of the claim, 1 where another depth is claimed."""
    found = saturation_depth(by_depth(study))
    return found.p if found.depth.value == 16 else 1.0


def best_is_last(study: np.ndarray) -> float:
    scores = by_depth(study)
    curves = [
        CostCurve(int(depth), np.ones(1), mean[None], error[None], study.shape[-1])
        for depth, mean, error in zip(scores.depth, scores.mean, scores.error, strict=True)
    ]
    return recommend_depth(curves, 1).p


def delay(study: np.ndarray) -> float:
    """Curves that rise from 0 to 1 around step 15, each later by its score."""
    steps = np.arange(40.0)
    curves = 1 / (1 + np.exp(-(steps - 15 - 2 * study[..., None]) / 2))
    return steps_to_share_delay(
        steps, curves[1], curves[0], 0.5, np.random.default_rng(0), resamples=10
    ).p


def four_tasks(study: np.ndarray) -> float:
    return improvement_p_value(list(study[1::2]), list(study[::2]), np.random.default_rng(0))


def failures(study: np.ndarray) -> float:
    broken = study.sum(-1)
    table = np.stack([broken, study.shape[-1] - broken])
    return float(stats.fisher_exact(table)[1])  # type: ignore[arg-type]


def mostly_learn(study: np.ndarray) -> float:
    return float(stats.binomtest(int(study.sum()), study.shape[-1], 0.5).pvalue)


def rows_of(*rows: list[float]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(row, float) for row in rows)


FLAT = np.zeros(5)
TESTS = (
    Test("mean difference (permutations)", two_groups, rows_of([0, 0]),
         np.array([0, 1.5]), "1.5 SD"),
    Test("paired difference (sign flips)", lambda x: sign_flip_p_value(x[:, 1] - x[:, 0]),
         rows_of([0, 0]), np.array([0, 1.5]), "1.5 SD"),
    Test("interaction, two by two (Welch)", interaction, rows_of([0, 0, 0, 0], [0, 1, 1, 2]),
         np.array([0.0, 0, 0, 2]), "2 SD"),
    Test("a depth is critical (Welch)", lambda x: jump_p_values(by_depth(x)).min(-1),
         tuple(scale * mean for mean in NO_JUMP.values() for scale in (1, 5, 20)),
         5 * jump(0.85, 3), "0.85 of a gain of 5 SD"),
    Test("no depth is critical (Welch)", for_each(lambda x: critical_depth(by_depth(x)).p_gradual),
         (10 * NO_JUMP["two equal gains"], 10 * jump(0.6, 2), FLAT), 10 * STEPS / 4.0,
         "a line of 10 SD", 0.05),
    Test("shallowest with 90 % of the best (Welch)", for_each(saturates_at_16),
         rows_of([20, 60, 89, 100, 100], [20, 90, 92, 100, 100]),
         np.array([20.0, 60, 97, 100, 100]), "97 of 100 SD", 0.05,
         ("normal", "skewed", "unequal SD")),
    Test("the score decreases (Welch)", for_each(lambda x: monotonicity(by_depth(x)).decrease.p),
         (FLAT, STEPS.astype(float)), np.array([0, 2.0, 2, 2, -1]), "3 SD", 0.2),
    Test("every step is an increase (Welch)",
         for_each(lambda x: monotonicity(by_depth(x)).increase.p),
         rows_of([0, 3, 3, 6, 9]), 3.0 * STEPS, "3 SD per step", 0.2),
    Test("the best depth for a budget (Welch)", for_each(best_is_last),
         rows_of([0, 0, 0], [0, 3, 3]), np.array([0, 0, 3.0]), "3 SD", 0.2),
    Test("steps to a share (permutations)", for_each(delay), rows_of([0, 0]), np.array([0, 1.5]),
         "1.5 SD", 0.1),
    Test("improvement over four tasks (ranks)", for_each(four_tasks), (np.zeros(8),),
         np.array([0, 1.0] * 4), "1 SD on each", 0.1),
    Test("share of failed runs (Fisher)", for_each(failures), rows_of([0, 0]), np.array([0, 1.0]),
         "0.1 against 0.9", 0.5, ("binary",)),
    Test("most runs learn (binomial)", for_each(mostly_learn), rows_of([0]), np.array([0.0]),
         "none: probability 0.5", 0.5, ("binary",)),
)  # fmt: skip


def rates(
    test: Test, means: np.ndarray, noise: str, seeds: int, repeats: int, draw: np.random.Generator
) -> np.ndarray:
    """Share of studies with a significant claim, at each of the levels."""
    count = max(min(FEWEST, repeats), round(test.share * repeats))
    p = test.p(NOISES[noise](means, (count, len(means), seeds), draw))
    return np.array([(p <= level).mean() for level in LEVELS])


def test_rows(repeats: int, draw: np.random.Generator) -> list[str]:
    names = " | ".join(NOISES)
    rows = [
        f"| test | seeds | false: {names} | effect | power: normal | binary |",
        "|---|---|" + "---|" * len(NOISES) + "---|---|---|",
    ]
    for test in TESTS:
        for seeds in SEEDS:
            false = [_worst(test, noise, seeds, repeats, draw) for noise in NOISES]
            power = [
                _cell(rates(test, test.alternative, noise, seeds, repeats, draw))
                if noise in test.noises and not np.array_equal(test.alternative, test.null[0])
                else ""
                for noise in ("normal", "binary")
            ]
            cells = [test.name, str(seeds), *false, test.effect, *power]
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def _worst(test: Test, noise: str, seeds: int, repeats: int, draw: np.random.Generator) -> str:
    if noise not in test.noises:
        return ""
    found = [rates(test, means, noise, seeds, repeats, draw) for means in test.null]
    return _cell(np.max(found, axis=0))


def _cell(rate: np.ndarray) -> str:
    return f"{rate[0]:.3f} ({rate[1]:.3f})"


def shape_rows(repeats: int, draw: np.random.Generator) -> list[str]:
    """Of a critical depth on every shape without one, five seeds."""
    spreads = (0.05, 0.1, 0.3, 1.0)
    rows = [
        "| shape | " + " | ".join(f"SD {spread}" for spread in spreads) + " |",
        "|---|" + "---|" * len(spreads),
    ]
    for name, mean in NO_JUMP.items():
        p = [jump_p_values(simulate(mean, spread, 5, repeats, draw)).min(-1) for spread in spreads]
        cells = [_cell(np.array([(each <= level).mean() for level in LEVELS])) for each in p]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def power_rows(repeats: int, draw: np.random.Generator) -> list[str]:
    """Of a critical depth, by the share of the jump (third step), the SD and the seeds."""
    counts = (3, 5, 10, 20)
    rows = [
        "| share of the jump | SD | " + " | ".join(f"{n} seeds" for n in counts) + " |",
        "|---|---|" + "---|" * len(counts),
    ]
    for share in (0.7, 0.85, 1.0):
        for spread in (0.1, 0.2, 0.4):
            studies = [simulate(jump(share, 3), spread, n, repeats, draw) for n in counts]
            cells = [f"{found(s, 3, 0.05):.2f} ({found(s, 3, 0.1):.2f})" for s in studies]
            rows.append(f"| {share} | {spread} | " + " | ".join(cells) + " |")
    return rows


def margin_rows(repeats: int, draw: np.random.Generator) -> list[str]:
    """Share of the verdict "no difference that matters" if the difference is the margin, or 0."""
    rows = [
        "| seeds | false: normal, margin of 2 SD | binary, 0.95 against 0.75, margin "
        "0.2 | power: normal | binary, both 0.95 |",
        "|---|---|---|---|---|",
    ]
    for seeds in (5, 10, 20):
        cells = []
        for gap in (1.0, 0.0):
            shape = (repeats, 2, seeds)
            means = np.array([0.0, 2 * gap])
            chance = np.array([0.95, 0.95 - 0.2 * gap])[:, None]
            learnt = (draw.uniform(size=shape) < chance).astype(float)
            for studies, margin in ((normal(means, shape, draw), 2.0), (learnt, 0.2)):
                share = np.mean([_is_equivalent(study, margin) for study in studies])
                cells.append(f"{share:.3f}")
        rows.append(f"| {seeds} | {' | '.join(cells)} |")
    return rows


def _is_equivalent(study: np.ndarray, margin: float) -> bool:
    value = CellMeans.from_seeds(list(study)).estimate(np.array([-1.0, 1.0]))
    return assess_claims([Claim("", value, 1.0, 0, margin)])[0].strength == NO_DIFFERENCE


def coverage_rows(repeats: int, draw: np.random.Generator) -> list[str]:
    """Share of 95 % intervals that contain the truth: a mean of 0, a probability of 0.7."""
    rows = [
        "| interval | tasks | seeds | normal | binary, 0.7 |",
        "|---|---|---|---|---|",
    ]

    def add(name: str, tasks: int, seeds: int, interval: Callable, truths: tuple) -> None:
        hits = np.zeros(2)
        for _ in range(repeats):
            noise = draw.normal(size=(tasks, seeds))
            learnt = (draw.uniform(size=(tasks, seeds)) < 0.7).astype(float)
            for index, scores in enumerate((noise, learnt)):
                if truths[index] is not None:
                    found: Estimate = interval(scores)
                    hits[index] += found.low - 1e-9 <= truths[index] <= found.high + 1e-9
        cells = [
            "" if truth is None else f"{hit / repeats:.2f}"
            for truth, hit in zip(truths, hits, strict=True)
        ]
        rows.append(f"| {name} | {tasks} | {seeds} | {' | '.join(cells)} |")

    for seeds in SEEDS:
        add("mean (Student, cut to the range)", 1, seeds, lambda x: mean_interval(x[0]), (0, 0.7))
    for seeds in SEEDS:
        add("difference of means (Welch)", 2, seeds,
            lambda x: mean_difference(x[1], x[0]).estimate, (0, 0))  # fmt: skip
    for trials in (5, 20, 128):
        share = (None, 0.7)
        add("share of trials (Wilson)", 1, trials,
            lambda x: proportion_interval(int(x.sum()), x.size), share)  # fmt: skip
    for tasks, seeds in ((4, 3), (4, 5), (10, 3)):
        add("interquartile mean (bootstrap)", tasks, seeds, lambda x: stratified_bootstrap(
            list(x), interquartile_mean, draw, 300), (0, None))  # fmt: skip
    for tasks, seeds in ((2, 3), (2, 5), (8, 3)):
        add("probability of improvement (Newcombe)", tasks, seeds,
            lambda x: probability_of_improvement(list(x[::2]), list(x[1::2])),
            (0.5, 0.5))  # fmt: skip
    return rows


def page(repeats: int) -> str:
    parts = {
        "tests": (test_rows, repeats),
        "shapes": (shape_rows, repeats),
        "power": (power_rows, repeats),
        "margin": (margin_rows, max(min(FEWEST, repeats), repeats // 4)),
        "coverage": (coverage_rows, max(min(FEWEST, repeats), repeats // 10)),
    }
    text = TEMPLATE.replace("<repeats>", f"{repeats:,}")
    for name, (rows, count) in parts.items():
        found = rows(count, np.random.default_rng(0))
        text = text.replace(f"<{name}>", "\n".join(found))
    return text


TEMPLATE = """# Error rates and power of the statistical tests

Every statistical test of `kilolayer`, on simulated studies with known truth.
`python -m benchmarks.error_rates` writes this page (<repeats> studies per cell, fewer for slow
tests; some minutes of one core).

## False claims and power

A cell is the share of studies with p <= 0.05 for the claim, and in brackets with p <= 0.1. Under
*false* the claim is false, and the cell should be at most 0.05 (0.1); if several truths make it
false, the cell is the worst of them. Under *power* the claim is true, with the given effect in
standard deviations over seeds (SD). *Binary*: each seed scores 1 or 0; where groups differ, with
probabilities 0.1 and 0.9.

<tests>

- With three seeds against three p is at least 0.1, so the power at 0.05 is 0; with five sign flips
  p is at least 0.06.
- The worst of several truths is biased upward: the standard error of a cell near 0.05 is 0.005
  with 2,000 studies, and 0.02 with 100 studies of a slow test.
- Two groups of three seeds whose standard deviations differ threefold have a false rate above 0.1
  at the level 0.1.

## False critical depths

Five seeds; the standard deviation (SD) over seeds is in units of the total gain. The last four
shapes are the worst of all 583 shapes with steps of a quarter at the boundary of having a jump.

<shapes>

## Power to find a critical depth

The share of studies with the right step and p <= 0.05 (0.1). The rest of the gain is a straight
line.

<power>

## No difference that matters

Share of this verdict if the difference equals the margin (*false*), and without a difference
(*power*).

<margin>

Seeds that all agree have an interval of width 0. It is not evidence, for any number of seeds.

## Coverage of the 95 % intervals

Share of intervals that contain the truth.

<coverage>

Three binary seeds all agree in a third of the studies, and then have no interval. Tables give the
value and "all 3 seeds".
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2_000, help="studies for each figure")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write")
    options = parser.parse_args()
    text = page(options.repeats)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
