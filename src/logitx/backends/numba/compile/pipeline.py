"""Numba's passes from Python to machine code, less what kernels do not need."""

from __future__ import annotations

from typing import Any

from llvmlite import binding
from numba import _dynfunc
from numba.core import cgutils, codegen, compiler, typed_passes, untyped_passes
from numba.core.compiler_machinery import register_pass


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


class _InlinedDraft(_Draft):
    """A draft that LLVM copies into its callers, whatever its size."""

    def add_ir_module(self, ir_module: Any) -> None:
        for function in ir_module.functions:  # before it is parsed: llvmlite 0.45 gives a parsed function no attribute
            if not function.is_declaration and not function.linkage:
                function.attributes.add("alwaysinline")
        super().add_ir_module(ir_module)


class _SeparateDraft(_Draft):
    """A draft that LLVM never copies into its callers."""

    def add_ir_module(self, ir_module: Any) -> None:
        for function in ir_module.functions:
            if not function.is_declaration and not function.linkage:
                function.attributes.add("noinline")
        super().add_ir_module(ir_module)


class _LinkedLibrary(codegen.JITCodeLibrary):
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
    draft: type[_Draft] = _Draft

    def run_pass(self, state: Any) -> bool:
        state.library = self.draft(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        changed: bool = super().run_pass(state)
        name = state.func_id.func_name
        lowered = state.cr
        handle = _dynfunc.make_function(lowered.fndesc.lookup_module(), name, name, 0, lowered.env, (state.library,))
        state.targetctx.insert_user_function(handle, lowered.fndesc, [state.library])
        state.cr = lowered._replace(cfunc=handle)
        return changed


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerToInlinedDraft(_LowerToDraft):
    _name = "logitx_lower_to_inlined_draft"
    draft = _InlinedDraft


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerToSeparateDraft(_LowerToDraft):
    _name = "logitx_lower_to_separate_draft"
    draft = _SeparateDraft


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerToWhole(typed_passes.NativeLowering):
    _name = "logitx_lower_to_whole"

    def run_pass(self, state: Any) -> bool:
        state.library = _LinkedLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
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


class _InlinedPipeline(_Pipeline):
    lower = _LowerToInlinedDraft


class _SeparatePipeline(_Pipeline):
    lower = _LowerToSeparateDraft


class _KernelPipeline(_Pipeline):
    lower = _LowerToWhole
