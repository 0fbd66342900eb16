"""Runs a command in children that are killed at random moments, and again to its end.

    python killing_commands.py FOLDER COMMAND POINTS RUN

FOLDER is empty, RUN a finished run of the digits, COMMAND a key of `COMMANDS`. The children are
forks of this process, which has imported everything. For each signal it prints a line of JSON.

    half    files that a kill left and that differ from those of an undisturbed run
    other   files that are missing or differ after the same command ran again
    left    temporary files after that
    failed  what that command said if it failed
"""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).parent / "interop"))
sys.path.append(str(Path(__file__).parent))

TINY = """score.widths=[8,32] score.attention=[false,false] classifier.widths=[8,8]
score.fit.batch=16 classifier.fit.batch=16 score.fit.checkpoint_every=15
classifier.fit.checkpoint_every=15 score.fit.steps=30 classifier.fit.steps=30""".split()
TIMED = re.compile(rb'"seconds": [^,}\n]+|[0-9.]+ s\b|"(scoring|sampling)_seconds": [^,}\n]+')
KEPT = {
    ".png",
    ".npz",
    ".npy",
    ".safetensors",
    ".json",
    ".jsonl",
    ".csv",
    ".md",
}  # an SVG tells when it was drawn
GROWING = {"out/results.jsonl", "out/runs/score/metrics.jsonl"}
"""Files that grow by whole lines while the work goes on."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def images(folder: Path) -> str:
    """A folder of 300 images of two classes."""
    random_pixels = np.random.default_rng(0).integers(0, 256, (300, 32, 32, 3), dtype=np.uint8)
    for index, pixels in enumerate(random_pixels):
        path = folder / "images" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return str(folder / "images")


def diffusers_folder(folder: Path) -> str:
    from interop_cases import ddim_folder

    ddim_folder(folder / "ddim")
    return str(folder / "ddim")


COMMANDS = {
    "sample": "sample {source} -n 5 --steps 3 --out {out}",
    "evaluate": "evaluate {source} -n 10 --steps 2 --metrics accuracy,fid,cas --out {out}",
    "import": "import {source} --size 32 --out {out}",
    "export": "export {source} --out {out}",
    "decoding": "datasets {source} --out {out}/sheet.png",
    "compare": "compare digits --methods cg,cg-ls --scale 1 --metrics accuracy -n 10 --steps 2 "
    "--out {out}" + "".join(f" --set {text}" for text in TINY),
}


def prepare(folder: Path, command: str, run: Path) -> list[str]:
    """The arguments of the command, whose source is made."""
    if command == "import":
        source = diffusers_folder(folder)
    elif command == "decoding":
        source = images(folder)
    else:
        source = str(run)
    text = COMMANDS[command].format(source=source, out=folder / "work" / "out")
    return text.split()


def child(arguments: list[str], work: Path) -> int:
    """Run the command in a fork that keeps all it writes in a folder; its process."""
    pid = os.fork()
    if pid:
        return pid
    work.mkdir(exist_ok=True)
    for name in ("cache", "tmp"):
        (work / name).mkdir(exist_ok=True)
    os.environ["FEWLABEL_CACHE"], tempfile.tempdir = str(work / "cache"), str(work / "tmp")
    said = os.open(work.with_name("said"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["fewlabel", *arguments]
    try:
        main()
    except SystemExit as left:
        os._exit(int(left.code or 0))
    finally:
        os._exit(99)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def contents(work: Path) -> dict[str, str]:
    """A hash of every file with a name that is not hidden, but for the times in it."""
    found = {}
    for path in sorted(work.rglob("*")):
        parts = path.relative_to(work).parts
        is_hidden = any(part[0] == "." for part in parts)
        if path.is_file() and path.suffix in KEPT and not is_hidden and "logs" not in parts:
            content = TIMED.sub(b"", path.read_bytes())
            found["/".join(parts)] = hashlib.sha256(content).hexdigest()
    return found


def temporary(work: Path) -> list[str]:
    return [str(p.relative_to(work)) for p in work.rglob(".*") if p.name != ".lock"] + [
        str(p.relative_to(work)) for p in work.glob("tmp/*")
    ]


def trial(arguments: list[str], work: Path, number: int, wait: float) -> bool:
    """Kill the command after some seconds, sooner if it had ended; whether it was at work."""
    for sooner in (1.0, 0.8, 0.6, 0.4, 0.2):
        shutil.rmtree(work, ignore_errors=True)
        pid = child(arguments, work)
        time.sleep(wait * sooner)
        os.kill(pid, number)
        if ended(pid) != 0:
            time.sleep(1.0 if arguments[0] == "compare" else 0)  # its workers notice
            return True
    return False


def kills(folder: Path, command: str, points: int, run: Path) -> None:
    arguments, work = prepare(folder, command, run), folder / "work"
    began = time.monotonic()
    assert ended(child(arguments, work)) == 0, (folder / "said").read_text()
    seconds, whole = time.monotonic() - began, contents(work)
    moments = random.Random(0)
    for number in SIGNALS:
        counts = {"signal": number.name, "kills": 0, "temporary": 0}
        half, other, left, failed = [], [], [], []
        for point in range(points):
            wait = seconds * (point + moments.random()) / points
            counts["kills"] += trial(arguments, work, number, wait)
            counts["temporary"] += bool(temporary(work))
            before = contents(work)
            same = {name for name in before if before[name] == whole.get(name)}
            half += sorted(before.keys() - same - GROWING)
            status = ended(child(arguments, work))
            said = (folder / "said").read_text().splitlines()
            refused = status == 2 and before == whole  # an export or import that was done
            failed += [] if status == 0 or refused else said[-1:]
            after = contents(work)
            other += [name for name in whole if after.get(name) != whole[name]]
            left += temporary(work)
        print(json.dumps(counts | {"half": half, "other": other, "left": left, "failed": failed}))
        sys.stdout.flush()


if __name__ == "__main__":
    from fewlabel.cli import main
    from fewlabel.data import open_dataset
    from fewlabel.experiments import compare as _compare  # noqa: F401
    from fewlabel.interop import export, importing  # noqa: F401
    from fewlabel.metrics import judge
    from fewlabel.report import run_page, samples  # noqa: F401

    judge._STEPS, judge._EPOCHS = 20, 0
    open_dataset("digits")
    kills(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
