"""A browser's page on the board that remembers every request, every console line and every byte."""

from pathlib import Path
from typing import Any

PASSWORD = "correct horse battery"
BYTES_MAX = 250_000
AXE = Path(__file__).parents[2] / "assets" / "node_modules" / "axe-core" / "axe.min.js"


class Tab:
    """A page that remembers every request, every console line and every byte."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.url = url
        self.context = browser.new_context(viewport={"width": 1200, "height": 900}, **options)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.console: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda line: self.console.append(f"{line.type}: {line.text}"))
        self.page.on("pageerror", lambda error: self.console.append(f"error: {error}"))
        self.network = self.context.new_cdp_session(self.page)
        self.network.send("Network.enable")
        self.bytes = 0
        self.network.on("Network.loadingFinished", self._finished)

    def _finished(self, event: dict[str, Any]) -> None:
        self.bytes += int(event["encodedDataLength"])

    def sign_in(self, name: str = "olga") -> "Tab":
        self.page.goto(f"{self.url}/login")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{self.url}/")
        return self

    def fresh(self, path: str) -> None:
        """Load a page with an empty cache, counting from zero."""
        self.network.send("Network.clearBrowserCache")
        self.page.goto("about:blank")
        self.requests.clear()
        self.console.clear()
        self.bytes = 0
        self.page.goto(self.url + path)
        self.page.wait_for_load_state("load")
        self.page.wait_for_timeout(400)

    def close(self) -> None:
        self.context.close()
