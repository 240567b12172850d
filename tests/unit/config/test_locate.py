"""Line numbers of keys agree with a by-eye reading, and every key that the standard parser finds has one."""

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.config.locate import Path, locate

SAMPLE = '''\
# first
open_access = true
"quo.ted" = 1
a.b.c = 2
long = """
[not.a.table]
x = 1 ""\\"
"""
raw = \'\'\'
# no comment
\'\'\'

[providers.local] # why
models = ["a", # one
  "b", # ] two
  "c]"]
timeouts = { connect_ms = 1, idle_ms = 2 }
when = 2026-11-24 10:00:00
[[gates]]
tools = ["x"]
[[gates]]
tools = ["y"]
[gates.inner]
k = 'v'
[features."support.chat"]
targets = []
'''

LINES: dict[Path, int] = {
    ("open_access",): 2,
    ("quo.ted",): 3,
    ("a", "b", "c"): 4,
    ("long",): 5,
    ("raw",): 9,
    ("providers", "local"): 13,
    ("providers", "local", "models"): 14,
    ("providers", "local", "models", 1): 15,
    ("providers", "local", "models", 2): 16,
    ("providers", "local", "timeouts", "idle_ms"): 17,
    ("providers", "local", "when"): 18,
    ("gates", 0, "tools", 0): 20,
    ("gates", 1, "tools"): 22,
    ("gates", 1, "inner", "k"): 24,
    ("features", "support.chat", "targets"): 26,
}


def paths_of(value: Any, path: Path = ()) -> list[Path]:
    if isinstance(value, dict):
        return [p for key, item in value.items() for p in [(*path, key), *paths_of(item, (*path, key))]]
    if isinstance(value, list):
        return [p for index, item in enumerate(value) for p in [(*path, index), *paths_of(item, (*path, index))]]
    return []


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_of_a_file_with_every_form(newline: str) -> None:
    found = locate(SAMPLE.replace("\n", newline))
    assert {path: found[path] for path in LINES} == LINES


def test_every_key_of_the_standard_parser_has_a_line() -> None:
    assert set(paths_of(tomllib.loads(SAMPLE))) <= set(locate(SAMPLE))


words = st.text("ab.\"\\' #[]{}=,é\t", min_size=1, max_size=5)
values = st.recursive(
    st.integers(-5, 5).map(str) | st.booleans().map(lambda b: str(b).lower()) | words.map(lambda w: quoted(w)),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")
        | st.dictionaries(words, inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{quoted(key)} = {item}" for key, item in items.items()) + "}"
        )
    ),
    max_leaves=6,
)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") + '"'


@given(st.dictionaries(words, values, min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_file_of_one_key_a_line_is_located(document: dict[str, str]) -> None:
    text = "".join(f"{quoted(key)} = {value} # {key}\n" for key, value in document.items())
    found = locate(text)
    parsed = tomllib.loads(text)
    assert set(found) == set(paths_of(parsed))
    assert [found[(key,)] for key in document] == list(range(1, len(document) + 1))
