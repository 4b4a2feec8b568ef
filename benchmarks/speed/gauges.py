"""Time and peak memory inside a measuring process."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def timed(run: Callable[[], object], repeats: int, device: str) -> dict[str, list[float]]:
    """`seconds` and `cpu_seconds` of each repeat, after a warm-up."""
    seconds, cpu_seconds = [], []
    for _ in range(1 + repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        run()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    return {"seconds": seconds[1:], "cpu_seconds": cpu_seconds[1:]}


@contextmanager
def peak_memory(device: str) -> Iterator[Callable[[], int]]:
    """Yields a function → bytes taken above those at the start, at the highest point since then."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
        return
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")  # resets VmHWM, the peak of the resident memory
        before = _resident("VmRSS")
        yield lambda: _resident("VmHWM") - before
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        yield lambda: (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}: peak memory needs Linux with procfs")


def bytes_available(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0]
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) * 1024
    return 2**63
