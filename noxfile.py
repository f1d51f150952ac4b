"""The tests on every supported Python: `pip install nox`, then `nox`, or `nox -s tests-3.12`.

An interpreter that this machine lacks is skipped. Arguments after `--` go to pytest.
"""

import nox

nox.options.error_on_missing_interpreters = False


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    session.install("--constraint", "constraints.txt", "--editable", ".[dev]")
    session.env["KILOLAYER_EVERY_TASK"] = "1"  # as many as `make test` leaves out for time
    session.run("python", "-m", "pytest", "-n", "2", "--dist", "loadfile", *session.posargs)
