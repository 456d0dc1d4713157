"""Being asked to stop: Ctrl-C, and SIGTERM as a cluster sends it before it takes the machine away."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

GRACE_S = 12.0  # after SIGTERM a step may take so long to end; then it is given up


class Preempted(BaseException):
    """Raised inside a step that did not end in time after SIGTERM: what it did is to be given up."""


class Stop:
    """Whether a training was asked to stop; it is called after each step.

    changing: held while weights change or files are written, when a step may not be given up.
    code: the exit code that says why.
    """

    def __init__(self, say: Callable[[str], None], gives_up: bool) -> None:
        self._gives_up = gives_up
        self.changing = threading.Lock()
        self.changing.acquire()
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
            if self._gives_up:
                signal.setitimer(signal.ITIMER_REAL, GRACE_S, 0.2)

    def on_alarm(self, number: int, frame: Any) -> None:
        """The grace is over."""
        if not self.changing.locked():
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Preempted


@contextlib.contextmanager
def stoppable(say: Callable[[str], None], gives_up: bool = True) -> Iterator[Stop]:
    """Signals are asked-for stops inside. Outside the main thread, whoever runs us deals with signals.

    gives_up: whether a step that lasts longer than the grace ends in `Preempted`.
    """
    stop = Stop(say, gives_up)
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


def give_up_when(told: Path, stop: Stop, save: Callable[[], None], patience: float | None) -> None:
    """Once the file `told` is there, `save` as soon as nothing is changing, remove it and end the process.

    In a thread, as the main one of a process among several may be waiting for another process, where no
    signal handler runs. patience: s after which something that changes hangs, and the process ends unsaved;
    None: never.
    """

    def watch() -> None:
        while not told.exists():
            time.sleep(0.1)
        try:
            if stop.changing.acquire(timeout=-1 if patience is None else patience):
                save()
        finally:
            told.unlink()
            os._exit(143)

    threading.Thread(target=watch, daemon=True).start()
