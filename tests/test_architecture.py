"""The rules of ARCHITECTURE.md that a machine can check. No waiver lists."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hurlicane_mcp.domain.dag import path as way

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "hurlicane_mcp"
SOURCES = sorted(PACKAGE.rglob("*.py"))
EVERYTHING = sorted(
    one
    for folder in ("hurlicane_mcp", "tests", "examples", "bench")
    for one in ROOT.glob(f"{folder}/**/*.py")
)
MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MUTABLE_MAKERS = frozenset(
    {"list", "dict", "set", "defaultdict", "deque", "Counter", "OrderedDict"}
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions_of(path: Path) -> Iterator[Function]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_has_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_function_has_at_most_50_lines(path: Path) -> None:
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1}"
        for node in functions_of(path)
        if node.end_lineno is not None and node.end_lineno - node.lineno + 1 > 50
    ]
    assert long == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_has_no_mutable_global(path: Path) -> None:
    found: list[str] = []
    for node in tree_of(path).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        value = node.value
        made = isinstance(value, ast.Call) and ast.unparse(value.func) in MUTABLE_MAKERS
        if (isinstance(value, MUTABLE) or made) and not ast.unparse(node).startswith("__all__"):
            found.append(ast.unparse(node))
    assert found == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_module_sets_a_global(path: Path) -> None:
    assert not [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Global)]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_the_clock_asks_for_the_date(path: Path) -> None:
    asked = re.findall(r"\b(?:datetime\.(?:now|utcnow)|date\.today)\(", path.read_text("utf-8"))
    assert path.name == "clock.py" or asked == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_runs_through_a_shell(path: Path) -> None:
    assert not re.search(r"shell\s*=\s*True|os\.system\(|create_subprocess_shell", path.read_text())


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_names_are_nouns_of_the_domain(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "helper", "manager", "common", "misc"}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_and_its_public_names_are_documented(path: Path) -> None:
    tree = tree_of(path)
    if not tree.body:
        return
    assert ast.get_docstring(tree), "the module"
    undocumented = [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and node.name not in {"upgrade", "downgrade"}
        and ast.get_docstring(node) is None
    ]
    assert undocumented == []


def test_imports_make_no_cycle_not_even_inside_functions() -> None:
    modules = {_module(path): path for path in SOURCES}
    graph = {name: _imports(path, frozenset(modules)) for name, path in modules.items()}
    cycles = [way(graph, name, frozenset({name})) for name in modules]
    assert [one for one in cycles if one is not None] == []


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_nothing_is_left_undone(path: Path) -> None:
    words = ("TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error", "x" + "fail(")
    text = path.read_text(encoding="utf-8")
    assert [word for word in words if word in text and path != Path(__file__)] == []


def test_what_is_committed_names_no_place_that_packages_come_from() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    pattern = re.compile(
        r"https?://[^\s\"']+\.(?:whl|tgz|tar\.gz|deb)|index-" + "url|regi" + "stry ="
    )
    found: list[str] = []
    for name in listed:
        file = ROOT / name
        if file.suffix in {".py", ".toml", ".txt", ".json", ".yml", ""} and file.is_file():
            found += [name for _ in pattern.findall(file.read_text("utf-8", errors="replace"))]
    assert [name for name in found if not name.startswith("tests/data/")] == []


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, known: frozenset[str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import module` names the module; anything else names its package.
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return (found & known) - {_module(path)}
