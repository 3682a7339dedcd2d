"""The command ``denoise5d``: the only place that prints, configures logging, and exits.

Exit codes: 0 done; 2 the command line, the configuration or the plan is refused, or the cluster
gives no workers; 3 some blocks failed, or `verify` found one that is wrong; 75 stopped early, the
same command goes on; 130 given up by Ctrl-C; 1 a fault of the program itself.
"""

from __future__ import annotations

import io
import logging
import signal
import sys
import traceback

import click
from rich.text import Text

from denoise5d.cli.batch import cancel, submit
from denoise5d.cli.console import errors, say, show_error, system_error_words
from denoise5d.cli.demo import demo
from denoise5d.cli.doctor import doctor
from denoise5d.cli.noise import noise
from denoise5d.cli.plan import plan
from denoise5d.cli.preview import preview
from denoise5d.cli.report import report
from denoise5d.cli.run import run
from denoise5d.cli.status import status
from denoise5d.cli.tools import convert, schema
from denoise5d.cli.verify import verify
from denoise5d.errors import Denoise5dError

_FAULT = 1
_FILE_ERROR = 2
_GIVEN_UP = 130


class _InOrder(click.Group):
    """Lists its commands in the order in which a newcomer needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)


@click.group(
    cls=_InOrder,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done; 2 refused; 3 some blocks failed or are wrong; 75 stopped "
    "early, the same command goes on; 130 given up by Ctrl-C; 1 a fault of denoise5d.",
)
@click.version_option(package_name="denoise5d")
@click.pass_context
def cli(context: click.Context) -> None:
    """Denoise 5-D microscopy images, block by block, as a YAML file says.

    Begin with `denoise5d demo`. Then write a YAML file, see with `plan` what it would do, and
    `run` it.
    """
    if context.invoked_subcommand is None:
        say(context.get_help())


for command in (
    demo,
    plan,
    noise,
    preview,
    run,
    submit,
    status,
    cancel,
    verify,
    report,
    convert,
    schema,
    doctor,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit with the documented code."""
    _prepare_streams()
    _configure_logging()
    try:
        cli.main(standalone_mode=False)
    except Denoise5dError as error:
        show_error(str(error))
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _leave_quietly()
        show_error("given up; what is done is kept, and the same command goes on")
        sys.exit(_GIVEN_UP)
    except OSError as error:
        show_error(system_error_words(error))
        sys.exit(_FILE_ERROR)
    except Exception:  # the last resort: nothing below expected it
        traceback.print_exc()
        show_error(
            "this is a fault of denoise5d, not yours. Please report it with the lines above, "
            "your YAML, and what `denoise5d doctor` prints."
        )
        sys.exit(_FAULT)


def _leave_quietly() -> None:
    """Keep the libraries from telling what they leave half done, also when interrupted again."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.unraisablehook = lambda _: None
    logging.disable()


class _TerminalLog(logging.Handler):
    """Prints beside the progress bar, without what only a log file needs."""

    def emit(self, record: logging.LogRecord) -> None:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        errors.print(Text.assemble((level, "bold yellow"), self.format(record)))


def _configure_logging() -> None:
    """Log as lines with the time in a batch job, and beside the progress bar on a terminal."""
    terminal = errors.is_terminal
    handler = _TerminalLog() if terminal else logging.StreamHandler()
    layout = "%(message)s" if terminal else "%(asctime)s %(levelname)s %(message)s"
    handler.setFormatter(logging.Formatter(layout))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("denoise5d").setLevel(logging.INFO)


def _prepare_streams() -> None:
    """Print what the terminal cannot show, an odd name of a file say, in its nearest form."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
