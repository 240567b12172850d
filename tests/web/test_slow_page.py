"""The page Slow calls and the verdict on a call's page in Chromium, over an hour of calls that are slow for known reasons."""

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from board_tab import AXE, BYTES_MAX, Tab

pytestmark = pytest.mark.web
SHOTS = os.environ.get("HEADWAY_SHOTS", "")
READY_MS = 60_000
WIDEST = "(s) => [...s.querySelectorAll('rect')].sort((a, b) => parseFloat(b.getAttribute('width')) - parseFloat(a.getAttribute('width')))[0].getAttribute('class')"


@pytest.fixture
def tab(time_board: Any, browser: Any) -> Iterator[Tab]:
    made = Tab(browser, time_board.url).sign_in()
    yield made
    made.close()


def ready(tab: Tab, path: str = "/slow") -> None:
    """The page with its verdicts, which are given once."""
    tab.fresh(path)
    tab.page.get_by_role("region", name="Table of causes").wait_for(timeout=READY_MS)


def test_four_asserts(tab: Tab) -> None:
    ready(tab)
    tab.fresh("/slow")
    host = urlsplit(tab.url).netloc
    assert {urlsplit(url).netloc for url in tab.requests if not url.startswith(("data:", "about:"))} == {host}
    assert tab.console == []
    assert 0 < tab.bytes <= BYTES_MAX
    assert tab.page.get_by_role("main").count() == 1
    assert tab.page.get_by_role("heading", level=1).count() == 1


def test_calls_of_one_duration_are_drawn_differently(tab: Tab) -> None:
    ready(tab)
    twins = tab.page.locator(".twins li")
    assert twins.count() == 4
    assert tab.page.get_by_role("heading", name="Four calls of about 2.3").count() == 1
    causes = twins.locator("strong").all_inner_texts()
    assert len(set(causes)) == 4
    widest = [bar.evaluate(WIDEST) for bar in twins.locator("svg.call-phases").all()]
    assert len(set(widest)) == 4, f"four bars that look alike show nothing: {widest}"
    for words in twins.locator(".fine").all_inner_texts():
        assert "usually" in words, "each with its evidence"


def test_causes_are_those_that_were_made(tab: Tab) -> None:
    ready(tab)
    rows = tab.page.get_by_role("region", name="Table of causes").get_by_role("row").all_inner_texts()
    counts = {text.split("\t")[0]: int(text.split("\t")[1]) for text in rows[1:]}
    for cause in ("our own queue", "rate limit", "long prompt", "longer answer", "slow reader", "slow decode", "cannot tell"):
        assert counts.get(cause, 0) >= 3, (cause, counts)
    assert counts["route change"] >= 15


def test_the_filter_stands_in_the_address(tab: Tab) -> None:
    ready(tab)
    tab.page.get_by_role("combobox", name="Cause").select_option("slow_reader")
    tab.page.wait_for_url("**cause=slow_reader**")
    heads = tab.page.locator(".slow-rows .slow-what strong").all_inner_texts()
    assert heads
    assert set(heads) == {"slow reader"}
    assert "our writes to the caller were blocked" in tab.page.locator(".slow-bar .fine").first.inner_text()
    tab.page.get_by_label("Tenant").select_option("globex")
    tab.page.wait_for_url("**tenant=globex**")
    assert "No slow call matches." in tab.page.get_by_role("main").inner_text()
    tab.page.get_by_role("link", name="Show all slow calls").click()
    tab.page.get_by_role("region", name="Table of causes").wait_for()
    assert "cause" not in tab.page.url


def test_bars_say_what_is_missing_where_nobody_can_tell(tab: Tab) -> None:
    ready(tab, "/slow?cause=cannot_tell")
    assert "missing:" in tab.page.locator(".slow-bar .fine").first.inner_text()


def test_what_changed_since(tab: Tab) -> None:
    ready(tab)
    tab.page.get_by_role("link", name="1h ago").click()
    table = tab.page.get_by_role("region", name="Table of what was added")
    table.wait_for(timeout=READY_MS)
    first = table.get_by_role("row").nth(1).inner_text()
    assert first.startswith("route change")
    section = tab.page.locator("#since").inner_text()
    assert "more than before" in section
    assert "anthropic/claude-sonnet-4-5 became slower" in section
    assert "Another region:" in section
    assert "us-east" in section
    assert tab.console == []


def test_a_call_tells_its_phases_and_its_verdict(time_board: Any, tab: Tab) -> None:
    slow = next(call[0] for call in time_board.slow if call[0].input_tokens > 10_000)
    tab.fresh(f"/calls/{slow.call}")
    text = tab.page.get_by_role("main").inner_text()
    assert "Slow because of long prompt" in text
    assert "uncached prompt tokens:" in text
    bar = tab.page.locator("svg.call-phases")
    assert bar.count() == 1
    widths = bar.evaluate("(s) => [...s.querySelectorAll('rect')].reduce((n, r) => n + parseFloat(r.getAttribute('width')), 0)")
    assert widths == pytest.approx(100, abs=0.02), "the parts are the call"
    usual = next(call[0] for call in reversed(time_board.slow) if call[0].duration_ms < 1_000)
    tab.fresh(f"/calls/{usual.call}")
    assert "Not slow: such a call usually takes" in tab.page.get_by_role("main").inner_text()
    assert tab.console == []


def test_a_tenant_sees_itself_only(time_board: Any, browser: Any) -> None:
    tab = Tab(browser, time_board.url).sign_in("anna")
    for path in ("/slow", "/slow?since=1h&_format=json", "/slow?_format=json"):
        tab.page.goto(tab.url + path)
        tab.page.get_by_text("acme").first.wait_for(timeout=READY_MS, state="attached")
        text = tab.page.content()
        assert "globex" not in text, path
    assert tab.context.request.get(f"{tab.url}/slow?tenant=globex").status == 403
    tab.close()


def test_it_works_without_script(tab: Tab, time_board: Any, browser: Any) -> None:
    ready(tab)
    bare = Tab(browser, time_board.url, java_script_enabled=False).sign_in()
    bare.page.goto(bare.url + "/slow")
    assert bare.page.locator("svg.call-phases").count() > 10
    bare.page.get_by_role("combobox", name="Cause").select_option("throttling")
    bare.page.get_by_role("button", name="Filter").click()
    assert "cause=throttling" in bare.page.url
    bare.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_nothing_overflows_and_the_rules_of_access_hold(time_board: Any, browser: Any, scheme: str, width: int) -> None:
    tab = Tab(browser, time_board.url, color_scheme=scheme).sign_in()
    tab.page.set_viewport_size({"width": width, "height": 900})
    ready(tab, "/slow?since=1h")
    tab.page.get_by_role("region", name="Table of what was added").wait_for(timeout=READY_MS)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    if SHOTS:
        tab.page.screenshot(path=f"{SHOTS}/slow-{scheme}-{width}.png", full_page=True)
    if AXE.exists():
        tab.page.evaluate(AXE.read_text())
        found = tab.page.evaluate("axe.run({runOnly: ['wcag2a', 'wcag2aa', 'best-practice']})")
        broken = [(rule["id"], rule["nodes"][0]["html"][:160], rule["nodes"][0]["failureSummary"]) for rule in found["violations"]]
        assert broken == []
    tab.close()


def test_a_fresh_page_says_what_would_fill_it(fresh_board: Any, browser: Any) -> None:
    tab = Tab(browser, fresh_board.url).sign_in()
    tab.fresh("/slow")
    text = tab.page.get_by_role("main").inner_text()
    assert "No call was answered in the last hour." in text
    assert "against those of the day before" in text
    tab.page.get_by_role("link", name="6h ago").click()
    tab.page.get_by_text("Cannot tell what changed").wait_for(timeout=READY_MS)
    assert tab.console == []
    tab.close()


def test_the_keyboard_leads_there(tab: Tab) -> None:
    tab.page.goto(tab.url + "/")
    tab.page.keyboard.press("g")
    tab.page.keyboard.press("l")
    tab.page.wait_for_url("**/slow")
