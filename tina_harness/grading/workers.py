"""Worker processes with deadlines, for code that may hang, crash or eat memory.

Each worker is a pebble pool of one process, so that nothing is shared that a killed worker could leave
locked: pebble kills and replaces a process that passes its deadline, and a pool whose process died by
other hands is replaced as a whole. Processes are spawned, never forked, whatever the caller's start method,
and do not import the caller's main module: it may be a script without a guard, or load torch.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as DeadlineError
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, NamedTuple


class Lost(NamedTuple):
    """What became of a call that gave no result. reason: "deadline", or why the worker was lost."""

    reason: str


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


_STARTING_S = 60  # for how long a process may take to start, again and again if it is killed


def _started() -> None:
    """Called in a process once it has started."""


class _Worker:
    def __init__(self, initializer: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._start = (initializer, arguments)
        self._pool: Any = None

    def run(self, function: Callable[..., Any], call: tuple[Any, ...], deadline_s: float) -> Any:
        try:
            self._ready()
            return self._pool.schedule(function, args=call, timeout=deadline_s).result()
        except DeadlineError:
            self.close()
            return Lost("deadline")
        except Exception as error:  # ProcessExpired, BrokenProcessPool, or what the function raised
            self.close()
            return Lost(f"{type(error).__name__}: {str(error)[:200]}")

    def _ready(self) -> None:
        """Have a process that has started. One that dies before it has is not the next call's doing."""
        from pebble import ProcessExpired, ProcessPool

        began = time.monotonic()
        while self._pool is None:
            initializer, arguments = self._start
            self._pool = ProcessPool(
                max_workers=1, initializer=initializer, initargs=arguments, context=_Context()
            )
            try:
                self._pool.schedule(_started, timeout=_STARTING_S).result()
            except (ProcessExpired, BrokenProcessPool):
                self.close()
                if time.monotonic() - began > _STARTING_S:
                    raise

    def processes(self) -> list[int]:
        workers = self._pool._pool_manager.worker_manager.workers if self._pool else {}
        return list(workers)

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()
            pool.join()


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
