"""How many threads there are: quotas of containers, read from stand-ins of their files; what docs/threads.md says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="numba is not installed")
from logitx.backends.numba.threads import policy
from logitx.backends.numba.threads.quota import quota

V1, V2 = "9:name=systemd:/\n2:cpu,cpuacct:{}\n", "0::{}\n"


def system(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """Write the files of a system: the groups of this process, and those of the control groups by path."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup, encoding="utf-8")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        (V2.format("/"), {"cpu.max": "200000 100000\n"}, 2),
        (V2.format("/"), {"cpu.max": "150000 100000\n"}, 2),
        (V2.format("/"), {"cpu.max": "50000 100000\n"}, 1),
        (V2.format("/"), {"cpu.max": "max 100000\n"}, None),
        (V2.format("/pod/box"), {"cpu.max": "max 100000", "pod/cpu.max": "300000 100000", "pod/box/cpu.max": "max"}, 3),
        (V2.format("/pod/box"), {"pod/cpu.max": "300000 100000", "pod/box/cpu.max": "100000 100000"}, 1),
        (V2.format("/of/the/host"), {"cpu.max": "400000 100000"}, 4),  # a container that sees the path of its host
        (V2.format("/../../beside"), {"cpu.max": "400000 100000", "../beside/cpu.max": "100000 100000"}, 4),
        (V1.format("/"), {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        (V1.format("/"), {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        (
            V1.format("/docker/1f"),
            {"cpu,cpuacct/docker/1f/cpu.cfs_quota_us": "100000", "cpu,cpuacct/docker/1f/cpu.cfs_period_us": "50000"},
            2,
        ),
        (V2.format("/"), {"cpu.max": "nonsense"}, None),
        (V2.format("/"), {"cpu.max": "100000 0"}, None),
        (V2.format("/"), {}, None),
        ("", {"cpu.max": "100000 100000"}, None),
    ],
)
def test_quotas_of_both_versions(cgroup, files, expected, tmp_path):
    assert quota(str(system(tmp_path, cgroup, files))) == expected


def test_where_there_are_no_such_files(tmp_path):
    assert quota(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("told", "granted", "limit"),
    [
        ({}, 2, 2),
        ({}, None, 8),
        ({}, 100, 8),
        ({"OMP_NUM_THREADS": "3"}, 2, 2),
        ({"OMP_NUM_THREADS": "1"}, 2, 1),
        ({"NUMBA_NUM_THREADS": "8"}, 2, 8),
    ],
)
def test_threads_follow_the_quota_unless_told(told, granted, limit, monkeypatch):
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(policy.numba.config, "NUMBA_NUM_THREADS", 8)
    monkeypatch.setattr(policy, "quota", lambda: granted)
    assert policy._allowed() == limit


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity mask")
def test_threads_follow_the_affinity_mask():
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{one}]); from logitx.backends.numba.threads.policy import CREW; "
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    found = subprocess.run(
        [sys.executable, "-c", code + "print(CREW.limit)"], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["1"]


def run(code: str, folder: Path) -> list[str]:
    """Run a module of its own, which children can import."""
    module = folder / "recipe.py"
    module.write_text(code, encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    found = subprocess.run(
        [sys.executable, str(module)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.split()


LIMIT = """
import logitx as lx
def limit(_=0):
    from logitx.backends.numba.threads.policy import CREW
    return CREW.limit
def one(_worker=0):
    lx.set_num_threads(1)
"""


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_the_initializer_of_a_pool(how, tmp_path):
    import multiprocessing

    if how not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {how}")
    code = """
if __name__ == "__main__":
    import multiprocessing
    with multiprocessing.get_context("HOW").Pool(2, initializer=lx.set_num_threads, initargs=(1,)) as pool:
        print(*pool.map(limit, range(2)))
"""
    assert run(LIMIT + code.replace("HOW", how), tmp_path) == ["1", "1"]


def test_the_worker_init_fn_of_a_data_loader(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    code = """
import torch
class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 2
    def __getitem__(self, index):
        return limit()
if __name__ == "__main__":
    loader = torch.utils.data.DataLoader(Rows(), num_workers=2, worker_init_fn=one)
    print(*(int(batch) for batch in loader))
"""
    assert run(LIMIT + code, tmp_path) == ["1", "1"]


def test_processes_of_dask_are_told(tmp_path):
    pytest.importorskip("distributed", reason="distributed is not installed")
    code = """
if __name__ == "__main__":
    from dask.distributed import Client, LocalCluster
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        print(*client.gather(client.map(limit, range(2), pure=False)))
"""
    assert run(LIMIT + code, tmp_path) == ["1", "1"]
