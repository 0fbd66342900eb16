"""FID and prdc against what they replace, as ratios within one run, from 10,000 × 2,048 features.

Run with `make bench`, or with smaller numbers: `python benchmarks/metrics.py --samples 2000
--features 256`. FID is set beside NumPy's covariances and `scipy.linalg.sqrtm` of their product,
prdc beside the package of that name. Every figure is of a process of its own, ours and theirs in
turn: the time without imports and features, that of all its threads together (which other work on
the machine distorts less), and how far the peak of memory then rises.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]
NEIGHBOURS = 5


def fid_ours() -> Callable[[Features, Features], object]:
    from fewlabel.metrics import fid

    return fid


def fid_sqrtm() -> Callable[[Features, Features], object]:
    from scipy.linalg import sqrtm

    def distance(real: Features, fake: Features) -> float:
        covariances = [np.cov(x, rowvar=False, dtype=np.float64) for x in (real, fake)]
        root = np.real(sqrtm(covariances[0] @ covariances[1]))
        shift = real.mean(0, dtype=np.float64) - fake.mean(0, dtype=np.float64)
        traces = np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.trace(root)
        return float(shift @ shift + traces)

    return distance


def prdc_ours() -> Callable[[Features, Features], object]:
    from fewlabel.metrics import prdc

    return lambda real, fake: prdc(real, fake, NEIGHBOURS)


def prdc_package() -> Callable[[Features, Features], object]:
    from prdc import compute_prdc

    def figures(real: Features, fake: Features) -> dict[str, float]:
        with contextlib.redirect_stdout(io.StringIO()):
            found = compute_prdc(real, fake, NEIGHBOURS)
        return {name: float(value) for name, value in found.items()}

    return figures


WORKS = {f.__name__: f for f in (fid_ours, fid_sqrtm, prdc_ours, prdc_package)}
PAIRS = {"fid": ("fid_ours", "fid_sqrtm"), "prdc": ("prdc_ours", "prdc_package")}


def features(samples: int, width: int) -> tuple[Features, Features]:
    """Correlated features whose variances fall, and others that spread a little less."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((width, width)) / np.sqrt(np.arange(1, width + 1))
    real, fake = (rng.standard_normal((samples, width)) @ mixing for _ in range(2))
    return real.astype(np.float32), 0.97 * fake.astype(np.float32)


def peak() -> int:
    """The peak of this process's memory in bytes; not getrusage: it knows the parent's."""
    return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def measure(name: str, samples: int, width: int) -> dict[str, Any]:
    """One piece of work in this process, after a small one that loads all it needs."""
    work = WORKS[name]()
    work(*features(64, 8))
    real, fake = features(samples, width)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, began, used = peak(), time.perf_counter(), time.process_time()
    found = work(real, fake)
    seconds, used = time.perf_counter() - began, time.process_time() - used
    return {"seconds": seconds, "cpu": used, "bytes": peak() - before, "found": found}


def in_a_process(name: str, samples: int, width: int) -> dict[str, Any]:
    """What `measure` finds in a fresh process."""
    command = [sys.executable, __file__, "--only", name]
    command += ["--samples", str(samples), "--features", str(width)]
    return json.loads(subprocess.check_output(command, env=os.environ))


def compare(title: str, samples: int, width: int, repetitions: int) -> None:
    """Print time and memory of ours and theirs, and their ratios."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in PAIRS[title]}
    for _ in range(repetitions):
        for name, results in runs.items():
            results.append(in_a_process(name, samples, width))
    print(f"{title}, {samples} × {width}")
    shown = []
    for name, results in runs.items():
        wall, cpu, size = (median(r[key] for r in results) for key in ("seconds", "cpu", "bytes"))
        shown.append((wall, cpu, size))
        print(f"  {name:<13} {wall:6.1f} s, CPU {cpu:6.1f} s, {size / 2**20:5.0f} MB  ", end="")
        print(results[0]["found"], flush=True)
    wall, cpu, size = (theirs / ours for ours, theirs in zip(*shown, strict=True))
    print(f"  {wall:.1f} times as fast (CPU {cpu:.1f}), {1 / size:.2f} of the memory", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--only", choices=WORKS, help="measure this in the process itself")
    given = parser.parse_args()
    if given.only:
        print(json.dumps(measure(given.only, given.samples, given.features)))
        return
    for title in PAIRS:
        compare(title, given.samples, given.features, given.repetitions)


if __name__ == "__main__":
    main()
