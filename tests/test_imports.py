"""What is imported, by whom, and when."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fewlabel
from fewlabel.run import Run

ROOT = Path(fewlabel.__file__).parent

MATHEMATICS = (
    *(
        "batch",
        "calibration",
        "classifier",
        "errors",
        "guidance",
        "likelihood",
        "methods",
        "objectives",
    ),
    *("oracle", "process", "randomness", "samplers", "score"),
)


def fresh(code: str, *arguments: str, path: Path | None = None) -> set[str]:
    """The top-level modules that are loaded after the code, in a process of its own."""
    program = f"{code}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    setup = f"import sys; sys.path.insert(0, {str(path)!r})\n" if path else ""
    done = subprocess.run(
        [sys.executable, "-c", setup + program, *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_package_alone_is_quick_to_import() -> None:
    loaded = fresh("import fewlabel; assert fewlabel.__version__")
    assert not loaded & {"torch", "diffusers", "matplotlib", "accelerate", "sklearn", "numpy"}


def test_the_parts_are_there_by_name_without_another_import() -> None:
    names = [name for name in fewlabel.__all__ if name not in ("Run", "__version__")]
    assert (
        {"guidance", "metrics", "oracle", "process", "samplers"} <= set(names) <= {*dir(fewlabel)}
    )
    fresh(f"import fewlabel; assert all(getattr(fewlabel, name).__doc__ for name in {names})")


def test_the_mathematics_imports_torch_alone() -> None:
    loaded = fresh("".join(f"import fewlabel.{name}\n" for name in MATHEMATICS))
    assert "torch" in loaded
    others = {"accelerate", "diffusers", "typer", "rich", "sklearn", "pydantic", "matplotlib"}
    assert not loaded & others


def test_nothing_imports_torchvision(finished_run: Run, tmp_path: Path) -> None:
    """Not even where it could be imported: a stand-in of that name lies in the path.

    The transformers library, which an extra brings and diffusers imports if it is there, imports
    torchvision wherever it finds it; it is not counted.
    """
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("__version__ = '0.0'\n")
    code = """
import importlib, pkgutil, sys
sys.modules["transformers"] = None
import fewlabel
from fewlabel.training.journal import check_tensorboard
for module in pkgutil.walk_packages(fewlabel.__path__, "fewlabel."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
run = fewlabel.load(sys.argv[1], device="cpu")
check_tensorboard()
assert run.sample(label=1, n=1, steps=2).isfinite().all()
"""
    loaded = fresh(code, str(finished_run.folder), path=tmp_path)
    assert {"torch", "diffusers", "fewlabel.cli.train"} <= loaded
    assert "torchvision" not in loaded


@pytest.mark.parametrize("command", [[], ["train"], ["sample"], ["evaluate"], ["info"]])
def test_help_is_quick_and_shows_an_example(command: list[str]) -> None:
    code = """
import sys
from fewlabel.cli import main
try:
    main()
except SystemExit as left:
    assert left.code == 0
"""
    if not command:
        loaded = fresh(code, "--help")
    else:
        example = "assert 'Example: fewlabel' in said.getvalue(), said.getvalue()"
        captured = "import io, sys; said = io.StringIO(); real, sys.stdout = sys.stdout, said"
        program = f"{captured}\n{code}\nsys.stdout = real\n{example}"
        loaded = fresh(program, *command, "--help")
    assert not loaded & {"torch", "numpy", "diffusers", "matplotlib", "accelerate", "sklearn"}


def modules() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name, without "fewlabel."."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


SOURCES = modules()


def statements(tree: ast.Module, only_at_import: bool) -> Iterator[ast.stmt]:
    """The statements of a module, without those for type checkers.

    Args:
        tree: the module.
        only_at_import: leave out the bodies of functions, which run when they are called.
    """
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if only_at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.stmt):
            yield node
        waiting.extend(ast.iter_child_nodes(node))


def imported(name: str, only_at_import: bool = False) -> set[str]:
    """The modules of the package that a module imports."""
    found = set()
    for node in statements(SOURCES[name], only_at_import):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for full in names:
            if not full.startswith("fewlabel."):
                continue
            inner = full.removeprefix("fewlabel.")
            found.add(inner if inner in SOURCES else inner.rpartition(".")[0])
    return found - {""}


def part(name: str) -> str:
    return name.split(".")[0]


def test_the_imports_are_read_from_the_source() -> None:
    """The rules below would hold of nothing at all."""
    assert "score" in imported("samplers")
    assert "metrics.judging" in imported("run")
    assert "metrics.judging" not in imported("run", only_at_import=True)
    assert "extractors.extractor" not in imported("run")  # for type checkers only
    assert len(SOURCES) > 40


@pytest.mark.parametrize("name", [name for name in SOURCES if part(name) in MATHEMATICS])
def test_the_mathematics_knows_nothing_else_of_the_package(name: str) -> None:
    assert {part(other) for other in imported(name)} <= set(MATHEMATICS)


ABOVE = {
    "process": {"score", "classifier", "guidance", "samplers", "objectives", "methods", "oracle"},
    "score": {"classifier", "guidance", "samplers", "objectives", "methods"},
    "classifier": {"guidance", "samplers", "objectives", "methods"},
    "guidance": {"samplers", "objectives", "methods"},
    "samplers": {"classifier", "guidance", "objectives", "methods"},  # they know no classifier
    "objectives": {"guidance", "samplers", "methods"},
    "networks": {"training", "run", "metrics", "experiments", "report", "cli", "data"},
    "data": {"training", "run", "metrics", "experiments", "report", "cli", "networks"},
    "extractors": {"training", "run", "metrics", "experiments", "report", "cli"},
    "pictures": {"data", "training", "run", "metrics", "report", "experiments", "cli"},
    "training": {"metrics", "experiments", "report", "cli"},
    "run_folder": {"run", "metrics", "experiments", "report", "cli"},
    "run": {"experiments", "report", "interop", "cli"},
    "interop": {"experiments", "report", "cli"},
    "metrics": {"run", "run_folder", "report", "experiments", "interop", "cli"},
    "report": {"experiments", "cli"},
    "experiments": {"cli"},
}


UPWARDS = {"metrics.report": {"report"}}
"""`Report.plot` draws with what the pages draw with, and imports it when it is called."""


@pytest.mark.parametrize("name", [name for name in SOURCES if part(name) in ABOVE])
def test_imports_run_downwards(name: str) -> None:
    above = {part(other) for other in imported(name)} & ABOVE[part(name)]
    assert above == UPWARDS.get(name, set())


def test_only_the_entry_point_imports_the_command_line() -> None:
    importers = {name for name in SOURCES if "cli" in map(part, imported(name))}
    assert {name for name in importers if part(name) != "cli"} == {"__main__"}


def test_no_circle_at_import() -> None:
    graph = {name: imported(name, only_at_import=True) - {name} for name in SOURCES}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("process") < order.index("score") < order.index("samplers")
