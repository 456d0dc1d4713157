"""An engine's session for a whole command: opened when a sample is missing, and once more if it dies."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tina_harness import checked
from tina_harness.errors import PluginError, TinaError
from tina_harness.evaluation.proof import Adapters
from tina_harness.specs import Completion, Engine, EngineSession, Sampling

_KEPT = "the finished samples are kept: the same command continues with the others"


class Sessions:
    """Samples with one load of an engine.

    longest: prompt and completion in tokens. adapters: those that will be asked for; an engine that does not
    use them is stopped before its first sample. status, say: take lines for the user. since: when the engine
    was loaded (monotonic seconds); 0 before.
    """

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        dtype: str,
        longest: int,
        adapters: Adapters,
        status: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        self._engine, self._folder, self._dtype = engine, folder, dtype
        self._longest, self._adapters = longest, adapters
        self._status, self._say = status, say
        self._session: EngineSession | None = None
        self._died = False
        self.since = 0.0

    def use(self, folder: Path) -> None:
        """Sample with the model in that folder from here on."""
        if folder != self._folder:
            self.close()
            self._folder = folder

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling, adapter: Path | None
    ) -> Iterator[tuple[int, Completion]]:
        """As `EngineSession.generate`. Raises PluginError where the engine gives what is no sample."""
        waiting = set(range(len(prompts)))
        while waiting:
            asked = sorted(waiting)
            try:
                some = self._opened().generate(
                    [prompts[i] for i in asked], [seeds[i] for i in asked], sampling, adapter
                )
                for answer in some:
                    place, completion = checked.sample(self._engine, answer, len(asked))
                    if asked[place] not in waiting:
                        raise PluginError(f"{self._engine.named}: generate gave prompt {place} twice")
                    waiting.remove(asked[place])
                    yield asked[place], completion
            except TinaError:
                raise
            except (Exception, SystemExit) as error:
                self._restart(error, len(waiting))
                continue
            if waiting:
                raise PluginError(
                    f"{self._engine.named}: generate ended with {len(waiting)} of {len(asked)} prompts "
                    "without a completion",
                    _KEPT,
                )

    def _opened(self) -> EngineSession:
        """The session; where there is none it is loaded, and has to answer with the adapters."""
        if self._session is None:
            self._status("loading the evaluation engine ...")
            self._adapters.prepare(self._engine)
            rank = self._adapters.rank
            with checked.calling(self._engine, "open"):
                self._session = self._engine.open(self._folder, self._dtype, self._longest, rank)
            self._adapters.check(self._engine, self._session)
            self.since = time.monotonic()
        return self._session

    def _restart(self, error: BaseException, left: int) -> None:
        """After the engine died; raises where it has before."""
        reason = f"{type(error).__name__}: {str(error).strip()[:300]}"
        if self._died:
            raise PluginError(
                f"{self._engine.named} died twice, with {left} samples to go: {reason}", _KEPT
            ) from error
        self._died = True
        self._say(f"{self._engine.named} died and is started again: {reason}")
        self.close()

    def close(self) -> None:
        """Free the memory."""
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(Exception):  # a dead engine may not close
                session.close()
