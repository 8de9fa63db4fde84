"""Measure the memory that a call takes beyond its inputs, in a fresh process. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path

from cells import Cell, Shape, make
from competitors import COMPETITORS


def _resident(line: str) -> float:
    """Return a line of the process's own record, VmRSS or VmHWM (its peak), in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{line}:")[2].split()[0]) / 1024


def measured(name: str, cell: Cell) -> float:
    """Return the peak of resident memory during a call, beyond what was resident before it, in MiB."""
    competitor = next(one for one in COMPETITORS if one.name == name and one.arrays == cell.arrays)
    call = competitor.prepare(cell, make(cell.shape, cell.dtype))
    call()  # to compile, and to start threads
    gc.collect()
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(
            0
        )  # else a call may reuse memory that an earlier call took, and the peak would not show it
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _resident("VmRSS")
    result = call()
    peak = _resident("VmHWM") - before
    del result
    return peak


def peak(name: str, cell: Cell) -> float | None:
    """Measure in a fresh process; None where the system keeps no such record."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    shape = cell.shape
    given = json.dumps([name, cell.op, cell.dtype, shape.shape, shape.axis, shape.features])
    command = [sys.executable, __file__, given]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    name, op, dtype, shape, axis, features = json.loads(sys.argv[1])
    print(measured(name, Cell(op, Shape(tuple(shape), axis, "", features=features), dtype)))
