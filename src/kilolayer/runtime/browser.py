"""The browser of this machine, if it has one."""

import webbrowser


def open_page(address: str) -> bool:
    """Show a page; false if there is no browser here."""
    try:
        return webbrowser.open(address)
    except webbrowser.Error:
        return False
