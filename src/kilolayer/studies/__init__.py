"""Questions about depth, answered with grids of runs: questions, grids, executors, verdicts."""
