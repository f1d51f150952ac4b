"""Questions about depth, answered by grids of runs: questions, grids, executors, verdicts.

Offers `run.study`, which finishes the runs of a study directory and writes its answer, and
`questions.QUESTIONS`, the questions by name. A question of your own is a `question.Question` made
from `grid.Grid`. `executors` runs the grid as local processes, on Ray or on Slurm.
"""
