"""The commands that turn a trained run into a policy to deploy: like `cli.py`, no logic."""

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

OUTPUT = Console(highlight=False, soft_wrap=True)

PolicyPath = tyro.conf.Positional[Path]


def serve(
    run: PolicyPath,
    student: Path | None = None,
    port: int = 8765,
    open_browser: Annotated[bool, tyro.conf.arg(name="open")] = False,
    seed: int = 0,
) -> None:
    """Open a page on this machine where you click a goal and watch the agent go; Ctrl-C ends it.

    The page shows the maze or the ground from above, the critic's map for the goal, the time until
    it was reached and the latency of the policy in this process: one observation in, one action
    out. Where a student is given, it starts beside the teacher, with the same goal and one clock.

    Only this machine can reach the page. From another: ssh -L 8765:localhost:8765 HOST.

    Args:
        run: The run directory, or a policy directory, which has no critic and so no map.
        student: A run or a policy directory to watch beside it.
        port: Where the page answers, 127.0.0.1:PORT; 0 takes any that is free.
        open_browser: Open the page in the default browser.
        seed: Seed of the starts.
    """
    from kilolayer.deploy.open_session import open_session
    from kilolayer.deploy.serve import PageServer
    from kilolayer.runtime.progress import LiveDisplay

    display = LiveDisplay()
    try:
        display.phase("open")
        session = open_session(run, student, seed=seed)
        with PageServer(session, port) as server:
            session.warm_up(display)
            display.close()
            OUTPUT.print(f"page  {server.url}   Ctrl-C ends it")
            if open_browser and not _opened(server.url):
                OUTPUT.print("no browser was found: open the address by hand")
            server.run()
    except KeyboardInterrupt:
        pass  # the way to end it
    finally:
        display.close()


def _opened(url: str) -> bool:
    import webbrowser

    try:
        return webbrowser.open(url)
    except webbrowser.Error:
        return False


COMMANDS = {"serve": serve}
