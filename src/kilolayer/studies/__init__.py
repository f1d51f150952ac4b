"""Answer questions about depth with grids of runs: questions, grids, executors, verdicts."""
