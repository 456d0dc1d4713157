"""Adapters of every kind that peft writes, on several architectures: evaluated, merged, or refused."""

import json
import shutil
from pathlib import Path

import pytest

from tina_harness import TinaError
from tina_harness.evaluation.adapters import check_adapter
from tina_harness.training.merge import merge
from tina_plugins.models.nano import folder

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "max_position_embeddings": 256}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


def write_model(path, kind, **settings):
    """A tiny model of random weights, with tina-nano's tokenizer."""
    import torch
    import transformers

    nano = json.loads((folder() / "config.json").read_text())
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256} if kind == "GPT2" else SIZES | HEADS
    ends = {k: nano[k] for k in ("vocab_size", "eos_token_id", "bos_token_id", "pad_token_id") if k in nano}
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**sizes, **ends, **settings)
    name = f"{kind}LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM"
    shard = {"max_shard_size": "20KB"} if kind == "Qwen2" else {}
    getattr(transformers, name)(config).save_pretrained(path, **shard)
    for pattern in ("tokenizer*", "*.jinja"):
        for file in folder().glob(pattern):
            shutil.copy(file, path)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """GPT-2 with its Conv1D; a Llama whose output layer is its embedding; a Qwen2 in shards, untied."""
    place = tmp_path_factory.mktemp("models")
    return {
        "gpt2": write_model(place / "gpt2", "GPT2"),
        "tied": write_model(place / "tied", "Llama", tie_word_embeddings=True),
        "untied": write_model(place / "untied", "Qwen2", tie_word_embeddings=False),
    }


def write_adapter(path, model, **settings):
    """A LoRA adapter that changes what the model says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(model)
    adapted = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **{"r": 4, **settings}))
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape) * (0.3 if "lora" in name else 0.05)
            parameter.data.copy_(noise + (1 if "magnitude" in name else 0))
    adapted.save_pretrained(path)
    return path


def logits(model, adapter=None):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model)
    if adapter:
        loaded = PeftModel.from_pretrained(loaded, adapter)
    with torch.inference_mode():
        return loaded.eval()(torch.arange(3, 40)[None]).logits


KINDS = [
    ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"]}),  # (in, out), one of them square
    ("gpt2", {"target_modules": ["c_attn", "lm_head"]}),  # Conv1D and Linear
    ("gpt2", {"target_modules": ["wte", "wpe", "attn.c_proj"]}),
    ("tied", {"target_modules": ["q_proj", "lm_head"]}),
    ("tied", {"target_modules": ["embed_tokens"]}),
    ("tied", {"target_modules": ["embed_tokens", "lm_head", "down_proj"]}),
    ("tied", {"target_modules": ["q_proj"], "use_dora": True}),
    ("untied", {"target_modules": ["lm_head", "up_proj"]}),
    ("untied", {"target_modules": "all-linear", "use_rslora": True}),
    ("untied", {"target_modules": ["k_proj"], "modules_to_save": ["lm_head"]}),
]


@pytest.mark.parametrize(("model", "settings"), KINDS)
def test_an_adapter_fits_its_model_and_merged_says_what_it_says(models, model, settings, tmp_path):
    adapter = write_adapter(tmp_path / "adapter", models[model], **settings)
    assert check_adapter(adapter, models[model]) == 4
    merge(models[model], adapter, tmp_path / "merged")
    base, both = logits(models[model]), logits(models[model], adapter)
    assert (both - base).abs().max() > 0.01
    assert (logits(tmp_path / "merged") - both).abs().max() < 1e-4
    unchanged = {"embed_tokens", "wte", "lm_head"}.isdisjoint(settings["target_modules"])
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    if model == "tied":
        assert config["tie_word_embeddings"] is unchanged


@pytest.mark.parametrize(("model", "settings"), KINDS[1::3])
def test_it_does_not_fit_a_model_of_another_size(models, model, settings, tmp_path):
    adapter = write_adapter(tmp_path / "adapter", models[model], **settings)
    kind, changed = {
        "gpt2": ("GPT2", {"n_embd": 64}),
        "tied": ("Llama", {"hidden_size": 64, "tie_word_embeddings": True}),
        "untied": ("Qwen2", {"hidden_size": 64}),
    }[model]
    other = tmp_path / "other"
    import transformers

    config = transformers.AutoConfig.from_pretrained(models[model])
    for key, value in changed.items():
        setattr(config, key, value)
    name = f"{kind}LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM"
    getattr(transformers, name)(config).save_pretrained(other)
    with pytest.raises(TinaError, match=r"does not fit .*other: it changes .*, where the model has"):
        check_adapter(adapter, other)


def test_the_largest_of_several_ranks_counts(models, tmp_path):
    ranks = {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"v_proj": 24}}
    adapter = write_adapter(tmp_path / "adapter", models["tied"], **ranks)
    assert check_adapter(adapter, models["tied"]) == 24


def test_a_model_s_files_may_leave_out_the_beginning_of_names(models, tmp_path):
    from safetensors.torch import load_file, save_file

    old = tmp_path / "old"
    old.mkdir()
    shutil.copy(models["gpt2"] / "config.json", old)
    weights = load_file(models["gpt2"] / "model.safetensors")
    save_file({n.removeprefix("transformer."): w for n, w in weights.items()}, old / "model.safetensors")
    adapter = write_adapter(tmp_path / "adapter", models["gpt2"], target_modules=["c_attn", "wte", "lm_head"])
    assert check_adapter(adapter, old) == 4


def test_transposed_matrices_fit_a_conv1d_only(models, tmp_path):
    from safetensors.torch import load_file, save_file

    adapter = write_adapter(tmp_path / "adapter", models["tied"], target_modules=["up_proj"])
    file = adapter / "adapter_model.safetensors"
    swapped = {
        n.replace("_A", "_").replace("_B", "_A").replace("lora_.", "lora_B."): w.T.contiguous()
        for n, w in load_file(file).items()
    }
    save_file(swapped, file)
    with pytest.raises(TinaError, match="does not fit"):
        check_adapter(adapter, models["tied"])


def test_what_is_no_lora_adapter_is_refused_with_its_kind(models, tina, tmp_path):
    from peft import IA3Config, PromptTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    others = {
        "IA3": IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj"], feedforward_modules=[]),
        "PROMPT_TUNING": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
    }
    for kind, config in others.items():
        base = AutoModelForCausalLM.from_pretrained(models["tied"])
        get_peft_model(base, config).save_pretrained(tmp_path / kind)
        done = tina(
            *("eval", models["tied"], "--adapter", tmp_path / kind, "--bench", "arithmetic-heldout"),
            *("--limit", "1", "--samples", "1"),
        )
        assert done.returncode == 2
        assert f"holds an adapter of the kind {kind}, and only LoRA" in done.stderr


def test_a_pickle_and_a_file_without_lora_matrices_are_refused(models, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    adapter = write_adapter(tmp_path / "adapter", models["tied"], target_modules=["q_proj"])
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({"lora_unet_layers_0.up.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(TinaError, match="no LoRA matrices under names that peft knows"):
        check_adapter(adapter, models["tied"])
    save_file({n: w for n, w in tensors.items() if "lora_A" in n}, file)
    with pytest.raises(TinaError, match="which is not a pair of matrices"):
        check_adapter(adapter, models["tied"])
    torch.save(tensors, adapter / "adapter_model.bin")
    file.unlink()
    with pytest.raises(TinaError, match=r"adapter_model\.bin is a pickle"):
        check_adapter(adapter, models["tied"])


@pytest.mark.slow
def test_a_gpt2_trains_and_its_adapter_is_evaluated_and_merged(models, tina):
    short = ("--set", "train.max_new_tokens=16", "--set", "eval.max_new_tokens=16", "--lr", "0.01")
    done = tina(
        "run", "--model", models["gpt2"], "--max-steps", "2", "--limit", "2", "--samples", "1", *short
    )
    assert done.returncode == 0, done.stderr
    assert tina("merge", "latest", "merged").returncode == 0
    (adapter,) = Path("runs").glob("*/checkpoints/checkpoint-2")
    both = logits(models["gpt2"], adapter)
    assert (both - logits("merged")).abs().max() < 1e-4
    assert (both - logits(models["gpt2"])).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ('["lm_head"]', "lora.targets names lm_head, the output layer"),
        ('"lm_head|.*q_proj"', "lora.targets names lm_head, the output layer"),
        ('["self_attn"]', "self_attn, which is neither a linear layer nor an embedding"),
        ('["input_layernorm"]', "input_layernorm, which is neither a linear layer nor an embedding"),
        ('["all-linear"]', "no module 'all-linear' to adapt"),
        ('".*z_proj"', "no module '.*z_proj' to adapt"),
        ("[]", "expected names of modules"),
        ("x[", "not a regular expression"),
    ],
)
def test_targets_that_cannot_be_trained_are_refused_before_the_model_is_loaded(models, tina, targets, said):
    done = tina("run", "--model", models["tied"], "--set", f"lora.targets={targets}", "--dry-run")
    assert done.returncode == 2
    assert said in done.stderr
    assert "loading" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("targets", "adapted"),
    [
        ("all-linear", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        ('".*(layers.1.mlp.up_proj|q_proj)"', {"q_proj", "up_proj"}),
        ('["self_attn.q_proj", "embed_tokens"]', {"q_proj", "embed_tokens"}),
    ],
)
def test_targets_are_names_an_expression_or_all_linear_layers(models, tina, targets, adapted):
    from safetensors import safe_open

    short = ("--set", "train.max_new_tokens=8", "--set", "eval.max_new_tokens=8", "--max-steps", "1")
    words = ("run", "--model", models["tied"], "--limit", "1", "--samples", "1", *short)
    done = tina(*words, "--set", f"lora.targets={targets}")
    assert done.returncode == 0, done.stderr
    (file,) = Path("runs").glob("*/checkpoints/checkpoint-1/adapter_model.safetensors")
    with safe_open(file, "pt") as opened:
        names = [n.partition(".lora_")[0] for n in opened.keys() if ".lora_" in n]  # noqa: SIM118
    assert {n.rpartition(".")[2] for n in names} == adapted
