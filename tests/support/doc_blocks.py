"""The code blocks and commands of README and docs, so that tests can run them or compare them with what is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import dedent, indent
from typing import Literal

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# These have commands, and no Python.
ALL_PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "changes").glob("*.md")), *PAGES[1:]]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^( *)(?:```|~~~)(\w*)", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4,}\S.*\n?(?:^ *\n(?= {4}))*)+", re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")
_STATEMENT = re.compile(
    r"^\s*(from \S+ import |import \w|def |async def |class |with .*:$|@\w)", re.MULTILINE
)
_PROGRAMS = re.compile(r"(make|airflow|scantrust-sandbox|python|\.venv/bin/[\w-]+) \S|export \w+=")


@dataclass(frozen=True)
class Block:
    """A Python block: ``name`` is its page and number, such as ``docs/wait.md[0]``."""

    name: str
    code: str

    @cached_property
    def kind(self) -> Literal["tests", "dag", "tasks", "plain"]:
        """How it is run: by pytest, by Airflow as a Dag file or in a Dag made for it, or as it stands."""
        if any(name.startswith("test_") for name in self.functions):
            return "tests"
        body = ast.walk(ast.parse(self.code))
        names = {alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names}
        if names & {"DAG", "dag"}:
            return "dag"
        return (
            "tasks" if "task" in names or any(re.search("(Operator|Sensor)$", n) for n in names) else "plain"
        )

    @property
    def functions(self) -> list[str]:
        """Functions and classes that it defines and, by itself, calls or not."""
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        return [node.name for node in ast.parse(self.code).body if isinstance(node, kinds)]

    @property
    def dag_ids(self) -> list[str]:
        """The Dags in its Dag file."""
        if self.kind == "tasks":
            return [re.sub(r"\W+", "_", self.name).strip("_")]
        found = re.findall(r'\bDAG\("(\w+)"|^@dag\(.*\)\ndef (\w+)', self.code, re.MULTILINE)
        return [one or other for one, other in found]

    @property
    def dag_file(self) -> str:
        """A Dag file that runs it; of a block without a Dag, all that it makes are tasks of one."""
        if self.kind == "dag":
            return self.code
        (dag_id,) = self.dag_ids
        body = "\n".join([self.code, *(f"{name}()" for name in self.functions)])
        return (
            f'from airflow.sdk import DAG\n\nwith DAG("{dag_id}", schedule=None):\n{indent(body, "    ")}\n'
        )


def python_blocks() -> list[Block]:
    """Return every Python block, of README and docs."""
    return [
        Block(f"{page.relative_to(ROOT)}[{number}]", code)
        for page in PAGES
        for number, code in enumerate(_BLOCK.findall(page.read_text(encoding="utf-8")))
    ]


def fences() -> set[tuple[str, str]]:
    """Return indentation and language of all fences; another than the tests know would keep a block from being run."""
    return {fence for page in PAGES for fence in _FENCE.findall(page.read_text(encoding="utf-8"))}


def indented_blocks(pages: list[Path]) -> Iterator[tuple[str, str]]:
    """Return page and text of each block that is indented instead of fenced."""
    for page in pages:
        for found in _INDENTED.findall(_FENCED.sub("", page.read_text(encoding="utf-8"))):
            yield str(page.relative_to(ROOT)), dedent(found)


def looks_like_python(text: str) -> bool:
    """Say whether a text is Python that does something; a value alone, such as JSON, does nothing."""
    if _STATEMENT.search(text):
        return True
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return False
    values = ast.Constant | ast.Dict | ast.List | ast.Name
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, values)) for node in body)


def commands() -> list[str]:
    """Return all command lines, indented or inline, that name a program of this package, make, or Airflow."""
    lines = [line for _, text in indented_blocks(ALL_PAGES) for line in text.splitlines()]
    inline = [code for page in ALL_PAGES for code in _INLINE.findall(page.read_text(encoding="utf-8"))]
    stripped = [line.partition("  #")[0].strip() for line in [*lines, *inline]]
    return sorted({line for line in stripped if _PROGRAMS.match(line)})


def options() -> set[str]:
    """Return the options that the docs name without their command."""
    return {
        code.split()[0]
        for page in ALL_PAGES
        for code in _INLINE.findall(page.read_text(encoding="utf-8"))
        if code.startswith("--")
    }
