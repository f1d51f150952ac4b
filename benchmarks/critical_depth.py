"""How often the statistics err: false alarms and power of a critical depth, coverage of intervals.

`python -m benchmarks.critical_depth` prints the tables of `results/published_curves/method.md`.
Scores are normal, or each seed either learns or does not, which is worse for a test of means.
"""

import argparse
from collections.abc import Callable

import numpy as np

from kilolayer.analysis.depth import jump_p_values
from kilolayer.analysis.depth_scores import DepthScores
from kilolayer.analysis.statistics import Estimate, interquartile_mean, stratified_bootstrap

DEPTHS = np.array([4, 8, 16, 32, 64])
STEPS = np.arange(len(DEPTHS))
LEVELS = (0.01, 0.05, 0.1)

Statistic = Callable[[np.ndarray], np.ndarray]


def logistic(width: float, centre: float) -> np.ndarray:
    """Rises from 10 to 90 percent within `width` doublings around `centre` doublings of 4."""
    return 1 / (1 + np.exp(-2 * np.log(9) / width * (STEPS - centre)))


# Mean scores by depth, up to scale.
SMOOTH = {
    "straight line": STEPS / 4.0,
    "flat": np.zeros(5),
    "saturating, each gain 0.6 of the last": 1 - 0.6**STEPS,
    "S-curve over 3 doublings": logistic(3, 1.5),
    "rise of two equal gains": np.array([0, 0.5, 1, 1, 1]),
    "rise, then fall": np.array([0, 0.35, 0.7, 0.7, 0.3]),
}
OUTSIDE = {
    "S-curve over 2 doublings": logistic(2, 1.5),
    "proportional to depth": DEPTHS / 64,
    "saturating as 1/depth": 1 - 4 / DEPTHS,
}


def shares(mean: np.ndarray) -> np.ndarray:
    """Each step's gain over the range of the curve, `[depths] -> [depths - 1]`."""
    return np.diff(mean) / (np.ptp(mean) or 1)


def jump(share: float, step: int) -> np.ndarray:
    """A straight line with one step, in front of depth `step`, that brings `share` of the gain."""
    gains = np.full(4, (1 - share) / 3)
    gains[step - 1] = share
    return np.concatenate([[0], gains.cumsum()])


def simulate(
    mean: np.ndarray, spread: float, seeds: int, repeats: int, generator: np.random.Generator
) -> DepthScores:
    """Whole studies, each seed normal around the mean with a deviation of `spread`."""
    return summary(mean + spread * generator.normal(size=(seeds, repeats, len(mean))))


def simulate_learning(
    chance: np.ndarray, seeds: int, repeats: int, generator: np.random.Generator
) -> DepthScores:
    """Whole studies in which a seed learns with the given chance, scoring 1, or else 0."""
    learns = generator.uniform(size=(seeds, repeats, len(chance))) < chance
    return summary(learns + 0.05 * generator.normal(size=learns.shape))


def summary(scores: np.ndarray) -> DepthScores:
    """Scores `[seeds, repeats, depths]` as repeated studies."""
    seeds, depths = scores.shape[0], scores.shape[-1]
    error = scores.std(0, ddof=1) / np.sqrt(seeds)
    return DepthScores(4 * 2 ** np.arange(depths), scores.mean(0), error, np.full(depths, seeds))


def alarms(scores: DepthScores) -> list[float]:
    """Share of the studies that report any jump, at each of the levels."""
    p = jump_p_values(scores).min(-1)
    return [float((p <= level).mean()) for level in LEVELS]


def found(scores: DepthScores, step: int, level: float) -> float:
    """Share of the studies that report the jump at the right step."""
    p = jump_p_values(scores)
    return float(((p.argmin(-1) == step - 1) & (p.min(-1) <= level)).mean())


def step_beside_line(scores: DepthScores, null: DepthScores, level: float) -> float:
    """For comparison: how often the best step beside a straight line improves on the line alone.

    The usual test for a break. Sum of squared residuals over the pooled variance; its critical
    value is that of `null`, studies that are straight lines.
    """

    def statistic(studies: DepthScores) -> np.ndarray:
        line = np.stack([np.ones(5), STEPS], -1)

        def residual(design: np.ndarray) -> np.ndarray:
            fitted = studies.mean @ (design @ np.linalg.pinv(design)).T
            return ((studies.mean - fitted) ** 2).sum(-1)

        steps = [residual(np.column_stack([line, k <= STEPS])) for k in range(1, 5)]
        return (residual(line) - np.min(steps, 0)) / (studies.error**2).mean(-1)

    return float((statistic(scores) > np.quantile(statistic(null), 1 - level)).mean())


def false_alarm_rows(repeats: int, generator: np.random.Generator) -> list[str]:
    """Five seeds; deviations of seeds of a tenth and of three tenths of the gain."""
    rows = [
        "| trend | largest share | spread | p <= 0.01 | 0.05 | 0.1 | break test, 0.05 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, mean in (SMOOTH | OUTSIDE).items():
        for spread in (0.1, 0.3):
            scores = simulate(mean, spread, 5, repeats, generator)
            null = simulate(STEPS / 4.0, spread, 5, repeats, generator)
            rates = " | ".join(f"{rate:.3f}" for rate in alarms(scores))
            usual = step_beside_line(scores, null, 0.05)
            largest = shares(mean).max()
            rows.append(f"| {name} | {largest:.2f} | {spread} | {rates} | {usual:.2f} |")
    learning = {"straight line": 0.1 + 0.2 * STEPS, "S-curve over 3 doublings": logistic(3, 1.5)}
    for name, chance in learning.items():
        rates = alarms(simulate_learning(chance, 5, repeats, generator))
        cells = " | ".join(f"{rate:.3f}" for rate in rates)
        largest = shares(chance).max()
        rows.append(f"| {name}, chance that a seed learns | {largest:.2f} | | {cells} | |")
    three = simulate(np.array([0, 0.5, 1]), 0.3, 5, repeats, generator)
    rates = " | ".join(f"{rate:.3f}" for rate in alarms(three))
    return [*rows, f"| straight line, three depths | 0.50 | 0.3 | {rates} | |"]


def power_rows(repeats: int, generator: np.random.Generator) -> list[str]:
    """Power at 0.05 and 0.1 by the share of the jump (third step), the spread and the seeds."""
    counts = (3, 5, 10, 20)
    rows = [
        "| share of the jump | spread | " + " | ".join(f"{n} seeds" for n in counts) + " |",
        "|---|---|" + "---|" * len(counts),
    ]
    for share in (0.7, 0.85, 1.0):
        for spread in (0.1, 0.2, 0.4):
            studies = [simulate(jump(share, 3), spread, n, repeats, generator) for n in counts]
            cells = [f"{found(s, 3, 0.05):.2f} ({found(s, 3, 0.1):.2f})" for s in studies]
            rows.append(f"| {share} | {spread} | " + " | ".join(cells) + " |")
    return rows


def coverage_rows(repeats: int, generator: np.random.Generator) -> list[str]:
    """How often 95 % bootstrap intervals hold the truth: expanded as here, and plain."""
    rows = [
        "| tasks | seeds | normal, interquartile mean | (plain) | 70 % learn, mean | (plain) |",
        "|---|---|---|---|---|---|",
    ]
    for tasks, seeds in ((1, 3), (1, 5), (1, 10), (4, 3), (4, 5), (10, 3), (10, 5)):
        spread, hits = np.linspace(1, 3, tasks)[:, None], np.zeros(4)
        for _ in range(repeats):
            noise = generator.normal(size=(tasks, seeds))
            learns = (generator.uniform(size=(tasks, seeds)) < 0.7) + 0.1 * noise
            normal = intervals(spread * noise, interquartile_mean, generator)
            mixed = intervals(learns, mean_of_all, generator)
            held = [each.low <= 0 <= each.high for each in normal]
            hits += held + [each.low <= 0.7 <= each.high for each in mixed]
        cells = " | ".join(f"{hit:.2f}" for hit in hits / repeats)
        rows.append(f"| {tasks} | {seeds} | {cells} |")
    return rows


def mean_of_all(scores: np.ndarray) -> np.ndarray:
    return scores.mean(-1)


def intervals(
    scores: np.ndarray, statistic: Statistic, generator: np.random.Generator
) -> tuple[Estimate, Estimate]:
    """The interval of the package, and plain percentiles of the same kind of resamples."""
    seeds = scores.shape[-1]
    drawn = [row[generator.integers(seeds, size=(300, seeds))] for row in scores]
    low, high = np.quantile(statistic(np.concatenate(drawn, -1)), [0.025, 0.975])
    expanded = stratified_bootstrap(list(scores), statistic, generator, resamples=300)
    return expanded, Estimate(expanded.value, float(low), float(high), seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20_000, help="studies for each row")
    repeats = parser.parse_args().repeats
    generator = np.random.default_rng(0)
    print("\n".join(false_alarm_rows(repeats, generator)), "\n")
    print("\n".join(power_rows(repeats, generator)), "\n")
    print("\n".join(coverage_rows(max(1, repeats // 10), generator)))


if __name__ == "__main__":
    main()
