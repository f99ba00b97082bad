"""The shape of the code, held by tests: what a cold start loads, and what no file may contain."""

import ast
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from concierge import paths

ROOT = Path(__file__).resolve().parent.parent
FUNCTIONS = ROOT / "functions"
SOURCES = [
    path for folder in ("functions", "emulator", "cli", "tools", "bench") for path in (ROOT / folder).rglob("*.py")
]
HEAVY = ["langgraph", "langchain", "langchain_core", "stripe", "web3", "PIL", "openai", "pydantic", "concierge"]
BASE = {"concierge", "pydantic"}


def loaded_after(statement: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has loaded after a statement."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    output = subprocess.run(
        [sys.executable, "-c", program], cwd=FUNCTIONS, check=True, capture_output=True, text=True
    ).stdout
    return set(json.loads(output))


def test_importing_main_loads_nothing_heavy() -> None:
    assert loaded_after("import main") == set()


@pytest.mark.parametrize(
    ("module", "may_load"),
    [
        ("credits", {"concierge", "pydantic"}),
        ("usage", {"concierge", "pydantic"}),
        ("http", {"concierge", "pydantic"}),
        ("integrity", {"concierge", "pydantic"}),
        ("assistant", {"concierge", "pydantic", "openai"}),
    ],
)
def test_an_entry_point_loads_only_what_it_uses(module: str, may_load: set[str]) -> None:
    assert loaded_after(f"import main\nfrom concierge.entrypoints import {module}") <= may_load


def test_every_function_is_synchronous() -> None:
    """The Python runtime never awaits an `async def` handler: it would silently not run."""
    tree = ast.parse((FUNCTIONS / "main.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)]
    for path in (FUNCTIONS / "concierge").rglob("*.py"):
        assert "async def" not in path.read_text(), path


def test_main_holds_no_logic() -> None:
    """A docstring, one lazy import, one call."""
    tree = ast.parse((FUNCTIONS / "main.py").read_text())
    handlers = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert handlers
    for handler in handlers:
        kinds = [type(statement) for statement in handler.body]
        assert kinds[:2] == [ast.Expr, ast.ImportFrom], handler.name
        assert len(handler.body) == 3, handler.name


def test_lazy_imports_are_in_main_and_wiring_only() -> None:
    for path in (FUNCTIONS / "concierge").rglob("*.py"):
        if path.name == "wiring.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                inner = [child for child in ast.walk(node) if isinstance(child, ast.Import | ast.ImportFrom)]
                assert not inner, f"{path}: {node.name} imports lazily"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 450
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "every module says what it is"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            assert node.end_lineno - node.lineno < 80, f"{node.name} is too long"
        if isinstance(node, ast.ExceptHandler):
            swallowed = all(isinstance(statement, ast.Pass) for statement in node.body)
            assert not swallowed, f"line {node.lineno} swallows an exception"


def test_paths_are_spelled_in_one_place() -> None:
    """No other module spells a database path or a collection; the API's routes are URLs, not paths."""
    names = {value for name, value in inspect.getmembers(paths) if name.isupper() and isinstance(value, str)}
    for path in (FUNCTIONS / "concierge").rglob("*.py"):
        if path.name == "paths.py" or "api" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"\S*/\S*", node.value):
                first = node.value.strip("/").partition("/")[0]
                assert first not in names, f"{path}:{node.lineno} spells {node.value!r}"
