"""Names to specs: what installed plugins offer, and what `registry.toml` says.

Plugins are found through the entry-point group `tina_harness`, the built-in ones too. The catalogue
is the `registry.toml` of the wheel, overlaid key by key by one in the working directory and then by
the file that the environment variable TINA_REGISTRY names.
"""

from __future__ import annotations

import copy
import functools
import importlib
import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

import pluggy

from tina_harness import hookspecs
from tina_harness.discovery import GROUP, PluginSource, discover
from tina_harness.errors import TinaError, did_you_mean
from tina_harness.specs import Algorithm, Benchmark, Dataset, Engine, Metric, Model, Reward, Spec

KINDS: dict[str, type[Spec]] = {
    cls.kind: cls for cls in (Dataset, Reward, Algorithm, Benchmark, Engine, Model, Metric)
}
S = TypeVar("S", bound=Spec)


class Entry(NamedTuple):
    """A spec and the plugin that offered it (None: an entry of `registry.toml`)."""

    spec: Spec
    plugin: PluginSource | None

    @property
    def origin(self) -> str:
        """For example "tina-harness 0.1.0"."""
        return f"{self.plugin.distribution} {self.plugin.version}" if self.plugin else "registry.toml"


class Broken(NamedTuple):
    """A plugin that could not be used, and why."""

    plugin: PluginSource
    cause: str

    def __str__(self) -> str:
        return (
            f"plugin '{self.plugin.name}' of {self.plugin.distribution} {self.plugin.version}: {self.cause}"
        )


class Registry:
    """Every name `tina` knows. Build it with `load()`."""

    def __init__(self, catalogue: dict[str, Any], manager: pluggy.PluginManager, disabled: set[str]) -> None:
        self.catalogue, self.manager, self.disabled = catalogue, manager, disabled
        self.entries: dict[str, dict[str, list[Entry]]] = {kind: {} for kind in KINDS}
        self.broken: list[Broken] = []
        self.loaded: dict[Spec, Any] = {}  # benchmarks' problems, see `data.load_benchmark`
        self._failures: Counter[str] = Counter()  # of each plugin in each hook, those not told of

    def get(self, cls: type[S], name: str) -> S:
        """The spec of that name. Raises TinaError with the nearest names."""
        return cast("S", self.entry(cls.kind, name).spec)

    def entry(self, kind: str, name: str) -> Entry:
        """The spec of that kind and name, and where it came from."""
        found = self.entries[kind].get(name)
        if not found:
            raise TinaError(f"there is no {kind} '{name}'", self._why_missing(kind, name))
        if len(found) > 1:
            origins = " and ".join(
                f"'{e.plugin.name}' of {e.origin}" if e.plugin else e.origin for e in found
            )
            first = found[0].plugin.distribution if found[0].plugin else found[0].origin
            raise TinaError(
                f"two plugins claim the {kind} '{name}': {origins}",
                f'settle it in registry.toml:\n    [prefer]\n    "{kind}.{name}" = "{first}"',
            )
        return found[0]

    def names(self, kind: str) -> list[str]:
        """All names of a kind, sorted."""
        return sorted(self.entries[kind])

    def find(self, name: str) -> list[tuple[str, Entry]]:
        """Every (kind, entry) of that name."""
        return [(kind, e) for kind in KINDS for e in self.entries[kind].get(name, [])]

    def conflicts(self) -> list[tuple[str, str, list[Entry]]]:
        """Names that more than one plugin claims, with the claims."""
        return [(k, n, es) for k, by in self.entries.items() for n, es in sorted(by.items()) if len(es) > 1]

    def notify(self, hook: str, **arguments: Any) -> list[str]:
        """Tell every plugin about an event, in pluggy's order: those that came last, first.

        A plugin that raises, or calls sys.exit, costs a warning the first time, not the run; `failures`
        counts the other times. Each plugin has a copy of what can be changed, so that none changes a record.
        """
        warnings = []
        for impl in reversed(getattr(self.manager.hook, hook).get_hookimpls()):
            try:
                values = (arguments[name] for name in impl.argnames)
                impl.function(*(copy.deepcopy(v) if isinstance(v, dict) else v for v in values))
            except (Exception, SystemExit) as error:
                who = f"plugin '{impl.plugin_name}' failed in {hook}"
                if who not in self._failures:
                    warnings.append(f"{who}: {error!r}")
                self._failures[who] += who in self._failures
        return warnings

    def failures(self) -> list[str]:
        """A line for each plugin and hook that failed more often than was told, since this was last asked."""
        failures = self._failures.items()
        lines = [f"{who} {more} more time{'s' if more > 1 else ''}" for who, more in failures if more]
        self._failures = Counter(dict.fromkeys(self._failures, 0))
        return lines

    def _why_missing(self, kind: str, name: str) -> str:
        for broken in self.broken:
            if broken.plugin.name == name:
                return f"its {broken}"
        if name in self.disabled:
            return f"its plugin '{name}' is disabled (TINA_DISABLE_PLUGINS or --no-plugin)"
        hint = did_you_mean(name, self.names(kind), f"'tina list {kind}s' shows those there are")
        for broken in self.broken:
            hint += f"\n  (not loaded: {broken})"
        return hint


def load(disable: Iterable[str] = ()) -> Registry:
    """Find plugins and read the catalogue. Imports the plugins' modules, and nothing heavy."""
    disabled = {n.strip() for n in os.environ.get("TINA_DISABLE_PLUGINS", "").split(",")} | set(disable)
    disabled.discard("")
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    registry = Registry(_catalogue(), manager, disabled)
    for source in discover():
        if source.name in disabled or source.distribution in disabled:
            continue
        try:
            for kind, spec in _register(manager, source):
                entry = Entry(spec.offered_by(f"{source.distribution} {source.version}"), source)
                registry.entries[kind].setdefault(spec.name, []).append(entry)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may even call sys.exit while it is imported
            cause = str(error) if isinstance(error, _Misuse) else f"{type(error).__name__}: {error}"
            registry.broken.append(Broken(source, cause))
    for name, table in registry.catalogue.get("models", {}).items():
        fields = {k: v for k, v in table.items() if k != "revision"}
        try:
            spec = Model(name=name, **fields).offered_by("registry.toml")
        except TypeError as error:
            raise TinaError(f"registry.toml: [models.{name}]: {error}") from error
        registry.entries["model"].setdefault(name, []).append(Entry(spec, None))
    _settle(registry)
    return registry


class _Misuse(Exception):
    """A plugin says something that the hooks do not allow; the message is a sentence."""


def _register(manager: pluggy.PluginManager, source: PluginSource) -> list[tuple[str, Spec]]:
    """Import one plugin, register it, and return (kind, spec) of what it offers."""
    module, _, attribute = source.value.partition(":")
    plugin: Any = importlib.import_module(module)
    if attribute:
        plugin = functools.reduce(getattr, attribute.split("."), plugin)
    name = f"{source.distribution}:{source.name}"
    if manager.register(plugin, name=name) is None:
        return []
    try:
        specs: list[tuple[str, Spec]] = []
        for caller in manager.get_hookcallers(plugin) or []:
            if not caller.has_spec():
                known = [h for h in dir(hookspecs) if h.startswith("tina_")]
                hint = did_you_mean(caller.name, known)
                raise _Misuse(f"'{caller.name}' is not a hook of tina; {hint}".rstrip("; "))
            for impl in caller.get_hookimpls():
                if impl.plugin is plugin:
                    specs += _offered(caller.name, impl)
        return specs
    except BaseException:
        manager.unregister(plugin)
        raise


def _offered(hook: str, impl: pluggy.HookImpl) -> list[tuple[str, Spec]]:
    """What one function of a plugin offers; nothing where its hook is told of an event."""
    if impl.hookwrapper or impl.wrapper:
        raise _Misuse(f"its {hook} is a hook wrapper, and tina calls plain hooks only: mark it @hookimpl")
    if (wanted := _OFFERS.get(hook)) is None:
        return []
    offered: Any = impl.function()
    if isinstance(offered, Spec):
        raise _Misuse(f"{hook} returned one {type(offered).__name__}: it has to yield it, or return a list")
    if not isinstance(offered, Iterable | None):
        offered = [offered]
    return [(wanted.kind, _checked(hook, wanted, spec)) for spec in offered or ()]


def _checked(hook: str, wanted: type[Spec], spec: Any) -> Spec:
    if isinstance(spec, type) and issubclass(spec, Spec):
        raise _Misuse(f"{hook} yields the class {spec.__name__}: it has to yield {spec.__name__}(name=...)")
    if not isinstance(spec, wanted):
        raise _Misuse(f"{hook} has to yield {wanted.__name__} values, not {type(spec).__name__}")
    for name in ("name", "summary", "source"):
        if not isinstance(value := getattr(spec, name), str):
            raise _Misuse(f"the {name} of a {wanted.__name__} has to be text, not {value!r:.80}")
    at = "@" if wanted is Metric else ""  # as in pass@1; elsewhere an @ comes before a checkpoint
    if not re.fullmatch(rf"[a-z0-9][a-z0-9._{at}-]*", spec.name):
        raise _Misuse(
            f"the {wanted.kind} {spec.name!r} has no name that can be typed: "
            "lower case letters, digits, dashes and dots, such as 'my-name'"
        )
    return spec


# `tina_metrics` is told of each step of a training, so that metrics have a hook of another name.
_OFFERS: dict[str, type[Spec]] = {
    "tina_estimators" if cls is Metric else f"tina_{kind}s": cls for kind, cls in KINDS.items()
}


def _settle(registry: Registry) -> None:
    """Apply `[prefer]`: "dataset.gsm8k" = "distribution"."""
    for key, distribution in registry.catalogue.get("prefer", {}).items():
        kind, _, name = key.partition(".")
        if kind not in KINDS:
            raise TinaError(f'registry.toml: [prefer] "{key}": {did_you_mean(kind, KINDS)}'.rstrip(": "))
        claims = registry.entries[kind].get(name, [])
        chosen = [
            e
            for e in claims
            if distribution in ((e.plugin.distribution, e.plugin.name) if e.plugin else (e.origin,))
        ]
        if chosen:
            registry.entries[kind][name] = chosen


# What registry.toml may hold: the fields of each entry, or None where another module checks them.
_TABLES: dict[str, frozenset[str] | None] = {
    "defaults": None,
    "prompts": frozenset({"text", "source"}),
    "models": frozenset({"repo", "revision", "summary", "source", "license", "parameters", "opens_think"}),
    "revisions": None,
    "presets": None,
    "hardware": frozenset({"match", "usd_per_hour", "source", "date", "effective_tflops"}),
    "baselines": None,
    "prefer": None,
}

_DEFAULTS: dict[str, type] = {
    **dict.fromkeys(("preset", "model_without_gpu", "model_with_gpu"), str),
    **dict.fromkeys(("engines", "metrics"), list),
}


def _catalogue() -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for path in _catalogue_files():
        try:
            with open(path, "rb") as file:
                table = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise TinaError(f"{path} is not valid TOML: {error}") from error
        except OSError as error:
            raise TinaError(f"{path} cannot be read: {error.strerror}") from error
        _check(table, path)
        _overlay(merged, table)
    return merged


def _catalogue_files() -> list[str]:
    here = os.path.dirname(os.path.abspath(__file__))
    packaged = os.path.join(here, "registry.toml")  # in a wheel; a checkout has it at its root
    files = [packaged if os.path.exists(packaged) else os.path.join(os.path.dirname(here), "registry.toml")]
    if os.path.exists("registry.toml") and not os.path.samefile("registry.toml", files[0]):
        files.append("registry.toml")
    if named := os.environ.get("TINA_REGISTRY"):
        if not os.path.exists(named):
            raise TinaError(f"TINA_REGISTRY names {named}, which does not exist")
        files.append(named)
    return files


def _check(table: Mapping[str, Any], path: str) -> None:
    _check_defaults(table.get("defaults", {}), path)
    for key, value in table.items():
        if key not in _TABLES:
            hint = did_you_mean(key, _TABLES, f"it may hold: {', '.join(_TABLES)}")
            raise TinaError(f"{path}: unknown table [{key}]", hint)
        if not isinstance(value, dict):
            raise TinaError(f"{path}: '{key}' must be a table, [{key}.NAME]")
        allowed = _TABLES[key]
        for name, entry in value.items():
            if allowed is None:
                continue
            if not isinstance(entry, dict):
                raise TinaError(f"{path}: [{key}] {name} must be a table, [{key}.{name}]")
            for field_name in entry:
                if field_name not in allowed:
                    hint = did_you_mean(field_name, allowed, f"it may hold: {', '.join(sorted(allowed))}")
                    raise TinaError(f"{path}: [{key}.{name}] has an unknown key '{field_name}'", hint)


def _check_defaults(table: Any, path: str) -> None:
    for key, value in table.items() if isinstance(table, dict) else ():
        if key not in _DEFAULTS:
            hint = did_you_mean(key, _DEFAULTS, f"it may hold: {', '.join(_DEFAULTS)}")
            raise TinaError(f"{path}: [defaults] has an unknown key '{key}'", hint)
        names = value if isinstance(value, list) and _DEFAULTS[key] is list else [value]
        if isinstance(value, list) != (_DEFAULTS[key] is list) or not all(isinstance(n, str) for n in names):
            wanted = "a list of names" if _DEFAULTS[key] is list else "a name"
            raise TinaError(f"{path}: [defaults] {key} = {value!r}: expected {wanted}")


def _overlay(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _overlay(below[key], value)
        else:
            below[key] = value
