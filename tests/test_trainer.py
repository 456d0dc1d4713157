"""The trainer under every algorithm: rewards that say nothing, groups without any, times by phase."""

import copy
import math

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow
NOTHING = math.nan


def test_a_reward_that_says_nothing_is_the_mean_of_its_group():
    from tina_harness.training.trainer import neutral

    rewards = torch.tensor(
        [[1.0, 2.0], [NOTHING, 4.0], [0.0, 3.0], [5.0, NOTHING], [6.0, NOTHING], [7.0, NOTHING]]
    )
    filled = neutral(rewards, 3)
    assert filled[:3].tolist() == [[1.0, 2.0], [0.5, 4.0], [0.0, 3.0]]
    assert filled[3:, 0].tolist() == [5.0, 6.0, 7.0]
    assert filled[3:, 1].isnan().all()
    # what TRL makes of it by itself: the second completion would count as a failed one
    advantage = filled[:3, 0] - filled[:3, 0].mean()
    assert advantage[1] == 0


def trainer(tmp_path, rewards, **settings):
    """A trainer of the tiny model; rewards: one value, or None, for each completion of two groups of four."""
    import peft
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from tina_harness.training.trainer import harnessed
    from tina_plugins.models.nano import folder

    def reward(completions, **_):
        return rewards[: len(completions)]

    config = GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=8,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        **settings,
    )
    built = harnessed(GRPOTrainer)(
        model=AutoModelForCausalLM.from_pretrained(folder(), dtype=torch.float32),
        reward_funcs=[reward],
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["1 + 2 =", "3 + 4 ="]}),
        processing_class=AutoTokenizer.from_pretrained(folder(), padding_side="left"),
        peft_config=peft.LoraConfig(r=4, lora_dropout=0.0, target_modules=["q_proj", "v_proj"]),
    )
    built.model.train()
    built.current_gradient_accumulation_steps = 1
    return built


def loss_and_gradient(built, batch):
    built.model.zero_grad()
    loss = built._compute_loss(built.model, batch)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in built.model.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    ("loss_type", "scale_rewards"),
    [("grpo", "group"), ("dr_grpo", "none"), ("bnpo", "none"), ("dapo", "group")],
)
def test_a_group_without_rewards_is_as_if_it_were_not_there(tmp_path, loss_type, scale_rewards):
    rewards = [1.0, 0.0, 2.0, None, None, None, None, None]
    built = trainer(tmp_path, rewards, loss_type=loss_type, scale_rewards=scale_rewards, beta=0.04)
    inputs = [{"prompt": p} for p in ["1 + 2 ="] * 4 + ["3 + 4 ="] * 4]
    batch = built._generate_and_score_completions(inputs)
    assert built.take()[1] == 1
    assert batch["advantages"][3] == pytest.approx(0.0, abs=1e-6)
    assert batch["completion_mask"][4:].sum() == 0
    found = loss_and_gradient(built, batch)
    alone = {k: v[:4] if torch.is_tensor(v) and v.ndim else v for k, v in batch.items() if k != "kept_share"}
    alone["num_items_in_batch"] = alone["completion_mask"].sum()
    wanted = loss_and_gradient(built, alone)
    assert wanted[1].abs().max() > 0
    assert found[0] == pytest.approx(wanted[0], rel=1e-5, abs=1e-8)
    assert torch.allclose(found[1], wanted[1], rtol=1e-4, atol=1e-8)


def test_seconds_are_counted_by_phase(tmp_path):
    built = trainer(tmp_path, [1.0, 0.0] * 4)
    built._generate_and_score_completions([{"prompt": "1 + 2 ="}] * 8)
    phases, skipped = built.take()
    assert phases["rollout"] > 0
    assert phases["grading"] > 0
    assert skipped == 0
    assert built.take() == ({"rollout": 0.0, "grading": 0.0}, 0)


def test_an_engine_that_ignores_the_adapter_is_found_out(tmp_path):
    from tina_harness import TinaError
    from tina_harness.training.probe import check_rollouts

    built = trainer(tmp_path, [1.0] * 8)
    before = {n: p.clone() for n, p in built.model.named_parameters()}
    state = torch.random.get_rng_state()
    ids = built.processing_class("1 + 2 =")["input_ids"]
    found = check_rollouts(built, ids)
    assert found["engine"] < 1e-4
    assert found["base"] > 0.1
    assert all(torch.equal(p, before[n]) for n, p in built.model.named_parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    honest = built.model.generate

    def without_adapter(*args, **options):
        with built.model.disable_adapter():
            return honest(*args, **options)

    built.model.generate = without_adapter
    with pytest.raises(TinaError, match="does not sample from the model that is trained"):
        check_rollouts(built, ids)


@pytest.mark.parametrize("dora", [False, True])
def test_weights_for_an_engine_have_the_adapter_in_them_and_the_base_keeps_its_bits(dora):
    import peft
    from transformers import AutoModelForCausalLM

    from tina_harness.training.trainer import merged_weights
    from tina_plugins.models.nano import folder

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(folder(), dtype=torch.bfloat16)
    model = peft.get_peft_model(
        base, peft.LoraConfig(r=4, target_modules=["q_proj", "up_proj"], use_dora=dora)
    )
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.normal_(std=0.1)
    before = {n: p.clone() for n, p in model.named_parameters()}
    found = {n: w.clone() for n, w in merged_weights(model)}
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]), name
    wanted = dict(copy.deepcopy(model).merge_and_unload(safe_merge=True).named_parameters())
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[n], wanted[n]) for n in wanted)
    name = "model.layers.0.self_attn.q_proj"
    assert not torch.equal(found[f"{name}.weight"], before[f"base_model.model.{name}.base_layer.weight"])
    next(iter(merged_weights(model)))  # given up half-way
    assert not any(getattr(m, "merged_adapters", None) for m in model.modules())
