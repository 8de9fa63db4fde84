"""The compile policy of the Numba backend: the only file that decides how Python becomes machine code.

Three decisions live here and nowhere else. *Flags*: kernels run without the GIL, without bounds or division checks, and
with no fast-math flag at all, so that every result is the same on every machine. *Specialization*: one machine-code
version for each combination of dtypes, and none for memory layouts (`_memory`). *Caching*: on disk where a directory
can be written, with a key that covers every source file of this package, since Numba itself looks at the file of the
entry function only.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import importlib.metadata
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding, ir
from numba import _dynfunc
from numba.core import caching, cgutils, codegen, compiler, registry, typed_passes, types, untyped_passes
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import register_pass
from numba.extending import NativeValue, lower_builtin, models, register_model, type_callable, unbox
from numba.extending import intrinsic as _numba_intrinsic

Function = Callable[..., Any]


_KEPT: list[Any] = []  # dispatchers own the machine code
_MACHINE_CODE: dict[Function, Any] = {}
_I64 = ir.IntType(64)


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
        _nrt=False,  # nothing in kernels is counted
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
        pipeline_class=_PrimitivePipeline,
    )
    return made


class Known(types.Literal):
    """The type of an argument that is known to be there when compiling: Numba drops branches on ``is None``.

    Where the argument is None instead, it drops the other branch, so that a kernel has only one of two ways in it.
    """

    def __init__(self) -> None:
        """Make the one type; nothing but its being there is known."""
        super().__init__("known")

    @property
    def literal_type(self) -> Any:
        """Stay what it is in calls."""
        return self


KNOWN = Known()
register_model(Known)(models.OpaqueModel)


@unbox(Known)
def _unbox(_kind: Known, _obj: Any, c: Any) -> Any:
    return NativeValue(c.context.get_dummy_value())


def by_type(cases: dict[type, Function]) -> Function:
    """Return a function of (x, facts) for kernels: the primitive for the type of `facts`, chosen when compiling."""

    def chosen(x: Any, facts: Any) -> Any:
        raise NotImplementedError("only for kernels")

    def call(context: Any, kinds: Any) -> Any:
        function = context.resolve_value_type(cases[getattr(kinds[1], "instance_class", int)])
        return function, function.get_call_type(context, kinds, {})

    @type_callable(chosen)
    def typing(context: Any) -> Any:
        return lambda x, facts: call(context, (x, facts))[1].return_type

    @lower_builtin(chosen, types.Any, types.Any)
    def lower(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        implementation = context.get_function(*call(context.typing_context, signature.args))
        context.add_linking_libs(implementation.libs)
        return implementation(builder, operands)

    return chosen


class _Draft(codegen.CPUCodeLibrary):
    """A library that stops at LLVM's intermediate code, which the kernels link and optimize.

    Numba would otherwise optimize and translate every primitive on its own, link all that it calls into it, and do so
    again within each kernel: most of the time to compile a kernel.
    """

    def add_ir_module(self, ir_module: Any) -> None:
        self._final_module = binding.parse_assembly(cgutils.normalize_ir_text(str(ir_module)))
        self._final_module.name = ir_module.name
        self._final_module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == binding.Linkage.external:
                function.linkage = "linkonce_odr"  # so that what is inlined everywhere leaves nothing behind
        self._finalize_dynamic_globals()
        self._finalized = True

    def _get_module_for_linking(self) -> Any:
        return self._final_module


class _Whole(codegen.JITCodeLibrary):
    """A library with all that it calls, each linked once, and optimized once.

    Numba's second pipeline looks for reference counts to remove, of which kernels have none.
    """

    def finalize(self) -> None:
        known: list[Any] = list(self._linking_libraries)  # type: ignore[has-type]
        for library in known:  # grows as it goes
            known.extend(one for one in getattr(library, "_linking_libraries", ()) if one not in known)
        self._linking_libraries = known
        super().finalize()

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        builder = self._codegen._pass_builder(opt=2, loop_vectorize=True, slp_vectorize=False)
        builder.getModulePassManager().run(self._final_module, builder)


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


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerToWhole(typed_passes.NativeLowering):
    _name = "logitx_lower_to_whole"

    def run_pass(self, state: Any) -> bool:
        state.library = _Whole(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        changed: bool = super().run_pass(state)
        return changed


# Passes for what kernels have none of (closures, comprehensions, array expressions, `with`, unrolled literals, dynamic
# exceptions) and for checks that they pass: a tenth of the time before LLVM
_LEFT_OUT = (
    untyped_passes.WithLifting,
    untyped_passes.InlineClosureLikes,
    untyped_passes.GenericRewrites,
    untyped_passes.RewriteDynamicRaises,
    untyped_passes.MakeFunctionToJitFunction,
    untyped_passes.InlineInlinables,
    untyped_passes.LiteralUnroll,
    typed_passes.InlineOverloads,
    typed_passes.NopythonRewrites,
    typed_passes.IRLegalization,
    typed_passes.AnnotateTypes,
)


class _Pipeline(compiler.CompilerBase):
    """Numba's way from Python to machine code without what kernels do not need, and with another last step."""

    lower: Any

    def define_pipelines(self) -> list[Any]:
        pipeline = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline.passes = [
            (self.lower if one is typed_passes.NativeLowering else one, what)
            for one, what in pipeline.passes
            if one not in _LEFT_OUT
        ]
        pipeline.finalize()
        return [pipeline]


class _PrimitivePipeline(_Pipeline):
    lower = _LowerToDraft


class _KernelPipeline(_Pipeline):
    lower = _LowerToWhole


def kernel(function: Function, signature: tuple[Any, ...]) -> Function:
    """Compile an entry point for exactly one signature; what is returned checks no types, its caller knows them.

    It is what Numba's dispatcher would call after looking at every argument, which costs 0.3 us.
    """
    dispatcher: Any = numba.njit(
        function, nogil=True, error_model="numpy", _nrt=False, no_cfunc_wrapper=True, pipeline_class=_KernelPipeline
    )
    with contextlib.suppress(RuntimeError, OSError):  # without a directory to write to, every process compiles
        dispatcher._cache = _Cache(function)
    with _uncollected():
        made: Function = dispatcher.compile(signature)
    _KEPT.append(dispatcher)
    (_MACHINE_CODE[made],) = dispatcher.overloads.values()
    return made


def machine_code(made: Function) -> tuple[int, tuple[Any, ...]]:
    """Return the address of a compiled kernel, as other machine code calls it, and the types of its arguments."""
    compiled = _MACHINE_CODE[made]
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name), compiled.signature.args


def bound(function: int, word: int) -> int:
    """Return the address of machine code that calls a function of two words with a second one that stays the same."""
    context = registry.cpu_target.target_context
    library: Any = codegen.JITCodeLibrary(context.codegen(), f"logitx_bound_{function:x}_{word:x}")
    module = library.create_ir_module("bound")
    kind = ir.FunctionType(_I64, [_I64])
    entry = ir.Function(module, kind, f"logitx_bound_{function:x}_{word:x}")
    builder = ir.IRBuilder(entry.append_basic_block())
    target = builder.inttoptr(_I64(function), ir.FunctionType(_I64, [_I64, _I64]).as_pointer())
    builder.ret(builder.call(target, [entry.args[0], _I64(word)]))
    with global_compiler_lock:
        library.add_ir_module(module)
        library.finalize()
    _KEPT.append(library)
    address: int = library.get_pointer_to_function(entry.name)
    return address


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
    with contextlib.suppress(RuntimeError, OSError):
        callback._cache = _Cache(function)
    callback.compile()
    _KEPT.append(callback)
    address: int = callback.address
    return address


class _Cache(caching.FunctionCache):
    """Numba's cache on disk, keyed by all of our sources, private to the user, never a reason to fail."""

    def __init__(self, function: Function) -> None:
        """Keep files in a folder of our own within the directory that Numba chooses; OSError without one."""
        super().__init__(function)
        directory: str = self._impl.locator.get_cache_path()
        self._cache_path = _private(directory)

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        key = (*super()._index_key(sig, codegen), sources())
        # Files of its own for every key. Numba's are numbered: two processes that compile two kernels at once take the
        # same number, and one that reads between the two writes of another gets machine code of older sources.
        name = f"{self._impl.filename_base}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}"
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = caching.IndexDataCacheFile(self._cache_path, name, stamp)
        return key

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


def _private(directory: str) -> str:
    """Return a folder that nobody else can write to: what is in it will run, and its index is unpickled by Numba."""
    folder = os.path.join(directory, "logitx")  # noqa: PTH118  as Numba has it
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)  # noqa: PTH102
    found = os.lstat(folder)  # not what a link leads to
    mine = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
    if not (stat.S_ISDIR(found.st_mode) and mine):
        raise OSError(f"{folder} is open to others")
    return folder


@functools.cache
def sources() -> str:
    """Hash what the machine code depends on besides the function, its types and the processor."""
    digest = hashlib.sha256(importlib.metadata.version("llvmlite").encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
