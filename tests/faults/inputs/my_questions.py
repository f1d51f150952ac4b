"""Questions of a user's own, each wrong in one place, made by `module:name`."""

import dataclasses

from kilolayer.studies.questions import QUESTIONS

GOOD = QUESTIONS["depth"]()


def having(**changed):
    return lambda: dataclasses.replace(GOOD, **changed)


good = having()
number = lambda: 3  # noqa: E731
name_number = having(name=3)
setups_list = having(setups=[])
setups_none = having(setups=None)
setups_other = having(setups={"huge": GOOD.setups["quick"]})
setups_text = having(setups={"quick": "small"})
grids_none = having(grids=None)
grids_empty = having(grids=lambda setup: [])
grids_nothing = having(grids=lambda setup: None)
grids_texts = having(grids=lambda setup: ["depth"])
grids_fail = having(grids=lambda setup: setup.no_such_thing)
grids_unknown_field = having(grids=lambda setup: [setup.grid({}, no_such_setting=3)])
grids_want_more = having(grids=lambda setup, more: [])
analyse_text = having(analyse="mean")
