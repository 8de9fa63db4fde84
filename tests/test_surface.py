"""The gates of the house: what a reviewer could check by eye, checked by machine instead."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pydoc
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import logitx as lx
from logitx.backends import BACKENDS
from logitx.backends.protocol import Backend
from logitx.testing import OPS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "logitx"
SOURCES = sorted(path for top in ("src", "tests", "benchmarks", "docs") for path in (ROOT / top).rglob("*.py"))
SOURCES.append(ROOT / "noxfile.py")
SHIPPED = [path for path in SOURCES if path.is_relative_to(PACKAGE)]
LIBRARY = [path for path in SHIPPED if not path.is_relative_to(PACKAGE / "testing")]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

SAMPLING = {"softmax_top_k", "sample", "gumbel_softmax"}  # rows of chosen classes: tests/test_sampling.py
HELPERS = {"backends", "which", "use_backend", "set_num_threads", "warmup", "CrossEntropy"} | SAMPLING
HELPERS |= {"balanced_class_weight"}
ERRORS = {"LabelError"}
OPERATIONS = [name for name in vars(Backend) if not name.startswith("_") and name != "accepts"]
FUNCTIONS = [op.name for op in OPS]
FRAMEWORKS = (
    "numba",
    "jax",
    "torch",
    "tensorflow",
    "pandas",
    "polars",
    "xarray",
    "dask",
    "distributed",
    "tqdm",
    "array_api_compat.numpy",
    "array_api_compat.torch",
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function without its docstring and decorators."""
    documented = ast.get_docstring(function) is not None
    docstring = function.body[0].end_lineno - function.body[0].lineno + 1 if documented else 0
    return function.end_lineno - function.lineno + 1 - docstring


def matches(pattern: str, paths: list[Path]) -> set[str]:
    return {name_of(path) for path in paths if re.search(pattern, path.read_text(encoding="utf-8"))}


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_file_over_400_lines_and_no_function_over_60(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    long = {function.name: body_lines(function) for function in functions(ast.parse(text))}
    assert {name: lines for name, lines in long.items() if lines > 60} == {}


def test_no_file_is_a_drawer_for_everything():
    drawers = {"util", "utils", "helper", "helpers", "common", "misc"}
    assert [name_of(path) for path in SOURCES if path.stem.strip("_") in drawers] == []


def test_the_top_level_holds_what_it_should():
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        files = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: what belongs here cannot be told from what was built here")
    assert {line.partition("/")[0] for line in files.stdout.splitlines()} == {
        "pyproject.toml", "src", "tests", "benchmarks", "docs", "noxfile.py", "README.md", "CHANGELOG.md",
        "CONTRIBUTING.md", "SECURITY.md", "LICENSE", ".ci", ".github", ".gitignore",
    }  # fmt: skip


# -- who may know what ------------------------------------------------------------------------------------------------


def compares_a_backend_name(tree: ast.AST) -> bool:
    """True if a backend's name is compared to anything but the keys of `sys.modules`."""
    names = {row.name for row in BACKENDS}
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and "sys.modules" not in ast.unparse(node):
            for side in (node.left, *node.comparators):
                if any(isinstance(part, ast.Constant) and part.value in names for part in ast.walk(side)):
                    return True
    return False


def test_a_backend_name_is_compared_only_in_dispatch():
    comparing = {name_of(path) for path in LIBRARY if compares_a_backend_name(ast.parse(path.read_text("utf-8")))}
    assert comparing <= {"src/logitx/_dispatch.py"}


def test_njit_stands_only_in_the_compile_policy():
    assert matches(r"\bnjit\(", SHIPPED) == {"src/logitx/backends/numba/compile/policy.py"}


def flags_of(tree: ast.AST) -> Iterator[str]:
    """Yield every fast-math flag that a source asks for, and every name of one in a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in ("fastmath", "flags"):
            yield ast.unparse(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"\breassoc\b|\bfastmath\b", node.value)


def test_reassoc_stands_nowhere():
    assert matches("reassoc|fastmath|set_fast_math", SHIPPED) == set()
    flags = {name_of(path): [*flags_of(ast.parse(path.read_text(encoding="utf-8")))] for path in SHIPPED}
    assert {name: found for name, found in flags.items() if any("flags=" not in one for one in found)} == {}


def calls_of(tree: ast.AST) -> Iterator[str]:
    return (ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))


def loads_arrays(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and re.fullmatch(r"np\.(load|.*\.read_array)", ast.unparse(node.func)) is not None


def test_nothing_is_unpickled_evaluated_or_downloaded():
    modules = (
        r"^\s*(?:import|from) (?:pickle|marshal|shelve|dill|cloudpickle|urllib|http|socket|requests|ssl|subprocess)\b"
    )
    found = {name_of(path) for path in LIBRARY if re.search(modules, path.read_text(encoding="utf-8"), re.MULTILINE)}
    # Compiled kernels, as Numba has them: from files that only the user can write, after a look at their digest
    assert found == {"src/logitx/backends/numba/compile/cache.py"}
    never = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load"}
    trees = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in LIBRARY}
    calling = {name: never & set(calls_of(tree)) for name, tree in trees.items()}
    assert {name: calls for name, calls in calling.items() if calls} == {}
    reading = [ast.unparse(node) for tree in trees.values() for node in ast.walk(tree) if loads_arrays(node)]
    assert [call for call in reading if "allow_pickle=False" not in call] == []


def test_axis_arithmetic_stands_only_in_the_plan():
    arithmetic = r"%\s*([\w.]+\.)?ndim|\+\s*([\w.]+\.)?ndim|\baxis\s*<\s*0|\baxis\s*[+%]=|normalize_axis"
    outside = [path for path in LIBRARY if path != PACKAGE / "_plan.py"]
    assert matches(arithmetic, outside) == set()


def test_nothing_is_validated_by_assert():
    asserting = [
        f"{name_of(path)}:{node.lineno}"
        for path in LIBRARY
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert asserting == []


def test_nothing_in_the_library_imports_testing():
    assert matches(r"(from|import) logitx\.testing|from logitx import testing", LIBRARY) == set()


def test_imports_point_one_way():
    order = [
        "_plan",
        "_arrays",
        "_labelled",
        "_arguments",
        "_results",
        "_operations",
        "_dispatch",
        "_prepared",
        "_functions",
    ]
    wrong = []
    for path in LIBRARY:
        layer = next((part for part in (path.stem, path.parent.name) if part in order), None)
        if layer is not None:
            later = order[order.index(layer) + 1 :]
            lines = re.findall(r"^\s*(?:from|import) logitx\b.*", path.read_text(encoding="utf-8"), re.MULTILINE)
            wrong += [f"{name_of(path)}: {line}" for line in lines if set(re.findall(r"\w+", line)) & set(later)]
    assert wrong == []


# -- the public names -------------------------------------------------------------------------------------------------


def test_all_equals_ops_and_helpers():
    assert set(lx.__all__) - {"__version__"} == {op.name for op in OPS} | HELPERS | ERRORS
    assert len(lx.__all__) == len(set(lx.__all__))
    assert all(hasattr(lx, name) for name in lx.__all__)
    assert dir(lx) == sorted([*lx.__all__, "__doc__", "__version__"])


def test_help_of_the_package_lists_all_names():
    listed = re.findall(r"^(\w+)\n    (\S.*)$", inspect.getdoc(lx), re.MULTILINE)
    assert sorted(listed) == sorted((name, inspect.getdoc(getattr(lx, name)).splitlines()[0]) for name in lx.__all__)


@pytest.mark.parametrize("name", sorted(lx.__all__))
def test_help_is_plain_text(name):
    assert re.findall(r":math:|math::|\\[a-zA-Z]", pydoc.plain(pydoc.render_doc(getattr(lx, name)))) == []


def test_every_operation_of_a_backend_has_a_row():
    """Other rows are functions that call public functions, and that no backend defines."""
    assert set(OPERATIONS) <= {op.name for op in OPS}


@pytest.mark.parametrize("name", sorted(set(lx.__all__) - {"__version__"}))
def test_public_signatures(name):
    kinds = {parameter.name: parameter.kind for parameter in inspect.signature(getattr(lx, name)).parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds.values() or name == "which"  # it takes what any function takes
    assert "dim" not in kinds
    flexible = {key for key, kind in kinds.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD}
    if name in FUNCTIONS:
        assert flexible <= {"axis", "bias", "logits", "targets"}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("row", BACKENDS, ids=lambda row: row.name)
def test_backends_have_the_signatures_of_the_protocol(row, operation):
    if row.requires is not None and importlib.util.find_spec(row.requires) is None:
        pytest.skip(f"{row.requires} is not installed")
    module = importlib.import_module(row.module)
    assert callable(module.accepts)
    if operation in getattr(module, "DECLINES", {}):
        return  # declared, with a reason, and shown by `which`
    _, *expected = inspect.signature(getattr(Backend, operation)).parameters
    found = inspect.signature(getattr(module, operation)).parameters
    assert list(found) == expected
    assert all(parameter.default is inspect.Parameter.empty for parameter in found.values())


# -- importing --------------------------------------------------------------------------------------------------------


def test_importing_loads_no_framework():
    code = f"import sys, logitx; print(*[name for name in {FRAMEWORKS!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []


def test_importing_loads_nothing_but_numpy_and_what_python_has():
    """Each further library costs time in every program that imports this one."""
    code = "import sys, numpy; before = {*sys.modules}; import logitx; print(*{*sys.modules} - before)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {name.partition(".")[0] for name in loaded.split()} <= {"logitx", "numpy", *sys.stdlib_module_names}


# -- plain English ----------------------------------------------------------------------------------------------------

PROSE = [path for path in [*SOURCES, *DOCUMENTS] if path != Path(__file__).resolve()]
RIDDLES = re.compile(
    r"what follows\b|comes? down to|has a say|have (?:their|a) say|\bis but\b|goes where it belongs"
    r"|what there is one of|of which that is|whatever it holds|said once|once and for all|which says nothing"
    r"|what an array is that"
)
LET = re.compile(r"\s*(Let|Have|Tell whether)\b")


def docstrings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


@pytest.mark.parametrize("path", PROSE, ids=name_of)
def test_prose_is_plain(path):
    """The phrases hide what is meant: name the argument, the value and the code that uses it."""
    text = path.read_text(encoding="utf-8")
    found = [line.strip() for line in text.splitlines() if RIDDLES.search(line)]
    if path.suffix == ".py":
        found += [doc.splitlines()[0] for doc in docstrings(ast.parse(text)) if LET.match(doc)]
    assert found == []


# -- docstrings and documents -----------------------------------------------------------------------------------------

SECTIONS = ["Parameters", "Returns", "Raises", "Notes", "References", "Examples"]


def section(function, title: str) -> str:
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", inspect.getdoc(function), re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions_document_everything(name):
    function = getattr(lx, name)
    assert [title for title in SECTIONS if not section(function, title).strip()] == []
    assert ">>>" in section(function, "Examples")


@pytest.mark.parametrize("name", sorted(HELPERS | ERRORS))
def test_helpers_document_an_example(name):
    assert ">>>" in section(getattr(lx, name), "Examples")


@pytest.mark.parametrize("name", sorted({*FUNCTIONS} | HELPERS))
def test_documented_parameters_and_defaults_are_real(name):
    function = getattr(lx, name)
    real = inspect.signature(function).parameters
    documented = []
    for names, kind in re.findall(r"^([*\w][\w*, ]*)(?: : (.*))?$", section(function, "Parameters"), re.MULTILINE):
        documented += (group := [one.strip("* ") for one in names.split(",")])
        stated = re.search(r"default:? (.+)$", kind)
        for one in group:
            if stated:
                assert real[one].default == ast.literal_eval(stated[1])
            elif kind:  # without one, another function is referred to
                assert ("optional" in kind) == (real[one].default is not inspect.Parameter.empty)
    assert sorted(documented) == sorted(real)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    anchors = {re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in text.splitlines()}
    missing = [
        t for t in targets if not (t[1:] in anchors if t[0] == "#" else (path.parent / t.partition("#")[0]).exists())
    ]
    assert missing == []
