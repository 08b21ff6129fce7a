"""What `make check` notices beside linters: old words, long files and import cycles."""

from __future__ import annotations

from pathlib import Path

import pytest

from check_code import MOST_LINES, long_files
from check_words import RULES, find_words, read_rules

WORDS = read_rules(RULES.read_text(encoding="utf-8"))


def lines(text: str, suffix: str) -> list[int]:
    return [line for line, _, _ in find_words(text, WORDS, suffix)]


def test_old_word_is_found_over_a_line_break_of_a_comment() -> None:
    assert [2] == lines("x = 1\n# Bad rows are set\n# apart and kept.\n", ".py")


def test_old_word_is_found_in_docstring_message_and_f_string() -> None:
    source = '"""It starts anew."""\nraise Error("tell nobody")\nprint(f"for {x} or whoever asks")\n'
    assert [1, 2, 3] == lines(source, ".py")


def test_old_word_is_found_in_the_indented_text_of_an_issue_form() -> None:
    assert [3] == lines("body:\n  - value: |\n        Nobody has an account.\n", ".yml")


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("mend = 1", ".py"),
        ('x = "colour"', ".py"),
        ("see `colour`\n\n    colour: red\n", ".md"),
        ("amended", ".md"),
    ],
)
def test_name_is_no_word(text: str, suffix: str) -> None:
    assert [] == lines(text, suffix)


def test_longest_file_is_allowed_and_one_line_more_is_not(tmp_path: Path) -> None:
    for extra in (0, 1):
        (tmp_path / f"m{extra}.py").write_text("x = 1\n" * (MOST_LINES + extra))
    (problem,) = long_files(tmp_path)
    assert f"m1.py: {MOST_LINES + 1} lines" in problem
