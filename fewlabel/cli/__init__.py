"""The command line: one file a command, no logic.

What takes long to import is imported inside the commands, so that `--help` comes at once.
"""

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator

import typer

from fewlabel import __version__
from fewlabel.cli.compare import compare
from fewlabel.cli.datasets import datasets
from fewlabel.cli.demo import demo
from fewlabel.cli.evaluate import evaluate
from fewlabel.cli.export import export
from fewlabel.cli.import_ import import_
from fewlabel.cli.info import info, methods, metrics, recipes, samplers
from fewlabel.cli.options import say
from fewlabel.cli.reproduce import reproduce
from fewlabel.cli.sample import sample
from fewlabel.cli.train import train
from fewlabel.errors import Interrupted, TrainingError, UserError
from fewlabel.progress import speaks, tell
from fewlabel.terminal import outlets
from fewlabel.texts import shown

__all__ = ["app", "main"]

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads leave the cores to others

app = typer.Typer(
    name="fewlabel",
    help="Class-conditional generation from images of which only a few carry a label.",
    no_args_is_help=True,
    add_completion=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        say(__version__)
        raise typer.Exit


@app.callback()
def _global(
    version: bool = typer.Option(
        False,
        "--version",
        help="Print the version and stop.",
        callback=_print_version,
        is_eager=True,  # before a missing command is complained of
    ),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    pass


for _command in (
    train,
    sample,
    evaluate,
    compare,
    demo,
    reproduce,
    export,
    info,
    methods,
    datasets,
    samplers,
    metrics,
    recipes,
):
    app.command()(_command)
app.command("import")(import_)  # Python keeps the word for itself


_LESS_MEMORY = (
    "draw fewer together (sample, evaluate --batch-size 32), train in parts of a batch (train "
    "--set score.fit.accumulate=4 --set classifier.fit.accumulate=4), or take a smaller --size"
)
_NO_MEMORY = "DefaultCPUAllocator"  # in the RuntimeError of PyTorch
_LONGEST = 2000  # letters of a message
_INTERRUPTED = 130  # what typer makes of Ctrl-C


def main() -> None:
    """Run a command; on error put one line on standard error and exit with 1 or 2.

    SIGTERM, and the end of the terminal, do what Ctrl-C does: the work unwinds, so that no
    temporary file stays.
    """
    with outlets(), _unwinding():
        status = _run(sys.argv[1:])
    sys.exit(status)


def _run(arguments: list[str]) -> int:
    """Run a command; the exit status."""
    debug = "--debug" in arguments
    command = typer.main.get_command(app)
    arguments = [_at_home(argument) for argument in arguments if argument != "--debug"]
    try:
        status = command.main(arguments, prog_name="fewlabel", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", 1)
    except Exception as error:
        if debug:
            for line in traceback.format_exc().splitlines():
                tell(line)
        return _explain(error)
    if status == _INTERRUPTED:
        return _complain("interrupted", 1)
    return status if isinstance(status, int) else 0


@contextlib.contextmanager
def _unwinding() -> Iterator[None]:
    """While the block runs, signals that end a program raise `KeyboardInterrupt`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ending = [signal.SIGTERM, signal.SIGHUP] if hasattr(signal, "SIGHUP") else [signal.SIGTERM]
    ours = [number for number in ending if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _at_home(argument: str) -> str:
    """An argument such as --out=~/a with the home folder in it, which shells leave."""
    option, equals, value = argument.partition("=")
    at_home = option.startswith("--") and value.startswith("~")
    return option + equals + os.path.expanduser(value) if at_home else argument


def _explain(error: Exception) -> int:
    """Say in one line what went wrong; the exit status."""
    if isinstance(error, UserError):
        return _complain(str(error), 2)
    if hasattr(error, "format_message"):  # wrong usage, as the command parser found it
        if not error.format_message():  # no command: the help was printed instead
            return 2
        return _complain(f"{error.format_message()} (see fewlabel --help)", 2)
    if isinstance(error, Interrupted) and not speaks():  # the main process says it
        return 1
    if isinstance(error, TrainingError):
        return _complain(str(error), 1)
    if type(error).__name__ == "OutOfMemoryError":  # PyTorch's, which need not be imported here
        return _complain(f"{str(error).partition('. ')[0]}; {_LESS_MEMORY}", 1)
    if isinstance(error, MemoryError) or _NO_MEMORY in str(error):
        return _complain(f"not enough memory; close other programs, {_LESS_MEMORY}", 1)
    return _complain(f"{type(error).__name__}: {error} (--debug shows where)", 1)


def _complain(message: str, status: int) -> int:
    line = " ".join(message.split())
    line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
    with contextlib.suppress(OSError):
        print(shown(f"fewlabel: {line}"), file=sys.stderr, flush=True)
    return status
