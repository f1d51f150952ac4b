"""The browser of this machine, if it has one."""

import webbrowser


def open_page(address: str) -> bool:
    """Open a page in the browser; returns False if this machine has no browser."""
    try:
        return webbrowser.open(address)
    except webbrowser.Error:
        return False
