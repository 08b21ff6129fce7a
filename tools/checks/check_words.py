"""
Check that texts use the plain words of CONTRIBUTING.md: ``python tools/checks/check_words.py [--list] [PATH ...]``.

It reads Markdown pages and YAML files without their code, and in Python files comments and strings with a space
in them.
Each line of ``old-words.txt`` is one rule: a regular expression, a tab, and what to write instead.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RULES = Path(__file__).parent / "old-words.txt"
# They show old words.
EXEMPT = {Path(__file__).resolve(), ROOT / "tests/unit/test_checks.py"}
PLACES = ["README.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "Makefile", "changes", "docs"]
PLACES += [
    ".github",
    "compose.yaml",
    "airflow_provider_scantrust",
    "dags_examples",
    "tools",
    "tests",
    "benchmarks",
]
SUFFIXES = {".md", ".py", ".js", ".html", ".yml", ".yaml", ""}
# An f-string is one token before Python 3.12.
_STRINGS = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}

_CODE = re.compile(r"`[^`\n]+`|^```.*?^```|^    [^\n]*", re.MULTILINE | re.DOTALL)
# Elsewhere, text may be indented.
_QUOTED = re.compile(r"`[^`\n]+`")


def main() -> int:
    """Print each old word with its place, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "paths", nargs="*", type=Path, help="files or folders; the whole repository without any"
    )
    parser.add_argument("--list", action="store_true", help="print how often each word is used, and succeed")
    options = parser.parse_args()
    rules = read_rules(RULES.read_text(encoding="utf-8"))
    used: Counter[str] = Counter()
    for path in find_files(options.paths or [ROOT / place for place in PLACES]):
        text = path.read_text(encoding="utf-8")
        for line, word, instead in find_words(text, rules, path.suffix):
            used[word.lower()] += 1
            if not options.list:
                print(f"{path}:{line}: {word!r}: write {instead}")
    if options.list:
        print(*(f"{count:5} {word}" for word, count in used.most_common()), sep="\n")
    return 0 if options.list else min(used.total(), 1)


def read_rules(text: str) -> list[tuple[re.Pattern[str], str]]:
    """Return each rule's expression, which matches whole words, and what to write instead."""
    rules = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            expression, instead = line.split("\t")
            rules.append((re.compile(rf"\b(?:{expression})\b", re.IGNORECASE), instead))
    return rules


def find_files(places: list[Path]) -> Iterator[Path]:
    """Return the files with texts; the rules themselves and released changes are left out."""
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and path.suffix in SUFFIXES and path.resolve() not in EXEMPT:
                yield path


def find_words(
    text: str, rules: list[tuple[re.Pattern[str], str]], suffix: str
) -> Iterator[tuple[int, str, str]]:
    """Return line, word and what to write instead, for each old word."""
    code = _CODE if suffix == ".md" else _QUOTED
    for first, part in texts_of_python(text) if suffix == ".py" else [(1, code.sub(_blank, text))]:
        # A sentence may be broken anywhere between two words.
        joined = re.sub(r"\n[ \t#]*", lambda white: "\n" + " " * (len(white[0]) - 1), part)
        for expression, instead in rules:
            for match in expression.finditer(joined):
                yield first + joined.count("\n", 0, match.start()), " ".join(match[0].split()), instead


def _blank(code: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", code[0])


def texts_of_python(source: str) -> Iterator[tuple[int, str]]:
    """Return comments, and strings that are more than a name, with the number of their first line."""
    first, comment = 0, ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if not comment:
                first = token.start[0]
            comment += f"{token.string}\n"
        elif token.type != tokenize.NL and comment:
            yield first, comment
            comment = ""
        if token.type in _STRINGS and " " in token.string:
            yield token.start[0], token.string


if __name__ == "__main__":
    sys.exit(main())
