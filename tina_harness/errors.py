"""Errors that a user can act on: what was wrong, where it was read, what to type instead."""

from __future__ import annotations

from collections.abc import Iterable


class TinaError(Exception):
    """A problem in what the user asked for. The command line prints it without a traceback."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class RunError(TinaError):
    """A run that could not go on (disk full, lost process, ...); what was finished is kept."""

    exit_code = 1


class PluginError(RunError):
    """A plugin's code raised, or gave what it must not give; the message names the plugin."""


def nearest(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The names in `known` that `word` was most likely meant to be, best first."""
    import difflib  # here, because most calls of tina make no mistake

    names = list(known)
    found = difflib.get_close_matches(word.lower(), [n.lower() for n in names], n=most, cutoff=0.6)
    # swapped letters are the likeliest slip, which difflib counts as two
    found.sort(key=lambda name: sorted(name) != sorted(word.lower()))
    by_lower = {n.lower(): n for n in names}
    return [by_lower[f] for f in found]


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """A hint such as "did you mean 'limr'?", or `otherwise` where nothing is near."""
    matches = nearest(word, known)
    if not matches:
        return otherwise
    return "did you mean " + " or ".join(f"'{m}'" for m in matches) + "?"
