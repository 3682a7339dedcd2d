"""The command ``denoise5d``: the only place that prints, configures logging, and exits.

Exit codes: 0 done; 2 the configuration or the plan is refused, nothing was started; 3 some blocks
failed; 75 stopped early, the same command goes on; 1 a fault of the program itself; 130 given up
by Ctrl-C.
"""

from __future__ import annotations

import logging
import sys

import click
from rich.logging import RichHandler

from denoise5d.cli.console import errors, show_error
from denoise5d.cli.demo import demo
from denoise5d.cli.run import plan, run
from denoise5d.cli.status import status
from denoise5d.cli.tools import convert, doctor, schema
from denoise5d.errors import Denoise5dError

_FILE_ERROR = 2
_GIVEN_UP = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="denoise5d")
def cli() -> None:
    """Denoise 5-D microscopy images, block by block, as a YAML file says.

    Begin with `denoise5d demo`; then write a YAML file and call `plan` and `run` on it.
    """


for command in (demo, plan, run, status, convert, schema, doctor):
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit with the documented code."""
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
        show_error("given up; what was done before is kept, the same command goes on")
        sys.exit(_GIVEN_UP)
    except BrokenPipeError:  # `denoise5d schema | head`
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        show_error(f"{error.filename or 'the system'}: {error.strerror or error}")
        sys.exit(_FILE_ERROR)


def _configure_logging() -> None:
    """Log as lines with the time in a batch job, and beside the progress bar on a terminal."""
    handler: logging.Handler
    if errors.is_terminal:
        handler = RichHandler(console=errors, show_path=False, log_time_format="%H:%M:%S")
        layout = "%(message)s"
    else:
        handler = logging.StreamHandler()
        layout = "%(asctime)s %(levelname)s %(message)s"
    handler.setFormatter(logging.Formatter(layout))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("denoise5d").setLevel(logging.INFO)
