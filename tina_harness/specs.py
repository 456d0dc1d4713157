"""The values that plugins hand over. Light and frozen: building one imports nothing heavy.

A spec says what a thing is; the callables inside it do the work, and import what they need when
they are called. Everything a user names on the command line is one of these.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self, dataclass_transform

from tina_harness.discovery import version_of
from tina_harness.errors import did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

Row = Mapping[str, Any]


# What a field has to be, by the first word of its annotation.
_TYPES: dict[str, tuple[Any, str]] = {
    "str": (str, "text"),
    "bool": (bool, "True or False"),
    "int": (Integral, "a whole number"),
    "float": (Real, "a number"),
    "tuple": ((tuple, list), "a tuple"),
    "Mapping": (Mapping, "a mapping"),
    "Callable": (Callable, "a function"),
}


def _text(annotation: Any) -> str:
    """An annotation as it is written, whether or not the module imports `annotations` from the future."""
    if isinstance(annotation, type):
        return annotation.__name__
    return re.sub(r"^(\w+\.)*", "", annotation if isinstance(annotation, str) else repr(annotation))


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=False)
class Frozen:
    """A frozen value with keyword fields, compared by identity.

    It is a dataclass to type checkers, but without the code that `dataclasses` writes and compiles
    for each class, which would be a tenth of the time of `tina list`. Raises TypeError for a field that
    is unknown, missing, or of another type than its annotation says.
    """

    fields: ClassVar[tuple[str, ...]] = ()
    _annotations: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __init_subclass__(cls) -> None:
        cls._annotations = {
            name: text
            for base in reversed(cls.__mro__)
            if issubclass(base, Frozen)
            for name, annotation in getattr(base, "__annotations__", {}).items()
            if not (text := _text(annotation)).startswith("ClassVar")
        }
        cls.fields = tuple(cls._annotations)
        for name in cls.fields:
            if name in vars(cls) and not isinstance(vars(cls)[name], property):
                cls._check(name, vars(cls)[name])

    def __init__(self, **values: Any) -> None:
        for name in values:
            if name not in self.fields:
                raise TypeError(
                    f"{type(self).__name__} has no field '{name}'; {did_you_mean(name, self.fields)}"
                )
        for name in self.fields:
            if name in values:
                self._check(name, values[name])
                object.__setattr__(self, name, values[name])
            elif not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} needs the field '{name}'")

    @classmethod
    def _check(cls, name: str, value: Any) -> None:
        annotation = cls._annotations[name]
        wanted, word = _TYPES.get(re.split(r"\W", annotation, maxsplit=1)[0], (object, ""))
        if isinstance(value, wanted) or (value is None and annotation.endswith("| None")):
            return
        raise TypeError(f"the field '{name}' of {cls.__name__} has to be {word}, not {value!r:.80}")

    def gives(self, name: str) -> bool:
        """Whether a field was given, here or by a subclass, and not left at the default of this module."""
        owner = next((c for c in type(self).__mro__ if name in vars(c)), Frozen)
        return name in vars(self) or owner.__module__ != __name__

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self!r} is frozen")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self, 'name', '')}>"


class Spec(Frozen):
    """What every spec has.

    name: the registry name, lower case with dashes. summary: one line. source: paper or URL.
    origin: the distribution and version that offered it, such as "tina-harness 0.1.0"; "" outside a registry.
    """

    kind: ClassVar[str] = ""
    origin: ClassVar[str] = ""
    name: str
    summary: str
    source: str

    def offered_by(self, origin: str) -> Self:
        """The same spec with its origin."""
        offered = copy.copy(self)
        object.__setattr__(offered, "origin", origin)
        return offered

    @property
    def named(self) -> str:
        """For messages: "the reward 'cosine' of tina-harness 0.1.0"."""
        return f"the {self.kind} '{self.name}'" + (f" of {self.origin}" if self.origin else "")


class RowSource(Spec):
    """Where rows come from and how a row becomes a problem with a gold answer.

    repo, config, split: as on the hub. The pinned revision is in `registry.toml`.
    files: a parquet, jsonl, json or csv file of one's own, in place of a repo.
    problem, answer: the columns that hold the problem text and the gold answer.
    answer_after: the gold is the text behind the last occurrence of this marker.
    parse: for any other shape: row -> (problem, gold); a gold of None sets the row aside.
    columns: the columns `parse` reads; a dataset without them is refused by name.
    extra: further columns, such as ("difficulty", "target_length"), which rewards and scorers get as
        `Problem.extra`.
    answer_kind: how golds compare: "math" tells it from the gold; "choice" is a letter; `tina grade
        --help` lists the others.
    answer_policy: what counts as the answer of a completion, a name in `grading.POLICIES`.
    rows: for generated data: seed -> rows, in place of a repo.
    system: the name of a prompt template in `registry.toml`, "" for no system prompt.
    license, expected_rows: as published, for `tina show` and as a check.
    """

    repo: str = ""
    files: str = ""
    config: str | None = None
    split: str = "train"
    problem: str = "problem"
    answer: str = "answer"
    answer_after: str | None = None
    parse: Callable[[Row], tuple[str, str | None]] | None = None
    columns: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    answer_kind: str = "math"
    answer_policy: str = "tina"
    rows: Callable[[int], Iterable[Row]] | None = None
    system: str = ""
    license: str = ""
    expected_rows: int | None = None

    @property
    def needed_columns(self) -> tuple[str, ...]:
        """The columns that must be there."""
        read = self.columns if self.parse else (self.problem, self.answer)
        return tuple(dict.fromkeys((*read, *self.extra)))


class Dataset(RowSource):
    """Problems to train on.

    preset: the recipe that `tina run --dataset NAME` starts from.
    benchmarks: what such a run is evaluated on when neither recipe nor user says.
    """

    kind: ClassVar[str] = "dataset"
    preset: str = "tina"
    benchmarks: tuple[str, ...] = ()


class Benchmark(RowSource):
    """Problems to evaluate on.

    prompt: the name of a prompt template in `registry.toml`, with `{problem}` in it.
    samples: completions per problem; few problems want more of them.
    max_new_tokens: longest completion.
    conversation: the turns that a model is given for a problem, in place of `prompt` and `system`.
    scorer: for what is not an answer to grade: (problem, its completions) -> a score for each of them.
    score: the same for one problem as a whole: (problem, its completions) -> scores by name, of which the
        first is reported. Each becomes a metric.
    metrics: names of the metrics that are computed; none: those of [defaults] in registry.toml. The first
        estimate of the first one is reported.
    """

    kind: ClassVar[str] = "benchmark"
    split: str = "test"
    prompt: str = "math-boxed"
    samples: int = 1
    max_new_tokens: int = 32_768
    conversation: Callable[[Problem], Sequence[dict[str, str]]] | None = None
    scorer: Callable[[Problem, Sequence[str]], Sequence[Score]] | None = None
    score: Callable[[Problem, Sequence[str]], Mapping[str, float]] | None = None
    metrics: tuple[str, ...] = ()


class Score(NamedTuple):
    """What one sample is worth.

    value: in [0, 1] where it is a share of right; any number where a benchmark counts otherwise; None: not
    counted. outcome: "correct", "incorrect", "no_answer", "bad_gold", "timeout" or "error". answer: as it was
    extracted; rule: what decided.
    """

    value: float | None
    outcome: str
    answer: str | None = None
    rule: str = ""


class Estimate(NamedTuple):
    """A number with its 95% interval. n: problems behind it. unit: "share" (in [0, 1]), "number", "tokens".

    value is None where nothing could be counted; low and high where one number tells nothing of them.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    unit: str = "share"


class Metric(Spec):
    """How the scores of problems become numbers.

    reduce: problem id -> the scores of its samples, to estimates by name ("pass@2", "pass@4"); none where it
        does not apply.
    """

    kind: ClassVar[str] = "metric"
    reduce: Callable[[Mapping[str, Sequence[Score]]], Mapping[str, Estimate]]


class Extra(Mapping[str, Any]):
    """A row's further columns by name, read-only. Unlike a mapping proxy it can be pickled and hashed."""

    def __init__(self, columns: Mapping[str, Any] = MappingProxyType({})) -> None:
        self._columns = dict(columns)

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __hash__(self) -> int:
        return hash(frozenset(self._columns))

    def __repr__(self) -> str:
        return repr(self._columns)


class Problem(NamedTuple):
    """One normalised row.

    id: a hash of the problem text, the same on every machine. kind: how its gold compares. extra: the
    columns that its source names as `extra`, with the values that the row has (None where it lacks one).
    """

    id: str
    problem: str
    gold: str
    kind: str
    source: str
    extra: Mapping[str, Any] = Extra()


class Graded(Protocol):
    """What a reward sees of a verdict (`tina_harness.grading.Verdict` is one)."""

    @property
    def correct(self) -> bool | None:
        """True or False, or None where the grader could not say."""


class RewardContext(NamedTuple):
    """What a reward may look at besides the texts.

    grade: (completions, golds) -> a verdict for each pair, which need not be those of the rows; each is
        graded once however many rewards ask. A benchmark with a score of its own has no verdicts: there
        `correct` is None for every pair.
    tokens: length of each completion in tokens. prompts: the rendered prompts.
    max_completion_tokens: the length at which completions are cut. step: optimizer step.
    problems, problem_ids: of each completion its problem, and that problem's id. A problem has the further
        columns of its own source: those of a dataset are not there when a run is evaluated on a benchmark.
    """

    grade: Callable[[Sequence[str], Sequence[str]], Sequence[Graded]]
    tokens: Sequence[int] = ()
    prompts: Sequence[str] = ()
    max_completion_tokens: int = 0
    step: int = 0
    problem_ids: Sequence[str] = ()
    problems: Sequence[Problem] = ()


class RewardFunction(Protocol):
    """completions (n texts), golds (n texts), context -> n rewards; None: do not count this one."""

    def __call__(
        self, completions: Sequence[str], golds: Sequence[str], context: RewardContext
    ) -> list[float | None]: ...


class Reward(Spec):
    """A reward function.

    build: keyword parameters (see `defaults`) -> RewardFunction.
    low, high: the range its values keep to with the defaults; a value beyond one that is given stops a
        training, with a checkpoint. bounds: keyword parameters -> (low, high), where they move the range.
    """

    kind: ClassVar[str] = "reward"
    build: Callable[..., RewardFunction]
    defaults: Mapping[str, Any] = MappingProxyType({})
    low: float = 0.0
    high: float = 1.0
    bounds: Callable[..., tuple[float, float]] | None = None


class Algorithm(Spec):
    """An RL algorithm, as settings of TRL's `GRPOTrainer` and, where they do not reach, a subclass.

    settings: `GRPOConfig` fields that define the algorithm.
    trainer: returns the trainer class; called late, because it imports torch.
    """

    kind: ClassVar[str] = "algorithm"
    settings: Mapping[str, Any]
    trainer: Callable[[], type] | None = None


class Model(Spec):
    """A causal language model: on the hub (`repo`) or in a folder (`path`).

    parameters: how many, for estimates. opens_think: its chat template ends the prompt with `<think>`.
    """

    kind: ClassVar[str] = "model"
    repo: str = ""
    path: Callable[[], Path] | None = None
    parameters: int = 0
    license: str = ""
    opens_think: bool = False


class Sampling(NamedTuple):
    """How to sample: temperature 0 is greedy; top_p in (0, 1]; at most max_new_tokens a completion."""

    temperature: float
    top_p: float
    max_new_tokens: int


class Completion(NamedTuple):
    """One sampled completion. stop_reason: "stop" (end of sequence) or "length" (cut)."""

    text: str
    tokens: int
    stop_reason: str


class EngineSession(Protocol):
    """A loaded model that samples. One session serves the base model and any number of adapters.

    It may have the method of `LogprobsSession`, too.
    """

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling, adapter: Path | None
    ) -> Iterator[tuple[int, Completion]]:
        """Yield (index into prompts, completion) as they finish, in any order.

        A sample depends on its own prompt and seed, not on what it is batched with.
        """

    def close(self) -> None:
        """Free the memory."""


class LogprobsSession(EngineSession, Protocol):
    """A session that can show what it answers with; a session without `logprobs` is said to be unproven."""

    def logprobs(self, sequences: Sequence[Sequence[int]], adapter: Path | None) -> list[list[float]]:
        """Of each sequence of token ids, the log-probability (nats) of each token after the first.

        That of sequence[k + 1], given sequence[:k + 1], is at [k]; neither temperature nor top_p counts.
        """


class Engine(Spec):
    """Something that samples completions.

    open: (model folder, dtype name, longest prompt + completion in tokens, LoRA rank) -> session.
    rollouts: `GRPOConfig` fields that make TRL sample rollouts with this engine.
    requires: the module that must be importable.
    needs_gpu: chosen automatically only where there is one.
    remote: a server elsewhere, which evaluates only and is never chosen automatically; identity: what
        its samples depend on besides the model folder.
    check_adapter: raises TinaError for a folder with an adapter that the engine cannot serve as it is;
        called before the engine is opened.
    """

    kind: ClassVar[str] = "engine"
    open: Callable[[Path, str, int, int], EngineSession]
    rollouts: Mapping[str, Any] = MappingProxyType({})
    requires: str = ""
    needs_gpu: bool = False
    remote: bool = False
    identity: Callable[[], str] | None = None
    check_adapter: Callable[[Path], None] | None = None
    install: str = ""

    @property
    def version(self) -> str:
        """The version of the package that `requires` is from, or else `open`; see `discovery.version_of`."""
        return version_of((self.requires or self.open.__module__).partition(".")[0])
