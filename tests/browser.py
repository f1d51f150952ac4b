"""A headless Chromium that tests steer by its debugging pipe: JSON, each message ended by a NUL."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

needs_browser = pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser here")


class Browser:
    """One tab. `console` holds what the page complained of."""

    def __init__(self, to_browser: int, from_browser: int):
        self._out, self._in = os.fdopen(to_browser, "wb"), os.fdopen(from_browser, "rb")
        self._next, self._rest, self._session = 0, b"", None
        self.console: list[str] = []

    def open(self, url: str, width: int = 1100, height: int = 1000, scheme: str = "light") -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.call("Log.enable")
        self.call("Runtime.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url=url)
        self.wait_for("location.href != 'about:blank' && document.readyState == 'complete'")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._next += 1
        message = {"id": self._next, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while (answer := self._read()).get("id") != self._next:
            if answer.get("method") == "Log.entryAdded":
                self.console.append(answer["params"]["entry"]["text"])
            if answer.get("method") == "Runtime.exceptionThrown":
                self.console.append(str(answer["params"]["exceptionDetails"]))
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = os.read(self._in.fileno(), 65536)
            assert chunk, "the browser has gone"
            self._rest += chunk
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def evaluate(self, script: str) -> Any:
        """The JSON value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, script: str, seconds: float = 120) -> Any:
        """The value of an expression once it is true. A scene drawn in software on a busy machine
        takes seconds for a frame."""
        until = time.monotonic() + seconds
        while not (value := self.evaluate(script)):
            if time.monotonic() > until:
                pytest.fail(
                    f"{script} stayed {value!r}:\n{self.evaluate('document.body.innerText')}"
                )
            time.sleep(0.1)
        return value

    def click(self, x: float, y: float) -> None:
        """A true click of the left button, in pixels of the window."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key)

    def screenshot(self, path: Path) -> None:
        # Beyond the viewport the page would be laid out anew, its canvas perhaps in another size.
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=False)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A fresh browser that keeps its files under `profile`, ended afterwards."""
    browser_in, to_browser = os.pipe()
    from_browser, browser_out = os.pipe()
    command = [
        "chromium", "--headless", "--no-sandbox", "--remote-debugging-pipe", "--use-gl=angle",
        "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
        "--disable-background-networking", f"--user-data-dir={profile}", "about:blank",
    ]  # fmt: skip
    # Chromium reads its pipe 3 and writes its pipe 4.
    shell = ["bash", "-c", f'exec "$@" 3<&{browser_in} 4>&{browser_out}', "bash", *command]
    process = subprocess.Popen(shell, pass_fds=(browser_in, browser_out), stderr=subprocess.DEVNULL)
    os.close(browser_in)
    os.close(browser_out)
    steered = Browser(to_browser, from_browser)
    try:
        yield steered
    finally:
        steered._out.close()
        steered._in.close()
        process.terminate()
        process.wait()
