"""Layers of configuration: preset < file < flags < --set, strict."""

from pathlib import Path

import pytest

from tina_harness import TinaError, registry
from tina_harness.config import Layers
from tina_harness.planning import layers


@pytest.fixture
def names():
    return registry.load()


def resolve(names, preset=None, file=None, flags=None, assignments=()):
    return layers(names, preset=preset, file=file, flags=flags or {}, assignments=assignments)


def test_each_layer_beats_the_one_below_and_is_remembered(names, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[train]\nlearning_rate = 2e-6\nbeta = 0.1\nwarmup = 0.2\n")
    flags = {"train.learning_rate": (3e-6, "--lr"), "train.beta": (0.2, "--beta")}
    resolved = resolve(names, "tina-limr", file, flags, ["train.learning_rate=4e-6"])
    config, origins = resolved.config, resolved.origins
    assert config.train.learning_rate == 4e-6
    assert origins["train.learning_rate"] == "--set train.learning_rate=4e-6"
    assert (config.train.beta, origins["train.beta"]) == (0.2, "--beta")
    assert (config.train.warmup, origins["train.warmup"]) == (0.2, str(file))
    assert (config.train.max_steps, origins["train.max_steps"]) == (180, "preset tina-limr")
    assert (config.lora.r, origins["lora.r"]) == (32, "preset tina")
    assert config.lora.scale == 128


def test_without_a_preset_the_datasets_own_recipe_is_taken(names):
    assert resolve(names).config.dataset == "arithmetic"
    assert resolve(names, flags={"dataset": ("still3", "--dataset")}).config.rewards.keys() == {
        "length",
        "accuracy",
    }


def test_every_preset_is_a_valid_configuration(names):
    for preset in names.catalogue["presets"]:
        table = Layers(names).add_preset(preset)
        if "dataset" not in table.values:
            table.set("dataset", "limr", "test")
        assert table.resolve().config.rewards


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("scale_reward=none", "did you mean 'train.scale_rewards'"),
        ("train.scale_reward=none", "did you mean 'train.scale_rewards'"),
        ("lora.rnk=4", "did you mean 'lora.r'|unknown key"),
        ("rewards.cosin.weight=1", "did you mean 'cosine'"),
        ("rewards.cosine.max_length=1", "did you mean 'max_len'"),
        ("rewards.accuracy.weight=high", "expected a number"),
        ("rewards.accuracy.weight=", "expected a number"),
        ("rewards.accuracy.weight=true", "expected a number"),
        ("rewards.accuracy.weight=inf", "expected a finite number"),
        ("rewards.format.variant=3", "expected a text"),
        ("train.group=5", "must be a multiple of group"),
        ("train.learning_rate=-1", "greater than 0"),
        ("train.max_steps=many", "valid integer"),
        ("nothing", "expected key=value"),
    ],
)
def test_a_mistake_is_an_error_that_says_what_to_type(names, assignment, said):
    with pytest.raises(TinaError, match=said):
        resolve(names, "tina-limr", assignments=[assignment])


def test_every_recipe_of_the_paper_counts_the_closing_tag_as_its_code_does(names):
    recipes = [n for n in names.catalogue["presets"] if n.startswith(("tina", "ablation"))]
    checked = 0
    for recipe in recipes:
        grid = names.catalogue["presets"][recipe].get("grid", {})
        points = [f"{key}={values[0]}" for key, values in grid.items()]
        rewards = resolve(names, recipe, assignments=["dataset=limr", *points]).config.rewards
        if "format" in rewards:
            assert rewards["format"]["variant"] == "close_think", recipe
            checked += 1
    assert checked > 10


def test_a_misspelt_key_in_a_file_names_the_file(names, tmp_path):
    file = tmp_path / "drgrpo.toml"
    file.write_text('dataset = "open-rs"\nscale_reward = "none"\n')
    with pytest.raises(TinaError, match=r"scale_reward.*drgrpo\.toml"):
        resolve(names, file=file)


def test_a_files_rewards_replace_the_recipes(names, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[rewards.cosine]\nmax_len = 3584\n")
    assert resolve(names, "tina-limr", file).config.rewards == {"cosine": {"max_len": 3584}}


def test_rewards_on_the_command_line_replace_those_of_recipe_and_file_in_their_order(names, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[rewards.length]\nweight = 5.0\n")
    flags = {f"rewards.{name}.weight": (w, "--reward") for name, w in (("format", -1.0), ("cosine", 0.0))}
    for preset in ("tina-limr", "ablation-format", "tina-openr1"):
        found = resolve(names, preset, file, {"dataset": ("limr", "--dataset"), **flags}).config.rewards
        assert list(found.items()) == [("format", {"weight": -1.0}), ("cosine", {"weight": 0.0})]
    added = ["rewards.format.variant=box", "rewards.accuracy.weight=0.5"]
    found = resolve(names, "tina-limr", file, flags, added).config.rewards
    assert found["format"] == {"weight": -1.0, "variant": "box"}
    assert list(found) == ["format", "cosine", "accuracy"]
    assert list(resolve(names, "tina-limr", assignments=added).config.rewards) == ["format", "accuracy"]


def test_a_reward_with_nothing_but_its_name_in_a_file_is_one_of_the_run_s(names, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[rewards.accuracy]\n[rewards.cosine]\nmax_len = 9\n")
    resolved = resolve(names, "tina-limr", file)
    rows = {key: value for key, value, _ in resolved.rows() if key.startswith("rewards.")}
    assert rows == {
        "rewards.accuracy.weight": 1.0,
        "rewards.cosine.weight": 1.0,
        "rewards.cosine.max_len": 9,
    }


def test_a_file_in_a_folder_called_presets_is_the_user_s(names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "presets").mkdir()
    file = Path("presets/mine.toml")
    file.write_text("lora.r = 8\n")
    assert resolve(names, "ablation-rank", file).config.lora.r == 8


def test_an_unknown_preset_or_dataset_is_named(names):
    with pytest.raises(TinaError, match="did you mean 'tina-limr'"):
        resolve(names, "tina-lmr")
    with pytest.raises(TinaError, match="did you mean 'limr'"):
        resolve(names, flags={"dataset": ("lmir", "--dataset")})
