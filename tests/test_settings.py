"""What TRL is told, on a CPU and on a GPU."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tina_harness import Algorithm, Engine, TinaError, registry, runs
from tina_harness.hardware import Hardware, detect
from tina_harness.orchestrator import execute
from tina_harness.planning import choose_engine, choose_model, dtype, layers, prepare
from tina_harness.provenance import as_begun, manifest_of
from tina_harness.reporting.console import Console
from tina_harness.training.settings import Training, arguments, settings


def training(algo, engine, gpu):
    names = registry.load()
    return Training(
        config=layers(names, preset="tina-limr", file=None, flags={}, assignments=[]).config,
        algorithm=names.get(Algorithm, algo) if isinstance(algo, str) else algo,
        engine=names.get(Engine, engine),
        model_folder=Path(),
        problems=(),
        prompts=(),
        steps=180,
        schedule_steps=360,
        longest=4096,
        dtype="bfloat16" if gpu else "float32",
        gpu=gpu,
        scorer=None,
        stop=lambda: False,
        on_step=lambda line: None,
        on_save=lambda path, step: None,
        say=lambda lines: None,
    )


def test_every_setting_is_a_field_of_trl_and_the_paper_s():
    from trl import GRPOConfig

    for algo in ("grpo", "drgrpo"):
        told = settings(training(algo, "vllm", gpu=True))
        assert told.keys() <= {f.name for f in dataclasses.fields(GRPOConfig)}
    assert told["reward_weights"] == [1.0, 2.0]
    assert (told["learning_rate"], told["beta"], told["temperature"]) == (1e-6, 0.04, 0.7)
    assert (told["num_generations"], told["max_completion_length"]) == (4, 3584)
    assert (told["max_steps"], told["warmup_steps"]) == (360, 36)
    assert (told["lr_scheduler_type"], told["lr_scheduler_kwargs"]) == (
        "cosine_with_min_lr",
        {"min_lr_rate": 0.1},
    )


def test_a_gpu_means_bf16_checkpointing_and_colocated_vllm_and_a_cpu_none_of_them():
    gpu = settings(training("grpo", "vllm", gpu=True))
    assert (gpu["bf16"], gpu["use_cpu"], gpu["gradient_checkpointing"]) == (True, False, True)
    assert (gpu["use_vllm"], gpu["vllm_mode"]) == (True, "colocate")
    assert gpu["vllm_importance_sampling_correction"] is False  # it is in none of the papers
    assert gpu["vllm_max_model_length"] == 4096
    cpu = settings(training("grpo", "transformers", gpu=False))
    assert (cpu["bf16"], cpu["use_cpu"], cpu["gradient_checkpointing"]) == (False, True, False)
    assert "use_vllm" not in cpu


def test_an_algorithm_that_misspells_a_setting_does_not_start(tmp_path):
    from tina_harness.runs import Run

    wrong = Algorithm(name="mine", summary="s", source="x", settings={"scale_reward": "none"})
    with pytest.raises(TinaError, match=r"'scale_reward'.*\n.*did you mean 'scale_rewards'"):
        arguments(Run(tmp_path), training(wrong, "transformers", gpu=False))


def test_model_dtype_and_engine_follow_the_hardware(monkeypatch):
    names = registry.load()
    monkeypatch.setattr("tina_harness.hardware.gpus", lambda: ("NVIDIA H200",))
    gpu = detect(names.catalogue)
    assert (gpu.name, gpu.gpu, gpu.usd_per_hour) == ("h200", True, 4.59)
    assert choose_model(None, names, gpu).name == "r1-distill-qwen-1.5b"
    assert dtype("auto", gpu) == "bfloat16"
    monkeypatch.setattr("tina_harness.planning._installed", lambda engine: True)
    assert choose_engine("auto", names, gpu).name == "vllm"
    monkeypatch.setattr("tina_harness.hardware.gpus", lambda: ())
    cpu = detect(names.catalogue)
    assert isinstance(cpu, Hardware)
    assert choose_model(None, names, cpu).name == "tina-nano"
    assert (dtype("auto", cpu), choose_engine("auto", names, cpu).name) == ("float32", "transformers")


def with_engines(listed, **offered):
    """The registry where registry.toml lists these engines, and a plugin offers others."""
    names = registry.load()
    names.catalogue["defaults"]["engines"] = listed
    for name, fields in offered.items():
        spec = Engine(name=name, summary="s", source="x", open=lambda *_: None, **fields)
        names.entries["engine"][name] = [registry.Entry(spec, None)]
    return names


def test_only_engines_that_registry_toml_lists_are_chosen_automatically():
    cpu = detect(registry.load().catalogue, "cpu")
    gpu = dataclasses.replace(cpu, gpu=True)
    offered = {"aaa": {}, "fast": {"needs_gpu": True}, "gone": {"requires": "not_here.at_all"}}
    offered["server"] = {"remote": True}
    names = with_engines(["vllm", "transformers"], **offered)
    assert choose_engine("auto", names, cpu).name == choose_engine("auto", names, gpu).name == "transformers"
    names = with_engines(["server", "gone", "fast", "aaa"], **offered)
    assert (choose_engine("auto", names, cpu).name, choose_engine("auto", names, gpu).name) == ("aaa", "fast")
    with pytest.raises(
        TinaError, match=r"\(server, gone\) can run here\n.*--engine NAME \(aaa, transformers"
    ):
        choose_engine("auto", with_engines(["server", "gone"], **offered), cpu)
    with pytest.raises(TinaError, match=r"no engine 'vlm'\n.*did you mean 'vllm'"):
        choose_engine("auto", with_engines(["transformers", "vlm"]), cpu)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('engine = ["vllm"]', "did you mean 'engines'"),
        ('engines = "vllm"', "expected a list of names"),
        ("engines = [1]", "expected a list of names"),
        ('preset = ["tina"]', "expected a name"),
    ],
)
def test_a_mistake_in_the_defaults_of_a_registry_toml_is_an_error(tmp_path, line, said):
    (tmp_path / "registry.toml").write_text(f"[defaults]\n{line}\n")
    with pytest.raises(TinaError, match=said):
        registry.load()


def resolved(names, *assignments, preset="embedded", file=None):
    return layers(names, preset=preset, file=file, flags={}, assignments=list(assignments))


def algorithm(names, **fields):
    """Another algorithm, "mine", among those of the registry."""
    spec = Algorithm(name="mine", summary="s", source="x", settings=fields)
    names.entries["algorithm"]["mine"] = [registry.Entry(spec, None)]
    return names


@pytest.mark.parametrize(
    ("preset", "key", "value", "fixed"),
    [
        ("embedded", "train.beta", 0.04, {"beta": 0.0}),
        ("embedded", "train.temperature", 0.9, {"temperature": 0.5}),
        ("embedded", "train.group", 4, {"num_generations": 16}),
        ("embedded", "train.schedule", "linear", {"lr_scheduler_type": "constant"}),
        ("embedded", "train.gradient_checkpointing", "false", {"gradient_checkpointing": True}),
    ],
)
def test_what_an_algorithm_fixes_is_planned_and_a_user_s_other_value_is_an_error(
    preset, key, value, fixed, tmp_path
):
    names = algorithm(registry.load(), **fixed)
    plan = prepare(resolved(names, "algo=mine", preset=preset), names)
    (wanted,) = fixed.values()
    assert (plan.resolved.value(key), plan.resolved.origin(key)) == (wanted, "algorithm mine")
    file = tmp_path / "mine.toml"
    file.write_text(f"{key} = {value!r}\n" if value != "false" else f"{key} = false\n")
    for typed in (
        resolved(names, "algo=mine", f"{key}={value}", preset=preset),
        resolved(names, "algo=mine", preset=preset, file=file),
    ):
        with pytest.raises(TinaError, match="has no effect: the algorithm mine fixes it"):
            prepare(typed, names)
    assert prepare(resolved(names, "algo=mine", f"{key}={wanted}", preset=preset), names).config


def test_a_preset_s_value_that_an_algorithm_fixes_is_said_and_loss_and_scaling_stay_overrides():
    names = registry.load()
    recipe = ("dataset=arithmetic", 'bench=["arithmetic-heldout"]')
    plan = prepare(resolved(names, "algo=dapo", *recipe, preset="tina"), names)
    assert plan.config.train.beta == 0.0
    assert "train.beta is 0.0, which the algorithm dapo fixes, not 0.04 (preset tina)" in plan.notes
    plan = prepare(resolved(names, "algo=dapo", *recipe, "train.loss_type=bnpo", preset="tina"), names)
    told = settings(dataclasses.replace(training("dapo", "transformers", gpu=False), config=plan.config))
    assert (told["loss_type"], told["scale_rewards"], told["beta"]) == ("bnpo", "group", 0.0)


@pytest.mark.parametrize(
    "field",
    [
        *("max_steps", "output_dir", "seed", "save_steps", "report_to", "logging_steps", "reward_weights"),
        *("bf16", "use_vllm", "vllm_mode", "eval_strategy", "warmup_steps", "generation_kwargs"),
        "remove_unused_columns",
    ],
)
def test_an_algorithm_that_sets_what_is_the_harness_s_is_refused_by_name(field):
    names = algorithm(registry.load(), **{field: 1})
    with pytest.raises(TinaError, match=f"the algorithm mine sets '{field}', which is decided by"):
        prepare(resolved(names, "algo=mine"), names)


def test_the_loss_types_that_are_known_are_those_of_trl():
    import inspect
    import re

    from trl import GRPOTrainer

    from tina_harness.training.settings import LOSSES

    code = inspect.getsource(GRPOTrainer._compute_loss)
    found = re.findall(r'loss_type (?:==|in) (\[[^]]*\]|"\w+")', code)
    assert {name for text in found for name in re.findall(r"\w+", text)} == set(LOSSES)


def test_values_that_do_not_fit_together_are_the_algorithm_s_fault_where_it_fixes_them():
    names = algorithm(registry.load(), num_generations=5)
    with pytest.raises(TinaError, match=r"what the algorithm mine fixes does not fit: .*multiple of group"):
        prepare(resolved(names, "algo=mine"), names)
    names = algorithm(registry.load(), num_generations=5, per_device_train_batch_size=5)
    assert prepare(resolved(names, "algo=mine"), names).completions_per_step == 5


def test_a_run_of_before_goes_on_with_what_its_algorithm_fixes_and_with_its_engine():
    names = with_engines(["transformers"], aaa={})
    plan = prepare(resolved(names, "algo=dapo"), names)
    manifest = json.loads(json.dumps(manifest_of(plan, names)))
    assert manifest["engine_version"] == plan.engine.version
    manifest["config"]["train"]["beta"] = 0.04  # as it was written then
    manifest["origins"] |= {"train.beta": "--set train.beta=0.04", "train.epochs": "--set train.epochs=1"}
    names.catalogue["defaults"]["engines"] = ["aaa"]
    again = prepare(as_begun(manifest), names)
    assert (again.config.train.beta, again.engine.name) == (0.0, "transformers")


def test_a_schedule_that_is_shorter_than_the_training_is_said():
    names = registry.load()
    with pytest.raises(TinaError, match="shorter than the training of 80 steps"):
        prepare(resolved(names, "train.schedule_steps=10"), names)
    recipe = ("dataset=arithmetic", 'bench=["arithmetic-heldout"]', "train.max_steps=400")
    plan = prepare(resolved(names, *recipe, preset="tina-limr"), names)
    assert plan.schedule_steps == plan.config.train.schedule_steps == 400
    assert any("not 360 (preset tina-limr)" in note for note in plan.notes)


def test_the_gpus_of_a_rollout_server_are_paid_for(monkeypatch, tmp_path):
    monkeypatch.setattr("tina_harness.hardware.gpus", lambda: ("NVIDIA H200",) * 2)
    monkeypatch.setattr("tina_harness.planning.gpus", lambda: ("NVIDIA H200",) * 2)
    names = registry.load()
    there = ["processes=2", "rollout_server=http://there:8000", "rollout_gpus=3", "engine=transformers"]
    plan = prepare(layers(names, preset="embedded", file=None, flags={}, assignments=there), names)
    assert plan.hardware.dollars(3600) == pytest.approx(5 * 4.59)
    manifest = manifest_of(plan, names)
    assert manifest["hardware"]["count"] == 2  # what the training itself uses
    assert runs.create(tmp_path, "x", "y", manifest).usd(3600) == pytest.approx(5 * 4.59)


@pytest.mark.parametrize("algo", ["grpo", "drgrpo", "drgrpo-tina", "dapo", "gspo"])
def test_a_trainer_that_does_something_else_than_it_was_asked_does_not_train(algo):
    import torch
    from trl import GRPOConfig

    from tina_harness.training.train import _read_back

    wanted = {
        k: v for k, v in settings(training(algo, "transformers", gpu=False)).items() if k != "report_to"
    }
    trainer = SimpleNamespace(
        args=GRPOConfig(output_dir="unused", **wanted),
        model=torch.nn.Linear(2, 2),
        reward_func_names=["format", "accuracy"],
        reward_weights=torch.tensor([1.0, 2.0]),
        use_vllm=False,
        **{k: wanted[k] for k in ("loss_type", "scale_rewards", "beta", "num_generations")},
    )
    found = _read_back(trainer, wanted)
    assert found["loss_type"] == wanted["loss_type"]
    assert found["trainable_parameters"] == 6
    for key, other in [
        ("scale_rewards", "batch"),
        ("beta", 0.5),
        ("reward_weights", torch.tensor([1.0, 1.0])),
    ]:
        before = getattr(trainer, key)
        setattr(trainer, key, other)
        with pytest.raises(TinaError, match=f"was asked for {key} = "):
            _read_back(trainer, wanted)
        setattr(trainer, key, before)


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        (lambda: {}["loss"], "trainer raised KeyError: 'loss'"),
        (lambda: None, "trainer gave None: expected a subclass of TRL's GRPOTrainer"),
        (lambda: dict, "trainer gave the class dict: expected a subclass of TRL's GRPOTrainer"),
    ],
)
def test_an_algorithm_without_a_trainer_is_named(tmp_path, trainer, said):
    algorithm = Algorithm(name="odd", summary="s", source="x", settings={}, trainer=trainer)
    told = training(algorithm.offered_by("tina-odd 1.0"), "transformers", gpu=False)
    with pytest.raises(TinaError) as caught:
        arguments(SimpleNamespace(checkpoints_dir=tmp_path), told)
    assert str(caught.value).startswith(f"the algorithm 'odd' of tina-odd 1.0: {said}")


def changed(**other):
    """A trainer class that has its own mind about its arguments."""

    def build():
        from trl import GRPOTrainer

        class Own(GRPOTrainer):
            def __init__(self, *args, **options):
                for name, value in other.items():
                    target = (
                        options["peft_config"] if hasattr(options["peft_config"], name) else options["args"]
                    )
                    setattr(target, name, value)
                super().__init__(*args, **options)

        return Own

    return build


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("weight_decay", 0.5, "weight_decay = 0.0 and has 0.5"),
        ("warmup_steps", 1, "warmup_steps = 0 and has 1"),
        ("max_grad_norm", 9.0, "max_grad_norm = 1.0 and has 9.0"),
        ("lr_scheduler_kwargs", {"min_lr_rate": 0.5}, "lr_scheduler_kwargs"),
        ("num_iterations", 2, "num_iterations = 1 and has 2"),
        ("r", 4, "lora.r = 32 and has 4"),
        ("lora_dropout", 0.5, "lora.dropout = 0.05 and has 0.5"),
        ("target_modules", {"q_proj"}, "lora.targets"),
        ("use_rslora", True, "lora.rslora = False and has True"),
    ],
)
def test_a_trainer_class_that_changes_what_it_is_given_does_not_train(name, value, said, tmp_path):
    names = algorithm(registry.load(), loss_type="grpo", num_iterations=1)
    (entry,) = names.entries["algorithm"]["mine"]
    given = {field: getattr(entry.spec, field) for field in entry.spec.fields}
    spec = Algorithm(**{**given, "trainer": changed(**{name: value})})
    names.entries["algorithm"]["mine"] = [registry.Entry(spec, None)]
    targets = 'lora.targets=["q_proj", "v_proj"]'
    plan = prepare(resolved(names, "algo=mine", "train.max_steps=1", targets, "limit=64"), names)
    with pytest.raises(TinaError) as caught:
        execute(plan, names, tmp_path, Console(silent=True))
    assert said in str(caught.value)
