"""Streams that go round in circles, break off or go silent under a stop are found; tables, code, lists and poems are let be."""

import random
from pathlib import Path

import pytest

from headway.calls.conversation import StopReason, Usage
from headway.calls.phases.stream_health import LOOP_WINDOW_CHARS, StreamHealth, went_silent

ROOT = Path(__file__).parents[3]
LEAD = (
    "The ferry leaves from the old harbour, which is a short walk from the station. Tickets are sold at the kiosk beside the pier, and "
    "on board if there is room. Dogs travel free of charge. In winter the last boat back is at four, so plan your day around it. "
)
SENTENCE = "I will now check the timetable again to be sure. "


def heard(text: str, size: int = 7) -> StreamHealth:
    health = StreamHealth()
    for begin in range(0, len(text), size):
        health.feed(text[begin : begin + size])
    return health


def fault(text: str, stop: StopReason = StopReason.END, usage: Usage | None = None, size: int = 7, **more: object) -> str:
    return heard(text, size).fault(stop, usage or Usage(), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 4, 33, 5_000])
@pytest.mark.parametrize(
    "text",
    [
        LEAD + SENTENCE * 20,
        LEAD + SENTENCE * 20 + "In short, take the first boat.",
        SENTENCE * 20 + LEAD + "And that is all.",
        LEAD + (LEAD * 2) * 3,
        "Yes. " + "the " * 150,
        "答案是：" + "我不知道。" * 120,
        "Sure! " + "!" * 500,
        LEAD + "- I will check again.\n" * 100,
        SENTENCE * 1_000,
    ],
    ids=["at the end", "then an end", "at the start", "paragraphs", "a word", "no spaces", "marks", "list", "long"],
)
def test_a_loop_is_found_wherever_it_stands(text: str, size: int) -> None:
    assert fault(text, size=size) == "loop"
    assert fault(text, StopReason.LENGTH, size=size) == "loop"


def test_what_repeats_itself_honestly_is_no_loop() -> None:
    rows = "".join(f"| {name} | open | 9-17 | - |\n" for name in ("Mon", "Tue", "Wed", "Thu", "Fri") * 12)
    for text in (
        LEAD,
        "| day | state | hours | note |\n|---|---|---|---|\n" + rows,
        "| n/a | n/a | n/a |\n" * 40,
        "[\n" + '  {"value": null, "unit": "none"},\n' * 60 + "]",
        "```python\n" + "    cells.append(None)\n" * 40 + "```",
        "insert into readings values (null, null);\n" * 30,
        "<td>empty</td>\n" * 60,
        "- [ ] buy milk\n" * 25,
        "0, 0, 0, 0, 0, 0, 0, 0,\n" * 100,
        "-" * 1_000 + "\n" + LEAD,
        ("Row, row, row your boat, gently down the stream.\n" * 2 + LEAD) * 2,
        "".join(f"{n}. Boil the water, then wait {n} minutes before you add the tea.\n" for n in range(1, 40)),
        LEAD * 2,
    ):
        assert fault(text) == "", text[:60]


def test_real_documents_and_code_are_no_loops() -> None:
    files = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("src/headway/**/*.py"), *ROOT.glob("src/headway/**/*.css")]
    texts = [file.read_text()[:30_000] for file in sorted(files)]
    assert len(texts) > 200
    assert [text[:80] for text in texts if heard(text, 400).looped_chars] == []


def test_memory_is_bounded_whatever_is_said() -> None:
    health = StreamHealth()
    rng = random.Random(3)
    for _ in range(50):
        health.feed("".join(rng.choices("abcdefghij ", k=50_000)))
    assert len(health._tail) <= LOOP_WINDOW_CHARS
    assert health.chars == 2_500_000
    assert health.looped_chars == 0


def test_a_text_that_breaks_off_under_a_stop() -> None:
    for text in (
        LEAD + "If you miss it, the next one goes at",
        LEAD + "If you miss it, ask at the kiosk, where the",
        '{"ferry": {"from": "Cuxhaven", "to": "Helg',
        "Here it is:\n```python\ndef fare(age):\n    return base(",
    ):
        assert fault(text) == "truncated", text
        assert fault(text, StopReason.LENGTH) == "", "that was told"
        assert fault(text, StopReason.TOOL_USE) == ""
        assert fault(text, own_stops=True) == "", "a stop sequence may cut anywhere"


def test_an_end_at_the_cap_is_a_truncation_only_inside_a_sentence() -> None:
    usage = Usage(input_tokens=10, output_tokens=64)
    assert fault("The ferry leaves at", usage=usage, output_tokens_max=64) == "truncated"
    assert fault("The ferry leaves at noon.", usage=usage, output_tokens_max=64) == ""
    assert fault("The ferry leaves at", usage=usage, output_tokens_max=65) == ""
    assert fault("", usage=usage, output_tokens_max=64) == "truncated"
    assert fault("yes", usage=Usage(output_tokens=1), output_tokens_max=1) == ""
    assert fault("The ferry leaves at", usage=Usage(input_tokens=10, output_tokens=2_048)) == "truncated"
    assert fault("The ferry leaves at", usage=Usage(input_tokens=96, output_tokens=4_000)) == "truncated"
    assert fault("The ferry leaves at", usage=usage) == ""


def test_ends_that_are_none_of_a_sentence_are_let_be() -> None:
    for text in (
        "42",
        "Helgoland",
        LEAD + "\n\nKind regards,\nAnna",
        LEAD + "See https://ferry.example/timetable",
        LEAD + "\n- tickets\n- a jacket\n- something to read",
        LEAD + "The answer is: **B**",
        LEAD + "Cheers",
        '{"a": 1}\n\nThis is the JSON that you asked for',
        "```python\nx = 1\n```",
        "```\nnpm run build\n",
        "[1] Timetable of 2026",
        "def fare(age):\n    return base",
        "SELECT name FROM ferry WHERE id = 3",
    ):
        assert fault(text) == "", text[-60:]


def test_silence() -> None:
    assert fault("", said=False) == "silent"
    assert fault("", StopReason.TOOL_USE, said=False) == ""
    steady = [100.0 + 20.0 * i for i in range(50)]
    assert went_silent([*steady, steady[-1] + 15_000.0])
    assert not went_silent([*steady, steady[-1] + 5_000.0])
    assert not went_silent([0.0, 8_000.0, 16_000.0, 24_000.0, 36_000.0]), "its own pace"
    assert not went_silent([5.0])
    assert fault(LEAD, reads_ms=[*steady, steady[-1] + 15_000.0]) == "silent"
