"""What a run will cost before it is launched: arithmetic, memory, disk and hours.

Knows the config and the training programs, of which it compiles a round and times a little; writes
nothing. Offers `forecast_run`, and the counts of single updates and actions, to the API and the
studies.
"""
