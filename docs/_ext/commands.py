"""The reference of the commands, from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence

import click

from denoise5d.cli import cli

PROGRAM = "denoise5d"
_AS_IT_IS = "\b"
"""What click has before a paragraph whose lines stay as they are."""


def reference() -> str:
    """Return Markdown with a heading for each command and an entry for each of its options."""
    group = click.Context(cli, info_name=PROGRAM, **cli.context_settings)
    parts = [*_command(cli, group, cli.get_params(group))]
    for name in cli.list_commands(group):
        command = cli.commands[name]
        context = click.Context(command, info_name=name, parent=group)
        parts += _command(command, context, command.params)  # without --help, which all have
    return "\n".join(parts)


def _command(
    command: click.Command, context: click.Context, parameters: Sequence[click.Parameter]
) -> Iterator[str]:
    usage = command.get_usage(context).removeprefix("Usage: ")
    yield f"## {context.command_path}\n\n```text\n{usage}\n```\n"
    yield from _paragraphs(command.help or "")
    yield f"```{{program}} {context.command_path}\n```\n"
    for parameter in parameters:
        if isinstance(parameter, click.Option):
            yield _option(parameter, context)
    yield from _paragraphs(command.epilog or "")


def _paragraphs(text: str) -> Iterator[str]:
    """Write help as Markdown; click's paragraphs that stay as they are become code."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        first, _, rest = paragraph.partition("\n")
        if first.strip() != _AS_IT_IS:
            yield f"{paragraph}\n"
            continue
        title, _, lines = rest.partition("\n")
        yield f"{title}\n\n```text\n{inspect.cleandoc(lines)}\n```\n"


def _option(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    assert record is not None  # no option is hidden
    names, text = record
    return f"````{{option}} {names}\n{text}\n````\n"
