"""The compile policy of the Numba backend: the only file that decides how Python becomes machine code.

Three decisions live here and nowhere else. *Flags*: kernels run without the GIL, without bounds or division checks, and
with no fast-math flag at all, so that every result is the same on every machine. *Specialization*: one machine-code
version for each combination of dtypes, and none for memory layouts (`memory.arguments`). *Caching*: on disk where a
directory can be written, with a key that covers every source file of this package, since Numba itself looks at the file
of the entry function only.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import numba
from llvmlite import ir
from numba.core import codegen, config, registry, types
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic as _numba_intrinsic

from logitx._undisturbed import undisturbed
from logitx._unfit import given_up
from logitx.backends.numba.compile.cache import KernelCache
from logitx.backends.numba.compile.llvm_types import I64
from logitx.backends.numba.compile.pipeline import (
    _InlinedPipeline,
    _KernelPipeline,
    _PrimitivePipeline,
    _SeparatePipeline,
)
from logitx.backends.numba.compile.static import Function
from logitx.backends.numba.compile.without_scipy import load_array_functions

load_array_functions()  # before the first compilation, which loads them
_KEPT: list[Any] = []  # dispatchers own the machine code
_MACHINE_CODE: dict[Function, Any] = {}


def intrinsic(function: Function) -> Function:
    """Make a function that emits LLVM instructions; `numba.extending.intrinsic` with a type."""
    made: Function = _numba_intrinsic(function)
    return made


def _jit(function: Function, **options: Any) -> Any:
    """Call `numba.njit`, also where NUMBA_DISABLE_JIT is set: kernels are made of what Python cannot run."""
    disabled, config.DISABLE_JIT = config.DISABLE_JIT, 0
    try:
        return numba.njit(function, **options)
    finally:
        config.DISABLE_JIT = disabled


def primitive(function: Function, pipeline: type = _PrimitivePipeline) -> Function:
    """Compile a building block of kernels, never called from Python: LLVM decides where it is inlined."""
    made: Function = _jit(
        function,
        nogil=True,
        error_model="numpy",
        _nrt=False,  # nothing in kernels is counted
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
        pipeline_class=pipeline,
    )
    return made


def inlined(function: Function) -> Function:
    """Compile a building block that is always inlined: one that takes a panel or a task, a hundred numbers by value.

    To pass these costs 20 to 40 ns a panel: 13 % of the cross-entropy of 10,000 rows of 10 classes.
    """
    return primitive(function, _InlinedPipeline)


def separate(function: Function) -> Function:
    """Compile a building block that is never inlined: a loop of exponentials, which needs all registers.

    Within a kernel its twelve constants are read in every step: softmax of 128 classes took 0.62 ns an entry, not 0.57.
    """
    return primitive(function, _SeparatePipeline)


def compile_kernel(function: Function, signature: tuple[Any, ...]) -> Function:
    """Compile an entry point for exactly one signature; what is returned checks no types, its caller knows them.

    It is what Numba's dispatcher would call after looking at every argument, which costs 0.3 us.
    """
    dispatcher: Any = _jit(
        function, nogil=True, error_model="numpy", _nrt=False, no_cfunc_wrapper=True, pipeline_class=_KernelPipeline
    )
    dispatcher._cache = KernelCache(function)
    with undisturbed(), _uncollected(), _toolchain():
        made: Function = dispatcher.compile(signature)
    _KEPT.append(dispatcher)
    (_MACHINE_CODE[made],) = dispatcher.overloads.values()
    return made


def machine_code(made: Function) -> int:
    """Return the address of a compiled kernel, as other machine code calls it."""
    compiled = _MACHINE_CODE[made]
    address: int = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return address


def bind_word(function: int, word: int) -> int:
    """Return the address of machine code that calls a function of two words with a second one that stays the same."""
    context = registry.cpu_target.target_context
    library: Any = codegen.JITCodeLibrary(context.codegen(), f"logitx_bound_{function:x}_{word:x}")
    module = library.create_ir_module("bound")
    kind = ir.FunctionType(I64, [I64])
    entry = ir.Function(module, kind, f"logitx_bound_{function:x}_{word:x}")
    builder = ir.IRBuilder(entry.append_basic_block())
    target = builder.inttoptr(I64(function), ir.FunctionType(I64, [I64, I64]).as_pointer())
    builder.ret(builder.call(target, [entry.args[0], I64(word)]))
    with undisturbed(), global_compiler_lock, _toolchain():
        library.add_ir_module(module)
        library.finalize()
    _KEPT.append(library)
    address: int = library.get_pointer_to_function(entry.name)
    return address


@contextlib.contextmanager
def _toolchain() -> Iterator[None]:
    """Give the kernels up where one cannot be compiled: what is compiled never depends on what users pass."""
    try:
        yield
    except Exception as error:
        raise given_up("numba", error) from error


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python from looking for garbage in all that Numba builds, and keeps: a tenth of the time and more."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def native(function: Function, signature: tuple[Any, ...]) -> int:
    """Compile a function of integers for machine code to call, without Python and the GIL; return its address."""
    options = {"nopython": True, "error_model": "numpy"}
    callback: Any = CFunc(function, (signature, types.int64), {}, options, pipeline_class=_KernelPipeline)
    callback._cache = KernelCache(function)
    with undisturbed(), _toolchain():
        callback.compile()
    _KEPT.append(callback)
    address: int = callback.address
    return address
