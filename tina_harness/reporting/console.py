"""What a person sees while a run goes on; the chatter of libraries goes to the run's log."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from tina_harness.runs import Run, now


class Console:
    """Lines, and one live line at the bottom where the screen is a terminal."""

    def __init__(self, to_stderr: bool = False, silent: bool = False) -> None:
        self._silent = silent
        self.stream: IO[str] = sys.stderr if to_stderr else sys.stdout
        self._live: Any = None
        self._last_plain = 0.0
        self._said: set[str] = set()

    @property
    def terminal(self) -> bool:
        """Whether a live line can be drawn."""
        return self.stream.isatty()

    def say(self, text: str = "") -> None:
        """One line or more, above the live line."""
        if self._silent:
            return
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self.stream, flush=True)

    def once(self, text: str) -> None:
        """A line, unless it was said before."""
        if text not in self._said:
            self._said.add(text)
            self.say(text)

    def status(self, text: str, final: bool = False) -> None:
        """Replace the live line; where there is no terminal, print a line at most every two seconds."""
        if self._silent:
            return
        if self.terminal:
            self._draw(text)
        elif final or time.monotonic() - self._last_plain >= 2:
            self._last_plain = time.monotonic()
            self.say(text)
        if final:
            self.settle()

    def settle(self) -> None:
        """Let the live line stand as it is."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self, text: str) -> None:
        from rich.console import Console as RichConsole
        from rich.live import Live
        from rich.text import Text

        if self._live is None:
            console = RichConsole(file=self.stream)
            self._live = Live(
                console=console, refresh_per_second=8, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
        self._live.update(Text(text))

    @contextlib.contextmanager
    def quiet(self, log: Path) -> Iterator[None]:
        """Send everything that libraries print, log or warn about to a file, also from C code.

        What `say` and `status` print still reaches the screen.
        """
        screen = self.stream
        with open(log, "a", encoding="utf-8", errors="replace") as file, contextlib.ExitStack() as stack:
            for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
                    if stream.fileno() == number:
                        kept = os.dup(number)
                        os.dup2(file.fileno(), number)
                        stack.callback(_restore, kept, number)
                        if stream is screen:
                            self.stream = stack.enter_context(
                                open(os.dup(kept), "w", encoding="utf-8", errors="replace")
                            )
            stack.enter_context(contextlib.redirect_stdout(file))
            stack.enter_context(contextlib.redirect_stderr(file))
            stack.enter_context(warnings.catch_warnings())
            logging.captureWarnings(True)
            try:
                yield
            finally:
                self.settle()
                self.stream = screen
                file.flush()


def _restore(kept: int, number: int) -> None:
    os.dup2(kept, number)
    os.close(kept)


@contextlib.contextmanager
def libraries_aside(console: Console, run: Run) -> Iterator[None]:
    """Keep libraries off the screen and off the network where the files are here already."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "RANK" not in os.environ:
        # No more than the run uses: several would make the trainer of one process use DataParallel.
        count = run.manifest()["hardware"]["count"]
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count))))
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    with console.quiet(run.log):
        print(f"--- {now()} {' '.join(sys.argv)}", flush=True)
        yield


def step_line(metrics: Mapping[str, Any], total: int, rate: float, left: float, usd: float | None) -> str:
    """The live line of a training: step, reward parts, length, tokens/s, time left, dollars."""
    parts = " ".join(
        f"{key.removeprefix('rewards/')} {value:.2f}"
        for key, value in metrics.items()
        if key.startswith("rewards/") and value is not None
    )
    cost = "" if usd is None else f" | ${usd:.4f}"
    length = metrics.get("completion_length") or 0.0
    return (
        f"step {metrics['step']}/{total} | {parts} | {length:.0f} tokens long | {rate:.0f} tokens/s | "
        f"{clock(left)} left{cost}"
    )


def clock(seconds: float) -> str:
    """90 -> "1:30"; 4000 -> "1:06:40"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
