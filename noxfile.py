"""Every check of the project, each a session: `nox -s tests`, `nox -l` lists them.

What a session installs is a dependency group of pyproject.toml; nothing is listed twice. Environments are made by
virtualenv and pip, and are reused with `nox -r`.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import nox

PYPROJECT = nox.project.load_toml("pyproject.toml")
VERSIONS = ["3.11", "3.12", "3.13"]  # what tests_lite runs on, where present

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "types", "tests", "doctests"]


def show_all_of_pyenv() -> None:
    """Let pyenv, where it manages the Pythons, offer every version it has rather than the selected one only."""
    if shutil.which("pyenv"):
        bare = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False).stdout
        chosen = [name for name in bare.split() if name.rpartition(".")[0] in VERSIONS]
        running = "{}.{}.{}".format(*sys.version_info[:3])
        if chosen:
            os.environ["PYENV_VERSION"] = ":".join(sorted(chosen, key=lambda name: name != running))


def is_present(version: str) -> bool:
    """Whether `pythonX.Y` really runs and is that version: the name may be an empty shell of a version manager."""
    code = "import sys; print('{}.{}'.format(*sys.version_info))"
    command = shutil.which(f"python{version}")
    if command is None:
        return False
    ran = subprocess.run([command, "-c", code], capture_output=True, text=True, check=False)
    return ran.returncode == 0 and ran.stdout.strip() == version


show_all_of_pyenv()
PRESENT = [version for version in VERSIONS if is_present(version)]


# Two cores are worth having; more processes than that cost more memory than they save time. `-- -n0` for a debugger.
PARALLEL = ("-n2", "--dist=worksteal")


def install(session: nox.Session, *groups: str, package: tuple[str, ...] = ("-e", ".")) -> None:
    """Install dependency groups and the package in one go, so that pip resolves them together."""
    session.install(*nox.project.dependency_groups(PYPROJECT, *groups), *package)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and formatting."""
    install(session, "lint", package=())
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict, on the package."""
    install(session, "types", package=())
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite on every backend."""
    install(session, "test-all")
    session.run("python", "-m", "pytest", *PARALLEL, *session.posargs)


# Wheels of old PyTorch for Linux bring gigabytes of CUDA, but those of this index
WITHOUT_CUDA = "https://download.pytorch.org/whl/cpu"


def without_cuda(session: nox.Session) -> tuple[str, ...]:
    """Name the index of wheels for CPUs to pip, where it can be reached; without it some 6 GB are installed."""
    try:
        urllib.request.urlopen(f"{WITHOUT_CUDA}/torch/", timeout=20).close()
    except OSError as error:
        session.warn(f"{WITHOUT_CUDA} cannot be reached ({error}): PyTorch comes with CUDA")
        return ()
    return "--extra-index-url", WITHOUT_CUDA


@nox.session
def tests_minimum(session: nox.Session) -> None:
    """The suite with the oldest versions that pyproject.toml allows, JAX and PyTorch included."""
    project = PYPROJECT["project"]
    lists = (project["dependencies"], *(project["optional-dependencies"][name] for name in ("jax", "torch")))
    oldest = [requirement.replace(">=", "==") for requirements in lists for requirement in requirements]
    tests = nox.project.dependency_groups(PYPROJECT, "test")
    session.install(*without_cuda(session), *oldest, *tests, "-e", ".")
    session.run("python", "-m", "pip", "list")
    session.run("python", "-m", "pytest", *PARALLEL, *session.posargs)


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
        "python", "-m", "pytest", *PARALLEL, "tests/test_fuzz.py", "tests/test_switching.py", "tests/test_bounds.py",
        "-m", "slow or not slow", "--hypothesis-profile=fuzz", "--fuzz-record=docs/fuzzing.json", *seed,
        *session.posargs,
    )  # fmt: skip


@nox.session
def accuracy(session: nox.Session) -> None:
    """Measure errors in ulp, beside SciPy, PyTorch and JAX; write docs/accuracy. `-- --quick` writes nothing."""
    install(session, "bench")
    session.run("python", "benchmarks/accuracy.py", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """What takes minutes or gigabytes: every float32, more than 2**31 elements, compilations cut short."""
    install(session, "test-all")
    session.run("python", "-m", "pytest", "-m", "slow", *session.posargs)


# What differs from one Python to another: the surface, errors, and the functions themselves, in one dtype
ESSENCE = ("tests/test_arguments.py", "tests/test_conformance.py", "tests/test_dispatch.py", "tests/test_surface.py")


@nox.session(python=PRESENT or None)
def tests_lite(session: nox.Session) -> None:
    """The suite with NumPy and Numba only, against the built wheel, on every supported Python that is present.

    The newest runs all of it, the others its essence; `nox -s tests` runs all of it on yours.
    """
    for version in VERSIONS:
        if version not in PRESENT:
            session.log(f"Python {version} is not on this machine: skipped")
    install(session, "test", package=(".",))
    newest = not PRESENT or session.python == PRESENT[-1]
    chosen = () if newest else (*ESSENCE, "-k", "not (conformance and (float64 or float16 or bfloat16))")
    session.run("python", "-m", "pytest", *PARALLEL, *chosen, *session.posargs)


@nox.session
def tensorflow(session: nox.Session) -> None:
    """Everything on TensorFlow's tensors, in an environment of its own: TensorFlow is large and has pins of its own."""
    install(session, "test", "tensorflow")
    session.run(
        "python", "-m", "pytest", "tests/test_tensorflow.py", "tests/test_conformance.py", "tests/test_arguments.py",
        "tests/test_inputs.py", "tests/test_mixed.py", "tests/test_docs.py", "-k", "tensorflow or refusal or arrays",
        *session.posargs, env={"TF_CPP_MIN_LOG_LEVEL": "3"},
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
    """Write the generated tables of README and docs anew."""
    install(session, "test-all")
    session.run("python", "docs/generate.py", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Train on real images with NumPy, JAX and PyTorch arrays, and with PyTorch's and Optax's own loss; draw a picture.

    The picture is build/digits.png.
    """
    install(session, "demo")
    session.run("python", "docs/examples/digits.py", *session.posargs)
    session.run("python", "docs/examples/torch_drop_in.py")
    session.run("python", "docs/examples/equinox_optax.py")


@nox.session
def boosting(session: nox.Session) -> None:
    """LightGBM and XGBoost with our objective: the page of the documentation, run."""
    install(session, "test", "boosting")
    session.run("python", "-m", "pytest", "tests/test_docs.py", "-k", "boosting", *session.posargs)


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
def bench_smoke(session: nox.Session) -> None:
    """Every benchmark, on small shapes and a few rounds: it shows that they run, not how fast anything is."""
    install(session, "bench")
    session.run("python", "-m", "pytest", "benchmarks", "--smoke", *TABLE, *session.posargs)
