"""Policies that compute less: pruned, distilled, or with early exit.

Offers `prune.prune`, `distil.distil` and `early_exit.EarlyExit`. The first two write smaller
policies as policy directories; early exit computes fewer blocks of an unchanged policy. `influence`
rates the blocks of a policy on states that the policy visits.
"""
