"""Comparing methods honestly: methods × amounts of labels × draws of labels × seeds.

One unconditional score model serves every method that can share it. Each method's guidance scale,
and the weight of its regulariser, are chosen on the validation split, for every method alike: the
weight once for each amount of labels, on the first draw; the scale in every cell.
"""

import gc
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from traceback import format_exception
from typing import TYPE_CHECKING, Self

import torch

from fewlabel.data import (
    Dataset,
    Splits,
    draw_splits,
    labelled_by_csv,
    open_dataset,
    refuse_inside,
)
from fewlabel.errors import Interrupted, TrainingError, UserError
from fewlabel.experiments.compare_cells import (
    Cell,
    CellTask,
    Protocol,
    Row,
    candidates,
    cell_of,
    chosen,
    labels_of_cell,
    perform,
)
from fewlabel.experiments.compare_checks import check_same, checked, plain, protocol_in
from fewlabel.experiments.grid import Grid
from fewlabel.files import append_line, check_free, locked, write_json, write_text
from fewlabel.methods import METHODS
from fewlabel.metrics.judge import train_judge
from fewlabel.progress import Task, track
from fewlabel.regular_file import regular
from fewlabel.run_folder import RunFolder
from fewlabel.training.train import train

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

__all__ = ["Results", "known_tasks", "run_comparison"]


@dataclass
class Results:
    """The figures of a comparison, in OUT/results.jsonl.

    Attributes:
        out: the folder.
        rows: every figure, see `compare_cells.perform`.
        failed: why, for each cell that failed.
    """

    out: Path
    rows: list[Row] = field(default_factory=list)
    failed: dict[Cell, str] = field(default_factory=dict)
    _of: dict[tuple[Cell, str], list[Row]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._sort(self.rows)

    @classmethod
    def open(cls, out: Path, protocol: Protocol) -> "Results":
        """Begin a comparison in a folder, or go on with the one that is there.

        Raises:
            UserError: if the folder holds another comparison, or its files are damaged.
        """
        cls.refuse_other(out, protocol)
        path, before = out / "protocol.json", protocol_in(out)
        told = {key: value for key, value in plain(protocol).items() if value is not None}
        if before is None or before | told != before:  # what it names may have moved
            out.mkdir(parents=True, exist_ok=True)
            write_json(path, before | told if before else plain(protocol))
        return cls(out, list(_read_rows(out / "results.jsonl")))

    @staticmethod
    def refuse_other(out: Path, protocol: Protocol) -> None:
        """Refuse a folder that holds another comparison, files of others, or the data.

        Raises:
            UserError: if it does.
        """
        check_free(out, "protocol.json", "comparison")
        refuse_inside(protocol.data, out)
        check_same(out, protocol)

    def add(self, rows: Iterable[Row]) -> None:
        """Keep the figures of a task, all or none."""
        rows = list(rows)
        self.rows.extend(rows)
        self._sort(rows)
        text = "".join(json.dumps(row) + "\n" for row in self.rows)
        write_text(self.out / "results.jsonl", text)

    def fail(self, cell: Cell, error: Exception) -> None:
        """Keep why a cell failed; where in the code, in logs/failed.log."""
        self.failed[cell] = f"{type(error).__name__}: {error}"
        append_line(
            self.out / "logs" / "failed.log", f"{cell}\n{''.join(format_exception(error))}"
        )

    def has(self, task: CellTask) -> bool:
        """Whether the figures of a task are there."""
        return (task.cell, task.split) in self._of

    def is_over(self, task: CellTask) -> bool:
        """Whether a task need not be done: its figures are there, or its cell failed."""
        return self.has(task) or task.cell in self.failed

    def chosen(self, cells: Sequence[Cell]) -> tuple[Cell, float]:
        """The cell of these, and its scale, that is best on the validation split; `chosen`."""
        return chosen((row for c in cells for row in self._of.get((c, "validation"), ())), cells)

    def _sort(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._of.setdefault((cell_of(row), row["split"]), []).append(row)


def _read_rows(path: Path) -> Iterator[Row]:
    """The figures in a file, if it is there; all of them, since a task has several."""
    content = regular(path).read_bytes() if path.exists() else b""
    for number, line in enumerate(content.splitlines(), 1):
        try:
            row = json.loads(line)
            cell_of(row), row["split"], row["value"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"{path}, line {number} is damaged: remove the file, and the same command judges "
                "its trained runs again"
            ) from error
        yield row


def run_comparison(out: Path, asked: Grid, *, jobs: int = 1) -> Results:
    """Train and judge every cell that is not yet; called again it goes on where it was stopped.

    Args:
        out: the folder; it gets protocol.json, results.jsonl and runs/.
        asked: the cells.
        jobs: cells that are computed at the same time, in processes of their own.

    Raises:
        UserError: for wrong input, before anything is trained.
        Interrupted: when it was asked to stop.
    """
    if jobs < 1:
        raise UserError(f"--jobs {jobs}: give at least 1")
    asked = checked(asked)
    Results.refuse_other(out, asked.protocol)
    with locked(out):
        return _compared(out, asked, jobs)


def _compared(out: Path, asked: Grid, jobs: int) -> Results:
    protocol = asked.protocol
    results = Results.open(out, protocol)
    dataset = open_dataset(protocol.data, protocol.size)
    amounts = []
    for amount in asked.labels:
        splits = draw_splits(labelled_by_csv(dataset, amount), amount, Cell.label_seed)
        labels = labels_of_cell(amount)
        _check_same(results, labels, splits)
        groups = [candidates(Cell(m, labels), splits.labelled_share) for m in asked.methods]
        amounts.append(Amount(groups, asked.repeats(amount)))
    score = _shared_score(out, protocol, asked.methods)
    _train_judges(dataset, asked, score)
    _free_gpu()
    total = sum(amount.n_tasks for amount in amounts)
    work = partial(perform, protocol=protocol, out=out, score=score, tables=asked.tables)
    with (
        track("comparison") as progress,
        _Workers(results, work, jobs, progress, total) as workers,
    ):
        workers.work_through(partial(known_tasks, results, amounts, protocol))
    return results


def _train_judges(dataset: Dataset, asked: Grid, score: str | None) -> None:
    """Train the judge of each split, which the processes share; most have the same."""
    shared = RunFolder(score).read_splits() if score else None
    sharing = {METHODS[method].shares_score for method in asked.methods}
    for amount, shares in product(asked.labels, sharing):
        labelled = labelled_by_csv(dataset, amount)
        before = shared if shares else None
        train_judge(labelled, draw_splits(labelled, amount, Cell.label_seed, before))


def _free_gpu() -> None:
    """Leave the memory that was trained in to the processes: they are on the same GPU."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def _check_same(results: Results, labels: str, splits: Splits) -> None:
    """Refuse to go on with a comparison whose data, or the labels in a CSV, are others now."""
    cells = dict.fromkeys(cell_of(row) for row in results.rows)
    for cell in cells:
        folder = RunFolder(results.out / "runs" / cell.folder)
        if (cell.labels, cell.label_seed) == (labels, splits.seed) and folder.exists:
            before = folder.read_splits()
            splits.check_same(before, f"{cell} in {results.out}")
            return


def _shared_score(out: Path, protocol: Protocol, methods: Sequence[str]) -> str | None:
    """The run whose score model is shared, trained if it is not; None if no method uses one."""
    if not protocol.uses_shared_score(methods):
        return None
    if protocol.score is not None:
        return protocol.score
    run = train(
        protocol.data,
        out=out / "runs" / "score",
        method="uncond",
        exist_ok=True,
        **protocol.settings,
    )
    return str(run.folder.path)


def _to_choose(cell: Cell, protocol: Protocol) -> CellTask:
    method = METHODS[cell.method]
    return CellTask(cell, "validation", protocol.scales if method.guided else (method.scale,))


@dataclass(frozen=True)
class Amount:
    """What is compared with one amount of labels.

    Attributes:
        groups: the cells of each method, one for each weight among which it chooses.
        repeats: the (label seed, seed) of each repeat.
    """

    groups: Sequence[Sequence[Cell]]
    repeats: Sequence[tuple[int, int]]

    @property
    def n_tasks(self) -> int:
        """All weights on the first repeat, the chosen one on the others, and a report of each."""
        return sum(len(group) + 2 * len(self.repeats) - 1 for group in self.groups)


def known_tasks(
    results: Results,
    amounts: Sequence[Amount],
    protocol: Protocol,
) -> Iterator[CellTask]:
    """The tasks that are over or can be done now, in the order in which to do them.

    The weight of a method is chosen on the first repeat, whose seeds are those of a plain `Cell`;
    the scale of a cell before it is reported.

    Args:
        results: what is there.
        amounts: what is compared with each amount of labels.
        protocol: what holds for every cell.
    """
    for amount in amounts:
        to_report = []
        for group in amount.groups:
            yield from (_to_choose(cell, protocol) for cell in group)
        for cell in _chosen_cells(results, amount, protocol):
            task = _to_choose(cell, protocol)
            yield task
            if results.has(task):
                to_report.append(cell)
        for cell in to_report:
            yield CellTask(cell, "report", (results.chosen([cell])[1],))


def _chosen_cells(results: Results, amount: Amount, protocol: Protocol) -> Iterator[Cell]:
    """Every repeat of each method whose weight can be chosen, or has none, with that weight."""
    for group in amount.groups:
        best = group[0]
        if len(group) > 1:
            if not all(results.is_over(_to_choose(cell, protocol)) for cell in group):
                continue
            try:
                best, _ = results.chosen(group)
            except LookupError:  # all of them failed
                continue
        for label_seed, seed in amount.repeats:
            yield replace(best, label_seed=label_seed, seed=seed)


class _Workers:
    """Processes that do tasks, each cell in one of them, with what they print in logs/.

    Args:
        results: gets the rows of each task as it ends, or why it failed.
        work: what does a task.
        jobs: how many processes.
        progress: shows how many tasks are done.
        total: how many there will be.
    """

    def __init__(
        self,
        results: Results,
        work: Callable[[CellTask], list[Row]],
        jobs: int,
        progress: Task,
        total: int,
    ) -> None:
        self.results, self.work, self.progress, self.total = results, work, progress, total
        self.jobs = jobs
        threads = max(1, torch.get_num_threads() // jobs)
        logs = results.out / "logs"
        logs.mkdir(exist_ok=True)
        context = multiprocessing.get_context("spawn")
        numbers = context.Value("i", 0)
        self.pool = ProcessPoolExecutor(jobs, context, _begin_worker, (logs, threads, numbers))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None:  # of the signal that ended this process they need not know
            for process in multiprocessing.active_children():
                process.terminate()
        self.pool.shutdown(wait=True, cancel_futures=True)

    def work_through(self, known: Callable[[], Iterable[CellTask]]) -> None:
        """Do the tasks that are known, and those that become known by them.

        Raises:
            Interrupted: when it was asked to stop.
            TrainingError: when a process was killed.
        """
        begun: dict[Future[list[Row]], CellTask] = {}
        note = ""
        try:
            while True:
                tasks = list(dict.fromkeys(known()))
                left = [task for task in tasks if not self.results.is_over(task)]
                self.progress.set(len(tasks) - len(left), self.total, note)
                waiting = [task for task in left if task not in begun.values()]
                for task in waiting[: self.jobs - len(begun)]:
                    begun[self.pool.submit(self.work, task)] = task
                if not begun:
                    return
                for future in wait(begun, return_when=FIRST_COMPLETED).done:
                    cell = begun.pop(future).cell
                    self._keep(future, cell)
                    note = str(cell)
        except KeyboardInterrupt:
            raise Interrupted("stopped; the same command goes on from there") from None
        except BrokenProcessPool:
            raise TrainingError(
                "a process of the comparison was killed, perhaps for want of memory; use fewer "
                "--jobs; the same command goes on from there"
            ) from None

    def _keep(self, future: Future[list[Row]], cell: Cell) -> None:
        try:
            rows = future.result()
        except (BrokenProcessPool, Interrupted, KeyboardInterrupt):
            raise
        except Exception as error:
            self.results.fail(cell, error)
        else:
            self.results.add(rows)


def _begin_worker(logs: Path, threads: int, numbers: "Synchronized[int]") -> None:
    """Set up a process of the pool: threads, GPU, log, and its end with that of its parent."""
    torch.set_num_threads(threads)
    if torch.cuda.is_available():  # each process the next one
        with numbers.get_lock():
            torch.cuda.set_device(numbers.value % torch.cuda.device_count())
            numbers.value += 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that temporary files go
    sys.stderr = sys.stdout = (logs / f"{os.getpid()}.log").open("a", 1, "utf-8")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
