"""A real headless Chromium that signs in by the form and looks at the page, over its DevTools pipe."""

import base64
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any


class Browser:
    """Chromium with one empty page. It is spoken to over file descriptors 3 and 4 (`--remote-debugging-pipe`)."""

    def __init__(self, binary: str, profile: Path) -> None:
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()

        def arrange() -> None:
            first, second = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(first, 3)
            os.dup2(second, 4)

        line = [binary, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        line += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "--window-size=1100,800", "about:blank"]
        self._process = subprocess.Popen(
            line,
            preexec_fn=arrange,  # noqa: PLW1509  # it takes no lock
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number, self._heard, self._session = 0, b"", ""
        pages = self.ask("Target.getTargets")["targetInfos"]
        target = next(page["targetId"] for page in pages if page["type"] == "page")
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One DevTools command and its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "result" in answer, answer
                return dict(answer["result"])

    def evaluate(self, script: str) -> Any:
        """What a script comes to in the page."""
        return self.ask("Runtime.evaluate", expression=script)["result"].get("value")

    def until(self, script: str, seconds: float = 30.0) -> bool:
        """Whether a script becomes true in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.evaluate(script):
                return True
            time.sleep(0.1)
        return False

    def screenshot(self) -> bytes:
        """The page as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot")["data"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._heard:
            more = os.read(self._from, 1 << 16)
            assert more, "the browser has ended"
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\0")
        return dict(json.loads(line))
