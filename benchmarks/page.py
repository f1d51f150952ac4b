"""The page of figures: docs/performance.md from what was measured."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.measure import Figures, Row, busy, machine
from benchmarks.parts import Profile


@dataclass(frozen=True)
class Measured:
    """One run of all benchmarks.

    width: of the headline, narrow: of the sweep over depth; the batch is as large. ways: seconds
    and bytes of the headline's update in other ways. round_parts: seconds of parts of a round.
    """

    sweep: list[Row]
    headline: Row
    profile: Profile
    ways: dict[str, tuple[float, int]]
    energies: list[Row]
    hindsight: list[Row]
    collection: list[Row]
    round_parts: dict[str, float]
    width: int
    narrow: int
    load: float
    minutes: float


def page(found: Measured) -> str:
    repeats = len(found.headline.ours.seconds)
    spread = max(
        figures.spread
        for row in (*found.sweep, found.headline, *found.energies, *found.hindsight)
        for figures in (row.ours, row.yardstick)
        if figures is not None
    )
    width, depth = found.width, found.headline.size
    return f"""# Performance

![Time and memory against depth and batch size, and the parts of an update](performance.png)

Made by `make bench` in {found.minutes:.0f} minutes on {machine()}.
{busy(found.load)}
Each figure is compared with a straightforward implementation of the same job
(`benchmarks/yardsticks.py`, the *yardstick*; tests check that both give equal results). The two
alternate in one process.
Medians of {repeats} repeats, which differ from them by at most {100 * spread:.0f} %; ratios are of
medians. Memory is what the compiled program reports.

## Aims

{aims(found)}

## One update of actor and critic against depth

Width {found.narrow}, batch {found.narrow}, no activation checkpointing. The yardstick is a
Python loop over layers with separate parameters, energies by broadcast, and goals encoded
separately for each loss. It is left out where compiling it would take more than about a minute.
*Memory*: arguments, results and temporaries. *Resident*: growth of the process.

{sweep_table(found.sweep)}

Depth {depth}, width {width}, batch {width}:

{sweep_table([found.headline])}

## Time of that update by part

{profile_text(found.profile)}

{limits(found)}

Other ways to run the same update (`python -m benchmarks.deep_stack` measures them at other depths):

{ways_table(found.ways)}

On a GPU an update waits for kernels to start. [How many they are, and how lean gradients save five
of six](../results/gpu/lean.md).

## Pairwise energies, forward and backward

Encodings of 64 numbers; the yardstick builds the `[batch, batch, 64]` array of differences.
Memory excludes arguments and results.

{comparison_table("batch", found.energies)}

## Hindsight sampling, per transition

From a full buffer of ants. The yardstick draws each goal from a row of a `[time, time]` matrix, for
whole trajectories of one episode. Memory is for one batch.

{comparison_table("batch", found.hindsight)}

## Ants and training, steps per second

{collection_table(found.collection)}

- *physics*: MuJoCo's batch on all cores, random actions; yardstick: one after the other.
- *rollout*: policy of depth 4 and width {width}, physics, observation, reset and insertion in one
  program; yardstick: one call from Python per control step.
- *round*: environment steps per second of complete training, one update per 40 steps;
  yardstick: all yardsticks of this page combined.

A round spends {shares(found.round_parts)}. {overlap(found.round_parts)}
"""


def aims(found: Measured) -> str:
    """What was asked for, what was found."""
    deepest, energies = found.sweep[-1], _nearest(found.energies, 2048)
    shallow, least, most = _nearest(found.sweep, 16), found.hindsight[0], found.hindsight[-1]
    seconds, headline = deepest.ours.compile_seconds, found.headline
    growth = seconds / shallow.ours.compile_seconds
    batches = most.size / least.size
    bytes_per_item = most.ours.temporary_bytes / least.ours.temporary_bytes / batches
    update = f"update at depth {headline.size}, width {found.width}, batch {found.width}"
    compiles = f"trace and compile at depth {deepest.size}"
    lines = (
        (f"{compiles}: at most 1.5 times depth {shallow.size}", f"{growth:.2f}", growth <= 1.5),
        (f"{compiles}: less than 25 s", f"{seconds:.1f} s", seconds < 25),
        _at_least(15, f"energies at batch {energies.size}: times faster", energies.speed),
        _at_least(15, f"energies at batch {energies.size}: times smaller", energies.shrinkage),
        _at_least(30, f"hindsight at batch {least.size}: times faster", least.speed),
        (
            f"hindsight: memory each, batch {most.size} against {least.size}, at most 1.25",
            f"{bytes_per_item:.2f}",
            bytes_per_item <= 1.25,
        ),
        _at_least(1.3, f"{update}: times faster", headline.speed),
    )
    return table(
        ("aim", "measured", ""), [(*line[:2], "met" if line[2] else "missed") for line in lines]
    )


def _nearest(rows: Sequence[Row], size: int) -> Row:
    return min(rows, key=lambda row: abs(row.size - size))


def _at_least(wanted: float, text: str, value: float | None) -> tuple[str, str, bool]:
    value = value or 0.0
    return f"{text}, at least {wanted:g}", f"{value:.2f}", value >= wanted


def sweep_table(rows: Sequence[Row]) -> str:
    def cells(row: Row) -> Iterable[str]:
        yield str(row.size)
        for read in (
            lambda figures: duration(figures.compile_seconds),
            lambda figures: duration(figures.each),
            lambda figures: size(figures.peak_bytes),
        ):
            yield read(row.ours)
            yield read(row.yardstick) if row.yardstick else ""
        yield size(row.ours.resident_bytes)
        yield ratio(row.speed)

    header = "depth", "compile", "yardstick", "update", "yardstick", "memory", "yardstick"
    return table((*header, "resident", "times faster"), map(cells, rows))


def profile_text(profile: Profile) -> str:
    def lines(parts: dict[str, float]) -> str:
        rows = [
            (name, duration(seconds), f"{100 * seconds / profile.update:.0f} %")
            for name, seconds in parts.items()
        ]
        return table(("part", "time", "share"), rows)

    operations, peak = (f"{value / 1e9:.3g}" for value in (profile.operations, profile.peak))
    share, products = (
        f"{100 * profile.operations / seconds / profile.peak:.0f} %"
        for seconds in (profile.update, profile.by_kind["matrix products"])
    )
    return f"""The matrix products of an update are {operations} billion operations.
This machine does {peak} billion a second in one large float32 product. The update reaches
**{share}** of that, its matrix products alone {products}. Parts are timed
separately; the remainder is the whole minus the parts.

{lines(profile.by_phase)}

{lines(profile.by_kind)}"""


def limits(found: Measured) -> str:
    """How far the update is from what no formulation could better, and what its batch costs."""
    profile, yardstick = found.profile, found.headline.yardstick
    assert yardstick is not None
    bound = yardstick.each / (profile.operations / profile.peak)
    drawing = duration(_nearest(found.hindsight, found.width).ours.each * found.width)
    return f"""Upper bound: with its matrix products at the peak rate and everything else free, the
update would be {bound:.2f} times as fast as the yardstick. Drawing its batch
takes {drawing} beside it."""


def ways_table(ways: dict[str, tuple[float, int]]) -> str:
    first = next(iter(ways.values()), (0.0, 0))
    rows = [
        (
            name,
            duration(seconds),
            size(count),
            f"{seconds / first[0]:.2f}",
            f"{count / first[1]:.2f}",
        )
        for name, (seconds, count) in ways.items()
    ]
    return table(("way", "update", "memory", "time to first", "memory to first"), rows)


def comparison_table(what: str, rows: Sequence[Row]) -> str:
    def cells(row: Row) -> Iterable[str]:
        yield str(row.size)
        for read in (
            lambda figures: duration(figures.each),
            lambda figures: size(figures.temporary_bytes),
        ):
            yield read(row.ours)
            yield read(row.yardstick) if row.yardstick else "too large"
        yield from (ratio(row.speed), ratio(row.shrinkage))

    header = "time", "yardstick", "memory", "yardstick", "times faster", "times smaller"
    return table((what, *header), map(cells, rows))


def collection_table(rows: Sequence[Row]) -> str:
    def rate(figures: Figures | None) -> str:
        return f"{1 / figures.each:,.0f}" if figures else ""

    cells = [(row.name, rate(row.ours), rate(row.yardstick), ratio(row.speed)) for row in rows]
    return table((f"{rows[0].size} environments", "steps/s", "yardstick", "times faster"), cells)


def shares(parts: dict[str, float]) -> str:
    total = sum(parts.values())
    return ", ".join(f"{100 * each / total:.0f} % on {name}" for name, each in parts.items())


def overlap(parts: dict[str, float]) -> str:
    """What the policy of half of the environments beside the physics of the others could save."""
    bound = min(parts["physics"], parts["policy"]) / sum(parts.values())
    return (
        "Overlapping the policy of one half of the environments with the physics of the other half "
        f"would save {100 * bound:.1f} % of a round at best. On a CPU both need the same cores, so "
        "nothing is gained."
    )


def table(header: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """Text in the first column, numbers in the others."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def duration(seconds: float) -> str:
    """Three digits with the unit that suits."""
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if abs(seconds) * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def size(count: int | None) -> str:
    """Bytes, three digits with the unit that suits."""
    if count is None:
        return ""
    for factor, unit in ((1e9, "GB"), (1e6, "MB")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
