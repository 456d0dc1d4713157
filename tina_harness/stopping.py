"""Being asked to stop: Ctrl-C, and SIGTERM as a cluster sends it before it takes the machine away."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

GRACE_S = 12.0  # after SIGTERM a step may take so long to end; then it is given up


class Preempted(BaseException):
    """Raised inside a step that did not end in time after SIGTERM: what it did is to be given up."""


class Stop:
    """Whether a training was asked to stop; it is called after each step.

    interruptible: whether a step may be given up now; False while weights change or files are written.
    code: the exit code that says why.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.interruptible = False
        self.code = 130
        self._asked = False
        self._say = say

    def __call__(self) -> bool:
        """Whether to stop."""
        return self._asked

    def _tell(self, text: str) -> None:
        with contextlib.suppress(RuntimeError):  # the signal came while a line was being written
            self._say(text)

    def on_interrupt(self, number: int, frame: Any) -> None:
        """Ctrl-C: the first time after the step, the second time at once."""
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self._tell("stopping after this step, with a checkpoint (Ctrl-C again: at once)")

    def on_terminate(self, number: int, frame: Any) -> None:
        """SIGTERM: after the step if it ends within the grace, else from its beginning."""
        if self.code != 143:
            self.code, self._asked = 143, True
            self._tell(f"SIGTERM: stopping with a checkpoint, after this step or in {GRACE_S:.0f} s")
            signal.setitimer(signal.ITIMER_REAL, GRACE_S, 0.2)

    def on_alarm(self, number: int, frame: Any) -> None:
        """The grace is over."""
        if self.interruptible:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Preempted


@contextlib.contextmanager
def stoppable(say: Callable[[str], None]) -> Iterator[Stop]:
    """Signals are asked-for stops inside. Outside the main thread, whoever runs us deals with signals."""
    stop = Stop(say)
    handlers = {
        signal.SIGINT: stop.on_interrupt,
        signal.SIGTERM: stop.on_terminate,
        signal.SIGALRM: stop.on_alarm,
    }
    before = {}
    try:
        for number, handler in handlers.items():
            before[number] = signal.signal(number, handler)
    except ValueError:
        yield stop
        return
    try:
        yield stop
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, previous in before.items():
            signal.signal(number, previous)
