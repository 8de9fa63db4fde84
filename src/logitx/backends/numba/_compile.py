"""The compile policy of the Numba backend: the only file that decides how Python becomes machine code.

Three decisions live here and nowhere else. *Flags*: kernels run without the GIL, without bounds or division checks, and
with no fast-math flag at all, so that every result is the same on every machine. *Specialization*: one machine-code
version for each combination of dtypes, and none for memory layouts; a signature names strided, read-only, unaligned
arrays, which any array converts to at no cost. *Caching*: on disk where a directory can be written, with a key that
covers every source file of this package, since Numba itself looks at the file of the entry function only.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import _dynfunc
from numba.core import caching, codegen, compiler, typed_passes, types
from numba.core.compiler_machinery import register_pass
from numba.extending import intrinsic as _numba_intrinsic

Function = Callable[..., Any]


def intrinsic(function: Function) -> Function:
    """Make a function that emits LLVM instructions; `numba.extending.intrinsic` with a type."""
    made: Function = _numba_intrinsic(function)
    return made


def primitive(function: Function) -> Function:
    """Compile a building block of kernels: inlined into the kernels that call it, never called from Python."""
    made: Function = numba.njit(
        function,
        nogil=True,
        error_model="numpy",
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
        pipeline_class=_PrimitivePipeline,
    )
    return made


class _Draft(codegen.CPUCodeLibrary):
    """A library that stops at LLVM's intermediate code, which the kernels link and optimize.

    Numba would otherwise optimize and translate every primitive on its own, and again within each kernel: half of the
    time to compile a kernel.
    """

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerToDraft(typed_passes.NativeLowering):
    _name = "logitx_lower_to_draft"

    def run_pass(self, state: Any) -> bool:
        state.library = _Draft(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        changed: bool = super().run_pass(state)
        name = state.func_id.func_name
        lowered = state.cr
        handle = _dynfunc.make_function(lowered.fndesc.lookup_module(), name, name, 0, lowered.env, (state.library,))
        state.targetctx.insert_user_function(handle, lowered.fndesc, [state.library])
        state.cr = lowered._replace(cfunc=handle)
        return changed


class _PrimitivePipeline(compiler.CompilerBase):
    def define_pipelines(self) -> list[Any]:
        pipeline = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline.passes = [
            (_LowerToDraft, what) if one is typed_passes.NativeLowering else (one, what)
            for one, what in pipeline.passes
        ]
        pipeline.finalize()
        return [pipeline]


def kernel(function: Function, signature: tuple[Any, ...]) -> Function:
    """Compile an entry point for exactly one signature."""
    dispatcher: Any = numba.njit(function, nogil=True, error_model="numpy", no_cfunc_wrapper=True)
    with contextlib.suppress(RuntimeError, OSError):  # without a directory to write to, every process compiles
        dispatcher._cache = _Cache(function)
    dispatcher.compile(signature)
    dispatcher.disable_compile()
    made: Function = dispatcher
    return made


class _Cache(caching.FunctionCache):
    """Numba's cache on disk, keyed by all of our sources, never a reason to fail."""

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), _fingerprint())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a file cut short or from another world is only a miss
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:  # a full disk or a directory that became read-only costs speed, not the call
            self.disable()


@functools.cache
def _fingerprint() -> str:
    """Hash what the machine code depends on besides the function, its types and the processor."""
    digest = hashlib.sha256(importlib.metadata.version("llvmlite").encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


_SCALARS = {
    "float16": types.uint16,  # Numba has neither half; the two integer types tell the kernels which one it is
    "bfloat16": types.int16,
    "float32": types.float32,
    "float64": types.float64,
    "bool": types.boolean,
    "int64": types.int64,
}


def scalar(dtype: str) -> Any:
    """Return the Numba type that stands for a dtype in kernels."""
    return _SCALARS[dtype]


def source(dtype: str, ndim: int) -> Any:
    """Return the type of an array that a kernel reads, of any layout."""
    return types.Array(_SCALARS[dtype], ndim, "A", readonly=True, aligned=False)


def target(dtype: str, ndim: int) -> Any:
    """Return the type of an array that a kernel writes, of any layout."""
    return types.Array(_SCALARS[dtype], ndim, "A", readonly=False, aligned=False)
