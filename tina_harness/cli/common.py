"""What several commands share: options, names with completion, and output."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tina_harness import registry as registry_module
from tina_harness.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])


class Name(click.ParamType[str]):
    """A registry name of some kinds (or "preset"), completed by the shell; checked where it is used."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds
        self.name = kinds[0] if len(kinds) == 1 else "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names that begin with what was typed."""
        from click.shell_completion import CompletionItem

        registry = registry_module.load()
        names = {n for kind in self.kinds if kind != "preset" for n in registry.names(kind)}
        if "preset" in self.kinds:
            names |= set(registry.catalogue.get("presets", {}))
        return [CompletionItem(n) for n in sorted(names) if n.startswith(incomplete)]


class RunReference(click.ParamType[str]):
    """RUN or RUN@WHICH; see `runs.reference`."""

    name = "run"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Runs, and their checkpoints, that begin with what was typed."""
        from click.shell_completion import CompletionItem

        from tina_harness.runs import reference

        found = reference.suggestions(incomplete, reference.root(ctx.params.get("runs_dir")))
        return [CompletionItem(word) for word in found]


def runs_dir_option(function: F) -> F:
    """--runs-dir DIR."""
    return click.option(
        "--runs-dir", type=click.Path(file_okay=False), help="Where runs live [TINA_RUNS, else ./runs]."
    )(function)


def json_option(function: F) -> F:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(function)


def load_registry() -> Registry:
    """The registry; what could not be loaded is said on stderr."""
    registry = registry_module.load()
    for broken in registry.broken:
        click.echo(f"warning: {broken}", err=True)
    return registry


def print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """A table, or the same rows as JSON."""
    from tina_harness.reporting import tables

    click.echo(tables.as_json(rows) if as_json else tables.as_table(rows))


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without garbage collection: records hold no cycles, and the more are read, the longer it walks them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def runs_root(option: str | None) -> Path:
    """Where runs live."""
    from tina_harness import runs

    return runs.root(option)
