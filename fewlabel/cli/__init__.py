"""The command line: one file a command, no logic.

What takes long to import is imported inside the commands, so that `--help` comes at once.
"""

import os
import sys
import traceback

import typer

from fewlabel import __version__
from fewlabel.cli.compare import compare
from fewlabel.cli.datasets import datasets
from fewlabel.cli.demo import demo
from fewlabel.cli.evaluate import evaluate
from fewlabel.cli.export import export
from fewlabel.cli.import_ import import_
from fewlabel.cli.info import info, methods, metrics, recipes, samplers
from fewlabel.cli.reproduce import reproduce
from fewlabel.cli.sample import sample
from fewlabel.cli.train import train
from fewlabel.errors import Interrupted, TrainingError, UserError
from fewlabel.progress import speaks

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
        print(__version__)
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
_INTERRUPTED = 130  # what typer makes of Ctrl-C


def main() -> None:
    """Run a command; on error put one line on standard error and exit with 1 or 2."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    command = typer.main.get_command(app)
    arguments = [_at_home(argument) for argument in arguments if argument != "--debug"]
    try:
        status = command.main(arguments, prog_name="fewlabel", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_complain("interrupted", 1))
    except Exception as error:
        if debug:
            traceback.print_exc()
        sys.exit(_explain(error))
    if status == _INTERRUPTED:
        sys.exit(_complain("interrupted", 1))
    sys.exit(status if isinstance(status, int) else 0)


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
    return _complain(f"{type(error).__name__}: {error} (--debug shows where)", 1)


def _complain(message: str, status: int) -> int:
    print(f"fewlabel: {' '.join(message.split())}", file=sys.stderr)
    return status
