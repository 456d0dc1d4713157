"""An event loop in a thread, for engines whose library is asynchronous."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """An event loop that runs in a daemon thread until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="engine")
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def as_finished(
        self, ask: Callable[[int], Coroutine[Any, Any, T]], count: int, at_once: int
    ) -> Iterator[tuple[int, T]]:
        """(i, await ask(i)) for i < count, as they finish, with at most `at_once` under way.

        The first error ends all; leaving the iterator early cancels what is under way.
        """
        results: queue.Queue[tuple[int, T] | None] = queue.Queue()
        waiting = iter(range(count))

        async def one_after_the_other() -> None:
            for index in waiting:
                results.put((index, await ask(index)))

        async def everything() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(at_once, count)):
                    group.create_task(one_after_the_other())

        future = asyncio.run_coroutine_threadsafe(everything(), self._loop)
        future.add_done_callback(lambda _: results.put(None))
        try:
            while (result := results.get()) is not None:
                yield result
            error: BaseException | None = future.exception()
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            if error is not None:
                raise error
        finally:
            future.cancel()

    def close(self) -> None:
        """Cancel what is under way, and stop the loop and its thread."""

        async def cancel() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=10) if tasks else None

        self.run(cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        with contextlib.suppress(RuntimeError):  # still running: it ends with the process
            self._loop.close()
