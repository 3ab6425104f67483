"""A real Chromium in a node of the laboratory, driven by its chromedriver."""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.support.ui import WebDriverWait

from tests.lab import Namespace, eventually

PORT = 9515
HOME = "/run/chromium"
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # it runs as root, in namespaces of its own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    f"--user-data-dir={HOME}/profile",
    # Without a resolver each look-up of its own waits for 15 s.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_EXPECTED = r"net::ERR_(CONNECTION|SOCKET)_|/base1/cockpit\.js .*\[Errno (2|13)\]"
AXE = Path(__file__).parents[2] / ".build/browser/node_modules/axe-core/axe.min.js"


class Chromium:
    """A browser in `node`.  Use as a context manager; meanwhile this thread is in the node too."""

    def __init__(self, node: Namespace, language: str = "en-US", dark: bool = False) -> None:
        self.node = node
        node.path(HOME).mkdir(exist_ok=True)
        self._inside = node.enter()
        self._inside.__enter__()
        try:
            self._server = node.popen(
                *("env", f"HOME={HOME}", f"TMPDIR={HOME}", f"LANGUAGE={language}"),
                *("chromedriver", f"--port={PORT}"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            eventually(lambda: socket.create_connection(("127.0.0.1", PORT), 1).close() is None)
            self.driver = webdriver.Remote(
                f"http://127.0.0.1:{PORT}", options=self._options(language, dark)
            )
        except BaseException:
            self._inside.__exit__(None, None, None)
            raise
        self.driver.set_script_timeout(20)
        self.driver.command_executor.add_command("getLog", "POST", "/session/$sessionId/se/log")

    @staticmethod
    def _options(language: str, dark: bool) -> webdriver.ChromeOptions:
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for argument in (*ARGUMENTS, f"--lang={language}"):
            options.add_argument(argument)
        if dark:
            options.add_argument("--blink-settings=preferredColorScheme=0")
        options.add_experimental_option("prefs", {"intl.accept_languages": language})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        return options

    def open(self, url: str, width: int = 1280, height: int = 900) -> None:
        """Go there, in a window whose inside is that large."""
        self.resize(width, height)
        self.driver.get(url)

    def enter(self, selector: str) -> None:
        """From now on all of this is about the frame that matches; open() ends it."""
        self.driver.switch_to.frame(self.driver.find_element("css selector", selector))

    def resize(self, width: int, height: int = 900) -> None:
        """Give the page a viewport of this size, narrower than a window could be."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def script(self, text: str, *arguments: Any) -> Any:
        """The value of a JavaScript function's body; it may await."""
        body = (
            "const done = arguments[arguments.length - 1];"
            f"(async (...a) => {{ {text} }})(...Array.from(arguments).slice(0, -1))"
            ".then(value => done([null, value]), error => done([String(error.stack), null]));"
        )
        error, value = self.driver.execute_async_script(body, *arguments)
        assert error is None, error
        return value

    def text(self, selector: str = "body") -> str:
        """What one reads there, of all that match."""
        script = "Array.from(document.querySelectorAll(a[0]), e => e.innerText).join('\\n')"
        return str(self.script(f"return {script};", selector))

    def wait(self, condition: Any, timeout: float = 10.0) -> Any:
        """Until `condition`, called without arguments, returns something true; that."""
        wait = WebDriverWait(self.driver, timeout, poll_frequency=0.05)
        try:
            return wait.until(lambda _: condition())
        except TimeoutException:
            raise AssertionError(f"not within {timeout:g} s; last seen:\n{self.text()}") from None

    def click(self, selector: str, text: str = "") -> None:
        """Click the first match that has this text."""
        script = "Array.from(document.querySelectorAll(a[0])).find(e => e.innerText.includes(a[1]))"
        element = self.driver.execute_script(
            f"const a = arguments; return {script};", selector, text
        )
        assert element is not None, f"no {selector} with {text!r} in:\n{self.text()}"
        element.click()

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """The page as a PNG, to its end and not only what fits into the window."""
        if whole:
            width, height = self.script(
                "return [innerWidth, Math.ceil(document.documentElement.scrollHeight)];"
            )
            self.resize(width, height)
        self.driver.save_screenshot(str(path))

    def complaints(self) -> list[str]:
        """What the console has got since the last call, but for notes.

        That a server is gone is a matter of the test, and Cockpit's client writes down each
        failure to connect that the page shows.
        """
        return [
            entry["message"]
            for entry in self.driver.execute("getLog", {"type": "browser"})["value"]
            if entry["level"] in ("SEVERE", "WARNING")
            if not re.search(_EXPECTED, entry["message"])
        ]

    def violations(self) -> list[str]:
        """What axe-core finds wrong for people who hear, or only type: serious and critical."""
        self.driver.execute_script(AXE.read_text())
        violations = self.script("return (await axe.run()).violations;")
        return [
            f"{violation['id']}: {violation['help']}: "
            + str([node["html"] for node in violation["nodes"]])
            for violation in violations
            if violation["impact"] in ("serious", "critical")
        ]

    def close(self) -> None:
        try:
            self.driver.quit()
        finally:
            self._server.terminate()
            self._server.wait(10)
            self._inside.__exit__(None, None, None)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
