"""Whether an engine samples with the adapters that it is given, found out before the first sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tina_harness.errors import TinaError
from tina_harness.evaluation.adapters import beyond_matrices, check_adapter, model_shapes
from tina_harness.specs import Engine, EngineSession

Vector = NDArray[np.float64]  # log-probabilities in nats, of every token after a sequence's first
TOKENS = 256  # of all sequences together
LONGEST = 32  # of one sequence: vLLM computes each token's from the beginning
_ERRORS = 5.0  # standard errors that a share is taken to be uncertain by: thousands of pairs may be compared
_TELLS = 0.5  # with a larger doubt, "applied" and "not applied" could not be told apart
_OFF = 0.3  # how far the applied share may be from 1
_FLOOR = 1e-3  # nats a token that no engine is asked to explain
_HINT = (
    "nothing was sampled; without adapters in the engine: tina merge RUN@STEP FOLDER, then tina eval FOLDER; "
    "'tina doctor' shows the versions"
)


class Adapters:
    """A command's adapters on one model, and whether the engine answers with each of them.

    What an adapter should do is computed by transformers and peft, on the CPU, in float32, on a few prompts.
    The engine's log-probabilities of the same tokens have to differ between any two adapters, and between
    each and the model, as these do. rank: the largest.
    """

    def __init__(
        self,
        folder: Path,
        paths: Iterable[Path],
        sequences: Sequence[Sequence[int]],
        say: Callable[[str], None],
    ) -> None:
        self._folder, self._paths, self._say = folder, tuple(dict.fromkeys(paths)), say
        self._sequences = _few(sequences)
        self._expected: list[Vector] | None = None
        self._found: dict[Path | None, dict[str, Any]] = {}
        self.rank = max((check_adapter(path, folder) for path in self._paths), default=0)

    def record(self, adapter: Path | None) -> dict[str, Any] | None:
        """What results.json says of an adapter; None for the model itself, or where no engine was needed.

        said: "proven", "too small to tell" or "unproven". engine, expected: how much the adapter changes
        log-probabilities, in nats a token (root mean square). share: of that change, what the engine has;
        doubt: by how much that may be off.
        """
        return self._found.get(adapter)

    def prepare(self, engine: Engine) -> None:
        """Compute what to expect, before the engine takes its memory."""
        wanted = self._paths and self._sequences and self._expected is None and not engine.remote
        if wanted and _fits(self._folder):
            self._expected = reference(self._folder, self._paths, self._sequences)

    def check(self, engine: Engine, session: EngineSession) -> None:
        """Compare a session that was just opened. Raises TinaError where an adapter is not used."""
        asked: Callable[..., Any] | None = getattr(session, "logprobs", None)
        if engine.remote:
            self._unproven(engine, "a server", [None, *self._paths])
        elif self._paths and asked is None:
            self._unproven(engine, "it gives no log-probabilities", self._paths)
        elif self._paths and self._expected is None:
            why = "the free memory does not hold the model a second time, or there is no prompt"
            self._unproven(engine, why, self._paths)
        elif asked is not None and self._expected is not None:
            subjects = (None, *self._paths, None)  # the model again: adapters have to leave it as it was
            found = [_vector(engine, asked(self._sequences, s), self._sequences) for s in subjects]
            self._compare(engine, found, [*self._expected, self._expected[0]])

    def _compare(self, engine: Engine, found: Sequence[Vector], expected: Sequence[Vector]) -> None:
        """found, expected: of the model, each adapter, and the model again."""
        noise = _size(found[0] - expected[0])
        last = len(found) - 1
        for i in range(1, last + 1):
            for j in range(i):
                pair = compare(found[i] - found[j], expected[i] - expected[j], noise)
                if pair.said == "wrong":
                    raise self._wrong(
                        engine, i, pair, found[i] - found[0], [e - expected[0] for e in expected]
                    )
                if j == 0 and i < last:
                    self._found[self._paths[i - 1]] = pair.record()
        small = [p.name for p in self._paths if self._found[p]["said"] != "proven"]
        if small:
            self._say(f"too small to tell whether {engine.name} answers with it: {', '.join(small)}")

    def _wrong(
        self, engine: Engine, place: int, pair: Comparison, change: Vector, changes: Sequence[Vector]
    ) -> TinaError:
        """changes: what the model (nothing), each adapter, and the model again would change."""
        numbers = (
            f"log-probabilities differ by {pair.engine:.2g} nats a token, where those of transformers and "
            f"peft differ by {pair.expected:.2g} (share: {pair.share:.0%})"
        )
        if place == len(changes) - 1:
            return TinaError(f"the engine {engine.name} does not take adapters off again: {numbers}", _HINT)
        nearest = min(range(len(changes) - 1), key=lambda k: _size(change - changes[k]))
        adapter = self._paths[place - 1]
        how = {0: f"ignores the adapter {adapter}", place: f"does not apply the adapter {adapter} as it is"}
        other = f"answers with {self._paths[nearest - 1]} in the place of the adapter {adapter}"
        return TinaError(f"the engine {engine.name} {how.get(nearest, other)}: {numbers}", _HINT)

    def _unproven(self, engine: Engine, why: str, subjects: Iterable[Path | None]) -> None:
        self._found |= {subject: {"said": "unproven"} for subject in subjects}
        what = "the adapters are used" if self._paths else "this model answers"
        self._say(f"{engine.name}: that {what} is unproven ({why})")


@dataclass(frozen=True)
class Comparison:
    """What the engine's log-probabilities have of a change that is expected; see `Adapters.record`."""

    said: str
    engine: float
    expected: float
    share: float
    doubt: float

    def record(self) -> dict[str, Any]:
        """For results.json."""
        numbers = {n: round(v, 6) for n, v in vars(self).items() if isinstance(v, float) and math.isfinite(v)}
        return {"said": self.said, **numbers}


def compare(engine: Vector, expected: Vector, noise: float) -> Comparison:
    """Whether a change that the engine makes is the one that is expected.

    The share is the least-squares slope of the engine's change on the expected one; it is 1 where the engine
    does what it should, 0 where it ignores the adapter. Its doubt comes from what the slope leaves over.
    noise: the engine's difference from the reference without any adapter, in nats a token.
    said: "proven", "wrong", or "too small to tell" where the doubt is larger than the difference it makes.
    """
    length = float(np.linalg.norm(expected))
    share = float(engine @ expected) / length**2 if length else 0.0
    doubt = _ERRORS * _size(engine - share * expected) / length if length else math.inf
    tells = doubt <= _TELLS
    far = _size(engine - expected) > 0.5 * _size(expected) + _ERRORS * noise + _FLOOR
    wrong = far or (tells and abs(share - 1) > max(_OFF, doubt))
    said = "wrong" if wrong else "proven" if tells else "too small to tell"
    return Comparison(said, _size(engine), _size(expected), share, doubt)


def reference(folder: Path, adapters: Sequence[Path], sequences: Sequence[Sequence[int]]) -> list[Vector]:
    """Log-probabilities of the model and of each adapter on it.

    Adapters that come off whole share one load of the model; any other has a load of its own.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    def load() -> Any:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    model = load()
    found: dict[Path | None, Vector] = {None: np.concatenate(token_logprobs(model, sequences))}
    shared: Any = None
    for number, adapter in enumerate(a for a in adapters if not beyond_matrices(a)):
        if shared is None:
            shared = PeftModel.from_pretrained(model, str(adapter), adapter_name=f"a{number}")
        else:
            shared.load_adapter(str(adapter), adapter_name=f"a{number}")
        shared.set_adapter(f"a{number}")
        found[adapter] = np.concatenate(token_logprobs(shared.eval(), sequences))
    del model, shared
    for adapter in adapters:
        if adapter not in found:
            alone = PeftModel.from_pretrained(load(), str(adapter)).eval()
            found[adapter] = np.concatenate(token_logprobs(alone, sequences))
    return [found[subject] for subject in (None, *adapters)]


def token_logprobs(model: Any, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
    """See `LogprobsSession.logprobs`, of a model as transformers loads it."""
    import torch

    found = []
    for sequence in sequences:
        ids = torch.tensor([list(sequence)], device=model.device)
        with torch.inference_mode():
            scores = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
        found.append(scores.gather(-1, ids[0, 1:, None])[:, 0].tolist())
    return found


def _few(sequences: Sequence[Sequence[int]]) -> list[list[int]]:
    """The beginning (some models need it) and the end of the first sequences, some hundred tokens in all."""
    few: list[list[int]] = []
    for sequence in sequences:
        if len(sequence) > 1 and sum(map(len, few)) < TOKENS:
            few.append([sequence[0], *sequence[1:][1 - LONGEST :]])
    return few


def _vector(engine: Engine, rows: Any, sequences: Sequence[Sequence[int]]) -> Vector:
    try:
        found = [np.asarray(row, dtype=np.float64) for row in rows]
        right = [v.shape for v in found] == [(len(s) - 1,) for s in sequences]
    except (TypeError, ValueError):
        right = False
    if not right or not np.isfinite(vector := np.concatenate(found)).all():
        raise TinaError(
            f"the engine {engine.name} gives log-probabilities that are not one finite number for each token "
            "after a sequence's first",
            "its plugin has to mend `logprobs`, or leave it out: its samples are then said to be unproven",
        )
    return vector


def _size(vector: Vector) -> float:
    return float(np.sqrt(np.mean(vector**2)))


def _fits(folder: Path) -> bool:
    """Whether the free memory holds the model in float32, and a fifth more."""
    import psutil  # a requirement of accelerate

    parameters = sum(math.prod(shape) for shape in model_shapes(folder).values())
    bytes_ = 4 * parameters or 2 * sum(file.stat().st_size for file in folder.glob("*.bin"))
    return bool(1.2 * bytes_ < psutil.virtual_memory().available)
