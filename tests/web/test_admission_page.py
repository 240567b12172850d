"""The page Admission in Chromium, over an hour in which small calls share an endpoint with a giant prompt every three minutes."""

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from admission_world import view
from board_tab import AXE, BYTES_MAX, Tab

pytestmark = pytest.mark.web
SHOTS = os.environ.get("HEADWAY_SHOTS", "")
PAGE = "/admission?range=1h"


@pytest.fixture
def tab(shared_board: Any, browser: Any) -> Iterator[Tab]:
    made = Tab(browser, shared_board.url).sign_in()
    yield made
    made.close()


def test_four_asserts(tab: Tab) -> None:
    tab.fresh(PAGE)
    host = urlsplit(tab.url).netloc
    assert {urlsplit(url).netloc for url in tab.requests if not url.startswith(("data:", "about:"))} == {host}
    assert tab.console == []
    assert 0 < tab.bytes <= BYTES_MAX
    assert tab.page.get_by_role("main").count() == 1
    assert tab.page.get_by_role("heading", level=1).count() == 1


def test_it_answers_who_waits_who_runs_and_who_stalled_whom(tab: Tab) -> None:
    tab.fresh(PAGE)
    assert "calls wait, the longest for" in tab.page.get_by_role("heading", level=1).inner_text()
    queue = tab.page.get_by_role("region", name="Queue of vllm-0 by tenant")
    assert queue.get_by_role("row").nth(1).inner_text().split()[0] == "reports"
    assert tab.page.get_by_text("= 5,200 done + 7 waiting + 13 running + 37 refused + 3 evicted").is_visible()
    stalls = tab.page.get_by_role("region", name="Table of who stalled whom")
    heads = [text.strip() for text in stalls.get_by_role("columnheader").all_inner_texts()]
    assert heads[:2] == ["Lost by", "reports"]
    acme = stalls.get_by_role("row").filter(has=tab.page.get_by_role("rowheader", name="acme")).first
    assert "s" in acme.get_by_role("cell").first.inner_text()
    acme.get_by_role("link", name="acme").click()
    assert tab.page.url == tab.url + "/calls?tenant=acme"


def test_charts_are_drawn_and_marked(tab: Tab) -> None:
    tab.fresh(PAGE)
    assert tab.page.locator("figure.series canvas").count() == 2, "uPlot took over from both drawings"
    assert tab.page.locator(".u-legend").first.inner_text().count("p99") == 2
    assert "18 giant prompts admitted" in tab.page.locator("figcaption").inner_text()
    tab.page.get_by_role("link", name="15m").click()
    assert tab.page.url.endswith("/admission?range=15m")
    tab.page.go_back()
    assert tab.page.url == tab.url + PAGE
    tab.page.get_by_label("Endpoint", exact=True).select_option("vllm-0")
    tab.page.wait_for_url("**/admission?endpoint=vllm-0&range=1h")
    assert "All of vllm-0" in tab.page.get_by_role("region", name="Table of how calls fared").inner_text()


def test_queues_follow_by_themselves(shared_board: Any, tab: Tab) -> None:
    tab.fresh(PAGE)
    try:
        shared_board.gateway.admission(view(served=5_000.0, queued=99))
        tab.page.get_by_text("+ 99 waiting +").wait_for(timeout=10_000)
        assert tab.page.locator("#queues").count() == 1
        assert tab.page.locator(".endpoint").count() == 1, "an endpoint that is not told of any more has gone"
        assert tab.page.locator("figure.series canvas").count() == 2
    finally:
        shared_board.gateway.admission(view(served=6_000.0), view("vllm-1", served=6_000.0, queued=2, degraded=True))
    assert tab.console == []


def test_a_slow_call_names_who_cost_it_time(shared_board: Any, tab: Tab) -> None:
    slow = max((c for c in shared_board.world.calls if c.klass == "interactive"), key=lambda c: c.first_token_ms)
    tab.fresh(f"/calls/{slow.call}")
    cost = tab.page.get_by_role("region", name="Calls that cost it time").get_by_role("row").nth(1)
    assert "reports" in cost.inner_text()
    assert "28,000" in cost.inner_text()
    cost.get_by_role("link").click()
    assert tab.page.get_by_role("heading", name="What ran beside it").is_visible()
    assert tab.console == []


def test_it_works_without_script(shared_board: Any, browser: Any) -> None:
    tab = Tab(browser, shared_board.url, java_script_enabled=False).sign_in()
    tab.page.goto(tab.url + PAGE)
    assert tab.page.locator("figure.series svg").count() == 2
    assert tab.page.locator("svg .giant").count() == 18
    tab.page.get_by_label("Endpoint", exact=True).select_option("vllm-0")
    tab.page.get_by_role("button", name="Show").click()
    assert "endpoint=vllm-0" in tab.page.url
    tab.close()


def test_the_keyboard_leads_there(tab: Tab) -> None:
    tab.page.goto(tab.url + "/")
    tab.page.keyboard.press("g")
    tab.page.keyboard.press("a")
    tab.page.wait_for_url("**/admission")


def test_a_tenant_sees_itself_only(shared_board: Any, browser: Any) -> None:
    tab = Tab(browser, shared_board.url).sign_in("anna")
    for path in (PAGE, "/admission/now", "/api/v1/admission", "/api/v1/admission/now"):
        tab.page.goto(tab.url + path)
        text = tab.page.content()
        assert "acme" in text, path
        assert "globex" not in text, path
        assert '"reports"' not in text, path
        assert ">reports<" not in text, path
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_nothing_overflows_and_the_rules_of_access_hold(shared_board: Any, browser: Any, scheme: str, width: int) -> None:
    tab = Tab(browser, shared_board.url, color_scheme=scheme).sign_in()
    tab.page.set_viewport_size({"width": width, "height": 900})
    tab.fresh(PAGE)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    if SHOTS:
        tab.page.screenshot(path=f"{SHOTS}/admission-{scheme}-{width}.png", full_page=True)
    if AXE.exists():
        tab.page.evaluate(AXE.read_text())
        found = tab.page.evaluate("axe.run({runOnly: ['wcag2a', 'wcag2aa', 'best-practice']})")
        broken = [(rule["id"], rule["nodes"][0]["html"][:160], rule["nodes"][0]["failureSummary"]) for rule in found["violations"]]
        assert broken == []
    tab.close()


def test_a_fresh_page_says_what_would_fill_it(fresh_board: Any, browser: Any) -> None:
    tab = Tab(browser, fresh_board.url).sign_in()
    tab.fresh("/admission")
    text = tab.page.get_by_role("main").inner_text()
    assert "Nothing has called in this range." in text
    assert "No endpoint is shared by a policy now" in text
    assert tab.console == []
    tab.close()
