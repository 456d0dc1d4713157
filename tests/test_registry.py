"""Names, plugins and the catalogue."""

import json

import pytest

from tina_harness import TinaError, registry
from tina_harness.discovery import PluginSource, discover
from tina_harness.specs import Benchmark, Dataset, Model

GSM8K = """
    from tina_harness import Dataset, hookimpl
    @hookimpl
    def tina_datasets():
        yield Dataset(name="{name}", summary="s", source="x", repo="a/b")
"""


def test_built_ins_cover_the_papers_datasets_benchmarks_and_algorithms():
    loaded = registry.load()
    assert not loaded.broken
    datasets = {"openr1", "openthoughts", "deepscaler", "still3", "open-s1", "open-rs", "limr", "arithmetic"}
    assert datasets <= set(loaded.names("dataset"))
    assert {"aime24", "aime25", "amc23", "math500", "gpqa", "minerva"} <= set(loaded.names("benchmark"))
    assert {"grpo", "drgrpo"} <= set(loaded.names("algorithm"))
    for kind in registry.KINDS:
        for name in loaded.names(kind):
            spec = loaded.entry(kind, name).spec
            assert spec.name == name
            assert spec.summary
            assert spec.source


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(TinaError, match="did you mean 'limr'"):
        registry.load().get(Dataset, "limrr")
    with pytest.raises(TinaError, match="tina list benchmarks"):
        registry.load().get(Benchmark, "zzzzzz")


def test_a_plugin_from_outside_is_found_with_its_distribution(plugin):
    plugin("gsm8k", GSM8K.format(name="gsm8k"), "tina-gsm8k")
    entry = registry.load().entry("dataset", "gsm8k")
    assert entry.origin == "tina-gsm8k 1.0"


def test_two_plugins_that_claim_a_name_are_both_named_and_registry_toml_settles_it(plugin, tmp_path):
    plugin("one", GSM8K.format(name="gsm8k"), "tina-one")
    plugin("two", GSM8K.format(name="gsm8k"), "tina-two")
    loaded = registry.load()
    with pytest.raises(TinaError, match=r"tina-one 1\.0.*tina-two 1\.0") as error:
        loaded.get(Dataset, "gsm8k")
    assert '"dataset.gsm8k" = "tina-one"' in str(error.value)
    (tmp_path / "registry.toml").write_text('[prefer]\n"dataset.gsm8k" = "tina-two"\n')
    assert registry.load().entry("dataset", "gsm8k").origin == "tina-two 1.0"


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("raise RuntimeError('no such library')", "RuntimeError: no such library"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        (
            "from tina_harness import hookimpl\n@hookimpl\ndef tina_dataset():\n    return []",
            "did you mean 'tina_datasets'",
        ),
        ("from tina_harness import hookimpl\n@hookimpl\ndef tina_datasets():\n    return [1]", "not int"),
        (
            "from tina_harness import hookimpl\n@hookimpl(wrapper=True)\ndef tina_metrics():\n    yield",
            "its tina_metrics is a hook wrapper",
        ),
        (
            "from tina_harness import hookimpl\n@hookimpl\ndef tina_metrics(run, metric):\n    pass",
            "PluginValidationError",
        ),
    ],
)
def test_a_plugin_that_cannot_be_used_costs_a_warning_and_explains_its_missing_name(plugin, body, cause):
    plugin("my-data", body, "tina-mine")
    loaded = registry.load()
    assert [str(b) for b in loaded.broken if cause in str(b) and "tina-mine 1.0" in str(b)]
    assert "limr" in loaded.names("dataset")
    with pytest.raises(TinaError) as error:
        loaded.get(Dataset, "my-data")
    assert cause in str(error.value)


def test_plugins_can_be_left_out(plugin, monkeypatch):
    plugin("gsm8k", GSM8K.format(name="gsm8k"), "tina-gsm8k")
    assert "limr" not in registry.load(["limr"]).names("dataset")
    monkeypatch.setenv("TINA_DISABLE_PLUGINS", "tina-gsm8k,limr")
    loaded = registry.load()
    assert "gsm8k" not in loaded.names("dataset")
    with pytest.raises(TinaError, match="disabled"):
        loaded.get(Dataset, "limr")


def test_a_lifecycle_hook_that_raises_costs_a_warning(plugin):
    plugin(
        "tracker",
        """
        from tina_harness import hookimpl
        @hookimpl
        def tina_run_finished(run, status):
            raise ValueError(f"{run} {status}")
        """,
    )
    (warning,) = registry.load().notify("tina_run_finished", run="r1", status="finished")
    assert "r1 finished" in warning


@pytest.mark.parametrize(
    ("offer", "cause"),
    [
        ("[Dataset(name=None, summary='s', source='x')]", "'name' of Dataset has to be text, not None"),
        ("[Dataset(name=7, summary='s', source='x')]", "'name' of Dataset has to be text, not 7"),
        ("[Dataset(name=['a'], summary='s', source='x')]", "has to be text, not ['a']"),
        ("[Dataset(name='', summary='s', source='x')]", "the dataset '' has no name that can be typed"),
        ("[Dataset(name='My Data', summary='s', source='x')]", "the dataset 'My Data' has no name that can"),
        ("[Dataset(name='a:b', summary='s', source='x')]", "the dataset 'a:b' has no name that can be typed"),
        ("[Dataset(name='a@b', summary='s', source='x')]", "the dataset 'a@b' has no name that can be typed"),
        ("[Dataset(name='mine', summary=None, source='x')]", "'summary' of Dataset has to be text"),
        ("[Dataset(name='mine', summary='s', source=3)]", "'source' of Dataset has to be text, not 3"),
        ("[Dataset(name='mine', summary='s')]", "Dataset needs the field 'source'"),
        ("[Dataset(name='mine', summary='s', source='x', columns='ab')]", "has to be a tuple, not 'ab'"),
        ("[Dataset(name='mine', summary='s', source='x', parse='f')]", "has to be a function, not 'f'"),
        ("[Dataset]", "tina_datasets yields the class Dataset: it has to yield Dataset(name=...)"),
        ("Dataset(name='mine', summary='s', source='x')", "tina_datasets returned one Dataset"),
        ("[Named(summary='s', source='x')]", "the name of a Dataset has to be text, not None"),
    ],
)
def test_an_odd_spec_breaks_its_own_plugin_and_no_other(plugin, tina, offer, cause):
    plugin(
        "odd",
        f"""
        from tina_harness import Dataset, hookimpl
        class Named(Dataset):
            @property
            def name(self):
                return None
        @hookimpl
        def tina_datasets():
            return {offer}
        """,
        "tina-odd",
    )
    plugin("gsm8k", GSM8K.format(name="gsm8k"), "tina-gsm8k")
    loaded = registry.load()
    assert "gsm8k" in loaded.names("dataset")
    (broken,) = loaded.broken
    assert str(broken).startswith("plugin 'odd' of tina-odd 1.0: ")
    assert cause in str(broken)


def test_a_spec_of_a_class_of_ones_own_needs_no_future_import(plugin):
    plugin(
        "typed",
        """
        import typing
        from typing import ClassVar
        from tina_harness import Benchmark, Dataset, hookimpl
        class Graded(Dataset):
            shelf: ClassVar[str] = "top"
            level: typing.ClassVar = 3
            grade: int = 4
            license: str = "MIT"
            note: str | None = None
        class Plain:
            unrelated: int
        class Mixed(Plain, Benchmark):
            samples = 3
        @hookimpl
        def tina_datasets():
            return [Graded(name="graded", summary="s", source="x", grade=7)]
        @hookimpl
        def tina_benchmarks():
            return (Mixed(name=n, summary="s", source="x") for n in ("mixed",))
        """,
    )
    loaded = registry.load()
    assert not loaded.broken
    spec = loaded.get(Dataset, "graded")
    assert (spec.grade, spec.license, spec.shelf, spec.note) == (7, "MIT", "top", None)
    assert {"grade", "note"} <= set(spec.fields)
    assert not {"shelf", "level"} & set(spec.fields)
    assert loaded.get(Benchmark, "mixed").samples == 3


def test_a_model_of_registry_toml_that_lacks_a_field_is_named(tmp_path):
    (tmp_path / "registry.toml").write_text('[models.mine]\nrepo = "me/mine"\nsource = "x"\n')
    with pytest.raises(TinaError, match=r"\[models\.mine\]: Model needs the field 'summary'"):
        registry.load()


HEARS = """
    from tina_harness import hookimpl
    @hookimpl({options})
    def tina_run_finished(run, status):
        run.append("{name}")
"""


def test_plugins_are_told_in_pluggys_order(plugin):
    plugin("a", HEARS.format(name="a", options=""))
    plugin("b", HEARS.format(name="b", options="trylast=True"))
    plugin("c", HEARS.format(name="c", options=""))
    plugin("d", HEARS.format(name="d", options="tryfirst=True"))
    plugin("e", HEARS.format(name="e", options=""))
    loaded, heard, directly = registry.load(), [], []
    loaded.notify("tina_run_finished", run=heard, status="finished")
    loaded.manager.hook.tina_run_finished(run=directly, status="finished")
    assert heard == directly == ["d", "e", "c", "a", "b"]


def test_a_hook_that_fails_again_and_again_is_told_of_once_and_counted(plugin):
    plugin(
        "tracker",
        """
        import sys
        from tina_harness import hookimpl
        @hookimpl
        def tina_metrics(metrics):
            step = metrics.pop("step")
            sys.exit(step) if step % 2 else 1 / 0
        """,
        "tina-tracker",
    )
    loaded, line = registry.load(), {"step": 1}
    told = [w for _ in range(80) for w in loaded.notify("tina_metrics", run=None, metrics=line)]
    assert told == ["plugin 'tina-tracker:tracker' failed in tina_metrics: SystemExit(1)"]
    assert line == {"step": 1}
    assert loaded.failures() == ["plugin 'tina-tracker:tracker' failed in tina_metrics 79 more times"]
    assert loaded.failures() == []
    assert loaded.notify("tina_metrics", run=None, metrics=line) == []


def test_the_cache_of_entry_points_notices_a_new_plugin(plugin):
    discover()
    plugin("late", GSM8K.format(name="late"))
    assert "late" in [p.name for p in discover()]
    assert isinstance(discover()[0], PluginSource)


def test_a_registry_toml_overlays_key_by_key(tmp_path, monkeypatch):
    (tmp_path / "registry.toml").write_text("[hardware.l40s]\nusd_per_hour = 0.5\n")
    (tmp_path / "more.toml").write_text(
        '[models.mine]\nrepo = "me/mine"\nsummary = "s"\nsource = "x"\n[hardware.l40s]\ndate = "2027-01-01"\n'
    )
    monkeypatch.setenv("TINA_REGISTRY", str(tmp_path / "more.toml"))
    loaded = registry.load()
    price = loaded.catalogue["hardware"]["l40s"]
    assert (price["usd_per_hour"], price["date"], price["match"]) == (0.5, "2027-01-01", "L40S")
    assert loaded.get(Model, "mine").repo == "me/mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[modles.x]\nrepo = 'a'", "did you mean 'models'"),
        ("[models.x]\nrevison = 'a'", "did you mean 'revision'"),
        ("[hardware]\nl40s = 3", "must be a table"),
        ("[models", "not valid TOML"),
        ("[prefer]\n'datasett.x' = 'y'", "did you mean 'dataset'"),
    ],
)
def test_a_mistake_in_registry_toml_is_named_with_its_file(tmp_path, text, said):
    (tmp_path / "registry.toml").write_text(text)
    with pytest.raises(TinaError, match=said) as error:
        registry.load()
    assert "registry.toml" in str(error.value)


def test_list_and_show_say_where_a_name_came_from(tina):
    rows = json.loads(tina("list", "datasets", "--json").stdout)
    assert {"kind", "name", "summary", "from"} <= set(rows[0])
    shown = json.loads(tina("show", "deepscaler", "--json").stdout)[0]
    assert shown["from"].startswith("tina-harness ")
    assert len(shown["revision"]) == 40
