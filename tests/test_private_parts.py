"""The private parts of other libraries that backends use: they are there, they are listed, and nothing fails without.

A part is taken away in a process of its own: an import of a backend happens once.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import logitx as lx
from logitx.backends.private_parts import PRIVATE_PARTS

PACKAGE = Path(lx.__file__).parent
PARTS = [part for used in PRIVATE_PARTS.values() for part in used.parts]


def run(code: str) -> str:
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


# -- what is used is listed, and what is listed is there --------------------------------------------------------------


def is_there(owner: Any, attribute: str) -> bool:
    """Say whether an object, or for a class any of its instances, has an attribute."""
    if hasattr(owner, attribute):
        return True
    assigned = re.compile(rf"\bself\.{attribute}\b|^    {attribute}\b", re.MULTILINE)
    classes = inspect.getmro(owner) if inspect.isclass(owner) else ()
    return any(assigned.search(inspect.getsource(cls)) for cls in classes if cls.__module__ != "builtins")


@pytest.mark.parametrize("part", PARTS)
def test_every_private_part_is_there(part):
    module, _, path = part.partition(":")
    pytest.importorskip(module.partition(".")[0], reason=f"{module} is not installed")
    owner: Any = importlib.import_module(module)
    *owners, last = path.split(".")
    for name in owners:
        owner = getattr(owner, name)
    if part == "jax._src.dispatch:prim_requires_devices_during_lowering" and not is_there(owner, last):
        pytest.skip("older than JAX's asking for it; `lowered_for_devices` goes without")
    assert is_there(owner, last), part


def imported_parts(path: Path) -> set[str]:
    """Return what a file imports of modules of Numba and llvmlite, as parts."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = {}  # by the name in this file
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(("numba", "llvmlite")):
            for alias in node.names:
                if is_module(f"{node.module}.{alias.name}"):
                    modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                else:
                    found.add(f"{node.module}:{alias.name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            found.add(f"{modules[node.value.id]}:{node.attr}")
    return found


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # what is before the last dot is no package
        return False


# What Numba and llvmlite document, or have had since their first releases
PUBLIC = re.compile(r"numba\.(core\.)?types(\.\w+)*:\w+|llvmlite\.ir:\w+|numba\.core\.errors:\w+")


def test_everything_that_is_imported_of_numba_is_listed():
    pytest.importorskip("numba", reason="numba is not installed")
    folders = (PACKAGE / "backends" / "numba", PACKAGE / "backends" / "xla")
    used = {part for folder in folders for path in folder.rglob("*.py") for part in imported_parts(path)}
    listed = [part for part in PARTS if part.startswith(("numba", "llvmlite"))]
    unlisted = {part for part in used if not PUBLIC.fullmatch(part)}
    unlisted = {part for part in unlisted if not any(one == part or one.startswith(f"{part}.") for one in listed)}
    assert unlisted == set()
    assert used, "nothing was found: the test is blind"


def test_every_private_function_of_torch_and_jax_is_listed():
    private = re.compile(
        r"torch\.(?:\w+\.)*_\w+(?:\.\w+)*|_functorch, \"\w+\"|_C, \"_\w+\"|forward_ad\._\w+|jax\._src\.\w+ import \w+"
    )
    found = {
        re.split(r"\W", one)[-1] or re.split(r"\W", one)[-2]
        for path in PACKAGE.rglob("*.py")
        if "testing" not in path.parts and path.name not in ("torch_tensors.py", "private_parts.py")
        for one in private.findall(path.read_text(encoding="utf-8"))
    } - {"_C", "_functorch"}
    listed = {re.split(r"[.:]", part)[-1] for part in PARTS} | {"_subclasses", "functional_tensor", "_ops"}
    assert found
    assert found <= listed


# -- XLA's call frame -------------------------------------------------------------------------------------------------


def test_the_offsets_are_those_of_the_header_that_jaxlib_ships():
    jaxlib = pytest.importorskip("jaxlib", reason="JAX is not installed")
    pytest.importorskip("numba", reason="numba is not installed")
    from logitx.backends.xla import call_frame as frame

    header = Path(jaxlib.__file__).parent / "include" / "xla" / "ffi" / "api" / "c_api.h"
    if not header.exists():
        pytest.skip("this jaxlib ships no header")
    text = re.sub(r"//.*", "", header.read_text(encoding="utf-8"))

    def fields(struct: str) -> list[str]:
        body = re.search(rf"struct {struct} \{{(.*?)\n\}};", text, re.DOTALL)
        assert body is not None, struct
        return [re.split(r"\W+", line.strip(" ;"))[-1] for line in re.findall(r"[^;]+;", body.group(1))]

    major, minor = (int(re.search(rf"XLA_FFI_API_{name} (\d+)", text).group(1)) for name in ("MAJOR", "MINOR"))
    assert major == frame.MAJOR, f"0.{minor}: offsets are read for {frame.MAJOR}, of any minor number"
    # In the frame arguments, results and attributes are structures; each other field is a word of 8 bytes, or half one
    order = ["struct_size", "extension_start", "api", "ctx", "stage", "args", "rets", "attrs"]
    assert fields("XLA_FFI_CallFrame")[: len(order)] == order
    buffer = ["struct_size", "extension_start", "dtype", "data", "rank", "dims"]
    assert fields("XLA_FFI_Buffer")[: len(buffer)] == buffer
    functions = re.findall(r"_XLA_FFI_API_STRUCT_FIELD\((\w+)\)", text.partition("struct XLA_FFI_Api {")[2])
    for name, offset in (
        ("XLA_FFI_Error_Create", frame._ERROR_CREATE),
        ("XLA_FFI_Error_Destroy", frame.ERROR_DESTROY),
        ("XLA_FFI_ThreadPool_Schedule", frame.SCHEDULE),
        ("XLA_FFI_ThreadPool_NumThreads", frame.NUM_THREADS),
    ):
        # structure size, extension, version (three words) and the internal table come before
        assert 48 + 8 * functions.index(name) == offset, name
