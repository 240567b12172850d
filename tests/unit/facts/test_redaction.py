"""What must not be stored, and what must not be mutilated."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.facts.redaction import REDACTIONS, redact
from headway.kernel.limits import RECORDED_TEXT_SCANNED_CHARS_MAX


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jane.doe+x@example.co.uk, please", "write to [email], please"),
        ("müller@exämple.de und 田中@例え.jp", "[email] und [email]"),
        ("<a@b.org>;c@d.org", "<[email]>;[email]"),
        ("root@[10.0.0.1]", "[email]"),
        ("card 4111 1111 1111 1111 exp 12/28", "card [card] exp 12/28"),
        ("4111-1111-1111-1111", "[card]"),
        ("4111\u00a01111\u20111111\u20131111", "[card]"),
        ("٤١١١١١١١١١١١١١١١", "[card]"),
        ("4111111111111111", "[card]"),
        ("cvv after: 4111 1111 1111 1111 123", "cvv after: [card] 123"),
        ("before 1234 4111 1111 1111 1111", "before 1234 [card]"),
        ("amex 3782 822463 10005", "amex [card]"),
        ("call +49 (0)30 1234567 now", "call [phone] now"),
        ("+1 415 555 2671", "[phone]"),
        ("(415) 555-2671", "[phone]"),
        ("415-555-2671", "[phone]"),
        ("030 1234567", "[phone]"),
        ("0044 20 7946 0018", "[phone]"),
        ("key sk-proj-abcdefghijkl0123", "key [redacted]"),
        ("hw_" + "0" * 26 + "_s3cretS3cret", "hw_" + "0" * 26 + "_[redacted]"),
        ("Authorization: Bearer abc.def-ghi12345", "Authorization: Bearer [redacted]"),
        ('{"api_key": "hunter2hunter2"}', '{"api_key": "[redacted]"}'),
        ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
        ("postgresql://u:pa55word@db/x", "postgresql://u:[redacted]@db/x"),
    ],
)
def test_blanked(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "order 4111 1111 1111 1112",  # the check digit is wrong
        "at 1764000000000 ms",  # an instant, 13 digits
        "2026-11-24 10:15:00",
        "02-11-2026 10:30",
        "version 1.2.3.4 of 10.0.0.1",
        "a @ b, @decorator, price@",
        "0.12345678, -0.98765432, 3.14159265358979",
        "tokens: 1234 and max_tokens=4096",
        "call_01jd8zk3m4aaaaaaaaaaaaaaaa",
        "naïve café 你好 🙂",
    ],
)
def test_left_alone(text: str) -> None:
    assert redact(text) == text


def test_only_the_kinds_asked_for() -> None:
    text = "a@b.org 4111111111111111"
    assert redact(text, ("email",)) == "[email] 4111111111111111"
    assert redact(text, ()) == text
    with pytest.raises(ValueError, match="soul"):
        redact(text, ("soul",))


def test_what_was_not_looked_at_is_not_kept() -> None:
    assert len(redact("x" * (RECORDED_TEXT_SCANNED_CHARS_MAX + 10))) == RECORDED_TEXT_SCANNED_CHARS_MAX


@pytest.mark.parametrize(
    "piece", ["1 2 ", "a@", "@a.", "+1 ", "4111 ", "0 ", "12-34-", "(", "api_key_", "://a:", "a.b-", "9" * 12 + " "]
)
def test_hostile_text_costs_its_length_only(piece: str) -> None:
    text = (piece * (RECORDED_TEXT_SCANNED_CHARS_MAX // len(piece)))[:RECORDED_TEXT_SCANNED_CHARS_MAX]
    began = time.process_time()
    redact(text)
    assert time.process_time() - began < 5.0


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_a_card_is_found_in_any_surroundings(before: str, after: str) -> None:
    text = f"{before}\n4111111111111111\n{after}"
    assert "4111111111111111" not in REDACTIONS["card"](text)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = redact(text)
    assert redact(once) == once
