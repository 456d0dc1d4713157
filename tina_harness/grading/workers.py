"""Worker processes with deadlines, for code that may hang, crash or eat memory.

Each worker is a pebble pool of one process, so that nothing is shared that a killed worker could leave
locked: a pool whose process died, or passed a deadline, is replaced as a whole. The clock starts when a call
is sent and runs in the caller, so that a process that never takes the call, or is frozen, is killed in time,
too. Processes are spawned, never forked, whatever the caller's start method, and do not import the caller's
main module: it may be a script without a guard, or load torch.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as DeadlineError
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, NamedTuple

from tina_harness.errors import RunError

_STARTING_S = 60  # for how long a process may take to start
_STARTS = 3  # as often in a row may a process die, or not start in time, before it has started
_GRACE_S = 0.5  # after the deadline, for an answer that waits while this process was kept from reading it
_IDLE = 0.1  # share of its deadline: a call that had less CPU time was not given its time


class Lost(NamedTuple):
    """What became of a call that gave no result. reason: "deadline", or why.

    died: the worker was killed or frozen by other hands, so that the call may be innocent.
    """

    reason: str
    died: bool = False


class WorkersFailing(RunError):
    """A worker process could not be started, again and again."""


class Workers:
    """A fixed number of worker processes, started when first needed.

    count: processes. deadline_s: wall-clock seconds for one call. initializer(*arguments) runs in each
    process when it starts.
    """

    def __init__(
        self, count: int, deadline_s: float, initializer: Callable[..., None], arguments: tuple[Any, ...]
    ) -> None:
        self.count, self.deadline_s = count, deadline_s
        self._start = (initializer, arguments)
        self._fill()

    def _fill(self) -> None:
        self._owner = os.getpid()
        self._free: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._all = [_Worker(*self._start) for _ in range(self.count)]
        for worker in reversed(self._all):
            self._free.put(worker)

    def map(self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        """function(*call) for each call, in order: its result, or a Lost."""
        if os.getpid() != self._owner:  # a fork of the caller has none of its threads and pipes
            self._fill()
        if not calls:
            return
        threads = ThreadPoolExecutor(min(self.count, len(calls)), thread_name_prefix="grading")
        try:
            yield from threads.map(lambda call: self._one(function, call), calls)
        finally:
            threads.shutdown(wait=True, cancel_futures=True)

    def _one(self, function: Callable[..., Any], call: tuple[Any, ...]) -> Any:
        worker = self._free.get()
        try:
            return worker.run(function, call, self.deadline_s)
        finally:
            self._free.put(worker)

    def processes(self) -> list[int]:
        """The ids of the processes that run now."""
        return [pid for worker in self._all for pid in worker.processes()]

    def close(self) -> None:
        """End the processes."""
        if os.getpid() == self._owner:
            for worker in self._all:
                worker.close()


class _State(NamedTuple):
    """Of a process: whether it is stopped, and the seconds of CPU time that it has used."""

    stopped: bool
    cpu_s: float


class _Worker:
    def __init__(self, initializer: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._start = (initializer, arguments)
        self._pool: Any = None

    def run(self, function: Callable[..., Any], call: tuple[Any, ...], deadline_s: float) -> Any:
        self._ready()
        began = self._state()
        future = self._pool.schedule(function, args=call)
        try:
            with contextlib.suppress(DeadlineError):
                return future.result(deadline_s)
            return future.result(_GRACE_S)
        except DeadlineError:
            ended = self._state()
            self.close()
            if began and ended and (ended.stopped or ended.cpu_s - began.cpu_s < _IDLE * deadline_s):
                return Lost(f"the process was frozen: no answer within {deadline_s:g} s", died=True)
            return Lost("deadline")
        except Exception as error:  # ProcessExpired, BrokenProcessPool, or what the function raised
            self.close()
            return Lost(_said(error), died=isinstance(error, _died()))

    def _ready(self) -> None:
        """Have a process that has started. One that dies before it has is not the next call's doing."""
        from pebble import ProcessPool

        initializer, arguments = self._start
        failed = 0
        while self._pool is None:
            self._pool = ProcessPool(max_workers=1, context=_Context())
            try:
                self._pool.schedule(initializer, args=arguments).result(_STARTING_S)
            except Exception as error:
                late = isinstance(error, DeadlineError)
                reason = f"it had not started after {_STARTING_S} s" if late else _said(error)
                self.close()
                failed += 1
                if failed == _STARTS or not (late or isinstance(error, _died())):
                    raise WorkersFailing(
                        f"a grading process could not be started, {failed} times in a row: {reason}",
                        "'tina grade 2x x+x --explain' starts one, and shows what it says",
                    ) from error

    def _state(self) -> _State | None:
        """What the process does; None where the system does not say."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            (pid,) = self.processes()
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
            return _State(fields[0] in "Tt", ticks / os.sysconf("SC_CLK_TCK"))
        return None

    def processes(self) -> list[int]:
        workers = self._pool._pool_manager.worker_manager.workers if self._pool else {}
        return list(workers)

    def close(self) -> None:
        pool = self._pool
        if pool is not None:
            pool.stop()
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)  # a process that is stopped does not heed SIGTERM
            self._pool = None
            pool.join()


def _died() -> tuple[type[Exception], ...]:
    """What pebble raises where a process was lost."""
    from pebble import ProcessExpired

    return (ProcessExpired, BrokenProcessPool)


def _said(error: Exception) -> str:
    code = getattr(error, "exitcode", None)  # of a process that was lost
    return f"{type(error).__name__}: {str(error)[:200]}" + ("" if code is None else f", exit code {code}")


_starting = threading.Lock()


class _Process(SpawnProcess):
    """A spawned process that a daemonic process may start too, and that leaves the main module alone."""

    def start(self) -> None:
        # multiprocessing refuses children to daemonic processes, such as a DataLoader's workers, because
        # they would outlive it when it is killed: ours follow their parent (see `start_worker`).
        config: dict[str, Any] = multiprocessing.current_process()._config  # type: ignore[attr-defined]
        with _starting:
            main, daemon = sys.modules["__main__"], config.get("daemon")
            sys.modules["__main__"] = types.ModuleType("__main__")
            config["daemon"] = False
            try:
                super().start()
            finally:
                sys.modules["__main__"] = main
                config["daemon"] = daemon


class _Context(SpawnContext):
    Process = _Process
