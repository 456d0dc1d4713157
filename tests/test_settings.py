"""What TRL is told, on a CPU and on a GPU."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

from tina_harness import Algorithm, Engine, TinaError, registry, runs
from tina_harness.hardware import Hardware, detect
from tina_harness.planning import choose_engine, choose_model, dtype, layers, prepare
from tina_harness.provenance import manifest_of
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
