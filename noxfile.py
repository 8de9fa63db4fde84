"""Every check of the project, each a session: `nox -l` lists them, a plain `nox` runs those that must pass.

What a session installs is a dependency group of pyproject.toml, and the Pythons are its classifiers; nothing is listed
twice. Environments are made by virtualenv and pip, and are reused with `nox -r`.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import sys
import urllib.request
from pathlib import Path

import nox

PYPROJECT = nox.project.load_toml("pyproject.toml")
VERSIONS = nox.project.python_versions(PYPROJECT)

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False  # tests_lite runs on the Pythons there are
# What must pass before a change lands, in this order; .ci/run and the workflow read it here
nox.options.sessions = ["tests", "lint", "types", "doctests", "tests_lite", "bench_smoke"]

# pyenv shows the selected Pythons only: select all that are supported
PYENV = [path for version in VERSIONS for path in Path(os.getenv("PYENV_ROOT", ".nox")).glob(f"versions/{version}.*")]
if PYENV:
    os.environ["PYENV_VERSION"] = ":".join(path.name for path in PYENV)

# Two cores are worth having; more processes than that cost more memory than they save time. `-- -n0` for a debugger.
PYTEST = ("python", "-m", "pytest", "-n2", "--dist=worksteal")


def install(session: nox.Session, *groups: str, more: tuple[str, ...] = ("-e", "."), silent: bool = True) -> None:
    """Install dependency groups and `more`, the package, in one go, so that pip resolves them together.

    Modules are compiled where they are imported: compiling all of them takes longer than the rest of an installation.
    """
    session.install("--no-compile", *nox.project.dependency_groups(PYPROJECT, *groups), *more, silent=silent)


CPU_WHEELS = "https://download.pytorch.org/whl/cpu"


def cpu_wheels() -> tuple[str, ...]:
    """Return the option of pip that spares gigabytes of CUDA on Linux, if PyTorch's index can be reached."""
    try:
        with urllib.request.urlopen(f"{CPU_WHEELS}/torch/", timeout=10):
            return "--extra-index-url", CPU_WHEELS
    except (OSError, ValueError):  # no network, or a proxy that refuses
        return ()


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and formatting."""
    install(session, "lint", more=())
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict, on the package; mypy and pyright, as a user has them, on tests/typed_user.py and every example."""
    install(session, "types", "frameworks", "labels", "plots")
    session.run("mypy", *session.posargs)
    examples = session.create_tmp()
    session.run("python", "docs/typed_examples.py", examples)
    session.run("mypy", "--config-file=", "--strict", "tests/typed_user.py")
    # Examples need no annotations, and use libraries that have none or are not installed
    session.run(
        "mypy", "--config-file=", "--strict", "--allow-untyped-defs", "--allow-untyped-calls", "--no-warn-return-any",
        "--allow-untyped-decorators", "--no-strict-optional", "--ignore-missing-imports", "--allow-redefinition-new",
        "--local-partial-types", examples,
    )  # fmt: skip
    session.run("pyright", "tests/typed_user.py")
    session.run("pyright", "--project", examples)


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite on every backend."""
    install(session, "test-all")
    session.run(*PYTEST, *session.posargs)


# What differs from one Python to another: how kernels are compiled, the surface and errors
LITE = ("tests/test_essence.py", "tests/test_arguments.py", "tests/test_dispatch.py", "tests/test_surface.py")
# What differs from one system to another: that, and values, in one dtype
ESSENCE = (*LITE, "tests/test_conformance.py", "-k", "float32 or not conformance")
WITHOUT_NUMBA = ("tests/test_private_parts.py", "tests/test_shell.py", "tests/test_unfit.py")


@nox.session(python=VERSIONS)
def tests_lite(session: nox.Session) -> None:
    """What differs between Pythons, with NumPy and Numba only, against the built wheel, on every Python there is.

    `nox -s tests` runs all of the suite on yours; `nox -s tests_lite -- tests` all that needs no framework.
    """
    install(session, "test", more=(".",))
    session.run(*PYTEST, *(session.posargs or LITE))


@nox.session
def tests_without_numba(session: nox.Session) -> None:
    """The essence of the suite with NumPy only, as where there is no Numba: every function runs by its formulas."""
    install(session, "test", more=("array-api-compat",))
    session.install("--no-deps", ".")
    session.run(*PYTEST, *(session.posargs or (*WITHOUT_NUMBA, *ESSENCE)))


@nox.session
def tests_installed(session: nox.Session) -> None:
    """The essence of the suite and what differs from one system to another, against the wheel in dist."""
    (wheel,) = map(str, Path("dist").glob("logitx-*.whl"))
    install(session, "test", more=(wheel,))
    session.run(*PYTEST, *(session.posargs or ("tests/test_systems.py", "tests/test_threads.py", *ESSENCE)))


# On an emulated processor a kernel takes ten seconds and more to compile: the functions that others are made of
ON_ARM = (
    "numpy-numba and not bfloat16 and (float32 or float16) and (test_conformance[softmax- or [log_softmax- or"
    " [logsumexp- or [cross_entropy- or [cross_entropy_value_and_grad- or [entropy- or [kl_divergence- or"
    " [selected_log_softmax- or [softmax_mean- or [softmax_vjp- or [sigmoid- or [logcumsumexp-)"
)


@nox.session
def tests_arm(session: nox.Session) -> None:
    """Conformance of the kernels in float32 and float16 on a 64-bit Arm processor, emulated by qemu-user: 20 minutes.

    `-- -k "numpy-numba and focal"` chooses other cells.
    """
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if emulator is None or shutil.which("dpkg-deb") is None:
        session.skip("qemu-user (Debian's qemu-user-static) or dpkg-deb is not installed")
    root = Path("build", "arm").resolve()
    try:
        session.run("python", "tests/arm_root.py", str(root), silent=True)
    except nox.command.CommandFailed:
        session.skip("the Arm Python of Debian, or wheels for it, cannot be downloaded")
    python = root / "python"
    python.write_text(f'#!/bin/sh\nexec {emulator} -L {root} {root}/usr/bin/python3.11 "$@"\n')
    python.chmod(0o755)
    folders = {"PYTHONHOME": f"{root}/usr", "NUMBA_CACHE_DIR": f"{root}/cache"}
    session.run(
        str(python), "-m", "pytest", "--pyargs", "logitx.testing", "-p", "no:cacheprovider", "-q", "--durations=5",
        "--dist=worksteal", f"--tx=2*popen//python={python}", *(session.posargs or ("-k", ON_ARM)), external=True,
        env={**folders, "PYTHONPATH": os.pathsep.join([str(Path("src").resolve()), f"{root}/site"])},
    )  # fmt: skip


@nox.session
def package(session: nox.Session) -> None:
    """Build sdist and wheel, check both, and try each in an empty environment: README's first example, `logitx info`.

    What is built is in dist; the release workflow publishes it. `-- --no-try` only builds and checks.
    """
    session.install("build", "twine", "check-wheel-contents")
    for old in Path("dist").glob("logitx-*"):
        old.unlink()
    session.run("python", "-m", "build", "--outdir", "dist")
    built = sorted(map(str, Path("dist").glob("logitx-*")))
    session.run("twine", "check", "--strict", *built)
    session.run("check-wheel-contents", *(one for one in built if one.endswith(".whl")))
    blocks = re.findall(
        r"^```python\n(.*?)^```$", Path("README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    program = (
        f"import sys, doctest as d; test = d.DocTestParser().get_doctest({blocks[0]!r}, {{}}, 'README', None, 0)\n"
    )
    program += "sys.exit(d.DocTestRunner().run(test).failed)"
    for file in built if "--no-try" not in session.posargs else ():
        folder = Path(session.create_tmp(), "empty").resolve()
        session.run("python", "-m", "venv", "--clear", str(folder))
        python = str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")
        session.run(python, "-m", "pip", "install", "-q", file, external=True)
        with session.chdir(folder):
            session.run(python, "-W", "error", "-c", program, external=True)
            session.run(python, "-m", "logitx", "info", external=True)


@nox.session
def tests_minimum(session: nox.Session) -> None:
    """The suite with the oldest versions that pyproject.toml allows, JAX and PyTorch included."""
    project = PYPROJECT["project"]
    lists = (project["dependencies"], *(project["optional-dependencies"][name] for name in ("jax", "torch")))
    oldest = [requirement.replace(">=", "==") for requirements in lists for requirement in requirements]
    install(session, "test", more=(*cpu_wheels(), *oldest, "-e", "."))
    session.run("python", "-m", "pip", "list")
    session.run(*PYTEST, *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Random calls of every function on every kind of array, against the oracle, for some ten minutes.

    The seed is a new one each time, and is said, unless given: `-- --hypothesis-seed=1`. How many calls were checked
    is written to docs/fuzzing.json.
    """
    install(session, "test-all")
    given = any(argument.startswith("--hypothesis-seed") for argument in session.posargs)
    seed = () if given else (f"--hypothesis-seed={random.randrange(10**6)}",)
    session.run(
        *PYTEST, "tests/test_fuzz.py", "tests/test_switching.py", "tests/test_bounds.py", "-m", "slow or not slow",
        "--hypothesis-profile=fuzz", "--fuzz-record=docs/fuzzing.json", *seed, *session.posargs,
    )  # fmt: skip


@nox.session
def slow(session: nox.Session) -> None:
    """What takes minutes or gigabytes: every float32, more than 2**31 elements, compilations cut short."""
    install(session, "test-all")
    session.run("python", "-m", "pytest", "-m", "slow", *session.posargs)


@nox.session
def tensorflow(session: nox.Session) -> None:
    """Everything on TensorFlow's tensors, in an environment of its own: TensorFlow is large and has pins of its own."""
    install(session, "test", "tensorflow")
    session.run(
        "python", "-m", "pytest", "tests/test_tensorflow.py", "tests/test_tensorflow_autograph.py",
        "tests/test_conformance.py", "tests/test_arguments.py", "tests/test_accumulated.py",
        "tests/test_inputs.py", "tests/test_mixed.py", "tests/test_docs.py",
        "-k", "tensorflow or refusal or arrays or reference", *session.posargs, env={"TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip


@nox.session
def doctests(session: nox.Session) -> None:
    """Run the example of every docstring and every code block of README and docs; check the generated tables.

    Modules that import TensorFlow are left to its own session, like all that needs it.
    """
    install(session, "test-all")
    session.run("python", "docs/generate.py", "--check")
    session.run(
        "python", "-m", "pytest", "tests/test_docs.py", "--pyargs", "logitx",
        "--doctest-modules", "--doctest-ignore-import-errors", "-o", "python_files=test_docs.py", *session.posargs,
    )  # fmt: skip


@nox.session
def docs(session: nox.Session) -> None:
    """Write the generated tables of README and docs anew, and build the site in build/site/html.

    `-- serve` then shows the site, `-- links` tries its links to other sites, `-- --check` only checks the tables.
    """
    install(session, "test-all", "docs")
    then = [argument for argument in session.posargs if argument in ("serve", "links")]
    session.run("python", "docs/generate.py", *(one for one in session.posargs if one not in then))
    if "--check" not in session.posargs:
        session.run("python", "docs/build_site.py", *then)


@nox.session
def docs_browser(session: nox.Session) -> None:
    """Build the site and open every page in Chromium, without a network; screenshots are in build/site/pictures."""
    install(session, "test-all", "docs", "browser")
    session.run("python", "docs/build_site.py")
    session.run("python", "-m", "pytest", "-n0", "tests/test_site.py", "tests/test_interactive.py", *session.posargs)


@nox.session
def programs(session: nox.Session) -> None:
    """Programs that many people know, before and after a change of one call: results, and times in docs/programs.json.

    `-- --no-times` compares the results only.
    """
    install(session, "test", "programs")
    session.run("python", "-m", "pytest", "-n0", "tests/test_clients.py")
    if "--no-times" not in session.posargs:
        session.run("python", "benchmarks/programs.py")


@nox.session
def demo(session: nox.Session) -> None:
    """Train on real images with NumPy, JAX and PyTorch arrays, and with PyTorch's and Optax's own loss; draw a picture.

    The picture is build/digits.png.
    """
    wheels = cpu_wheels()
    session.log("The first run downloads JAX, PyTorch, scikit-learn and more: some 450 MB, 2 GB on disk.")
    if sys.platform == "linux" and not (wheels or os.environ.get("PIP_EXTRA_INDEX_URL")):
        session.log(f"{CPU_WHEELS} cannot be reached: pip may take the PyTorch with CUDA, gigabytes more.")
    session.log("The first call of each kind compiles, once on a machine, for about a second: the first epoch is slow.")
    install(session, "demo", more=(*wheels, "-e", "."), silent=False)
    session.run("python", "docs/examples/digits.py", *session.posargs)
    session.run("python", "docs/examples/torch_drop_in.py")
    session.run("python", "docs/examples/equinox_optax.py")


@nox.session(venv_backend="none")
def device(session: nox.Session) -> None:
    """JAX and PyTorch on an accelerator, at most 8 minutes; writes build/device.json. `-- --cpu` rehearses on the CPU.

    It runs in the environment that nox is started from: builds of JAX and PyTorch for an accelerator are yours.
    """
    session.run("python", "benchmarks/device.py", *session.posargs, env={"PYTHONPATH": "src"})


@nox.session
def boosting(session: nox.Session) -> None:
    """LightGBM and XGBoost with our objective: the page of the documentation, run."""
    install(session, "test", "boosting")
    session.run("python", "-m", "pytest", "tests/test_docs.py", "-k", "boosting", *session.posargs)


@nox.session
def accuracy(session: nox.Session) -> None:
    """Measure errors in ulp, beside SciPy, PyTorch and JAX; write docs/accuracy. `-- --quick` writes nothing."""
    install(session, "bench")
    session.run("python", "benchmarks/accuracy.py", *session.posargs)


TABLE = ("--benchmark-columns=min,median,iqr,rounds", "--benchmark-sort=min", "--benchmark-name=short")


@nox.session
def bench(session: nox.Session) -> None:
    """Time every operation against its competitors, results checked first; write benchmarks/results."""
    install(session, "bench")
    record = Path("build", "bench.json")
    record.parent.mkdir(exist_ok=True)
    session.run("python", "-m", "pytest", "benchmarks", *TABLE, f"--benchmark-json={record}", *session.posargs)
    session.run("python", "benchmarks/report.py", str(record))


@nox.session
def sweep(session: nox.Session) -> None:
    """Time 2 to 128,256 classes and other axes, on one thread and on all; write benchmarks/results/sweep.*."""
    install(session, "bench")
    for threads in ("1", "0"):
        session.run("python", "benchmarks/sweep.py", "--threads", threads, *session.posargs)
    session.run("python", "benchmarks/sweep_picture.py")


@nox.session
def costs(session: nox.Session) -> None:
    """Time the functions beside the losses, in reads of the logits or beside a formula; write benchmarks/results."""
    install(session, "bench")
    session.run("python", "benchmarks/costs.py", *session.posargs)


@nox.session
def bench_smoke(session: nox.Session) -> None:
    """Every benchmark, on small shapes and a few rounds: it shows that they run, not how fast anything is."""
    install(session, "bench")
    session.run("python", "-m", "pytest", "benchmarks", "--smoke", *TABLE, *session.posargs)
    session.run("python", "benchmarks/costs.py", "--smoke")
