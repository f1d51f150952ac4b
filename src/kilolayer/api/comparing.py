"""Compare runs, and forecast what a run will cost."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from kilolayer.analysis.answer import Answer
from kilolayer.analysis.compare import compare_groups, load_groups
from kilolayer.config import RunConfig
from kilolayer.forecasting.forecast import Forecast, forecast_run
from kilolayer.recommendations import recommended
from kilolayer.runtime.devices import THIS_MACHINE
from kilolayer.runtime.files import require_file
from kilolayer.runtime.progress import make_display


def forecast(
    config: RunConfig | None = None,
    device: str = THIS_MACHINE,
    devices: int | None = None,
    calibration: bool = True,
    progress: bool = True,
) -> Forecast:
    """Forecast what training a config will cost and whether it fits, without training.

    config: by default `recommended()`. device: `cpu`, this machine, or an accelerator's name.
    devices: their number. calibration: time a few updates and steps on this machine, about 20
    seconds. Raises UserError for a config that cannot be run or a device that is not known.
    """
    with closing(make_display(progress)) as display:
        return forecast_run(config or recommended(), device, devices, calibration, display)


def compare(runs: Sequence[str | Path], out: str | Path | None = None) -> Answer:
    """Compare runs; runs that differ only by their seed form a group.

    out: the .html page to write, if any. Raises UserError for fewer than two runs, a run given
    twice, a run without an evaluation, and runs of one task with different task settings.
    """
    if out is not None:
        require_file(Path(out), ".html")
    groups = load_groups(runs)
    answer = compare_groups(groups)
    if out is not None:
        from kilolayer.report.compare_report import write_comparison

        write_comparison(groups, answer, Path(out))
    return answer
