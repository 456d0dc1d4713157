"""Each algorithm against a NumPy reference written from its paper: advantages, loss and gradient."""

from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

from tina_harness import Algorithm, registry

GROUP, LONGEST, BETA = 4, 9, 0.04
torch = pytest.importorskip("torch")


def advantages(name, rewards):
    """DeepSeekMath eq. 3 (with the 1e-4 that TRL adds to the deviation, and its n - 1); Dr.GRPO: r - mean."""
    groups = rewards.reshape(-1, GROUP)
    centred = groups - groups.mean(1, keepdims=True)
    if name not in ("drgrpo", "drgrpo-tina"):
        centred = centred / (groups.std(1, ddof=1, keepdims=True) + 1e-4)
    return centred.reshape(-1)


def reference(name, logps, old, base, adv, mask):
    """(loss, its gradient with respect to logps), float64, shapes (batch, tokens)."""
    low, high = {"dapo": (0.2, 0.28), "gspo": (3e-4, 4e-4)}.get(name, (0.2, 0.2))
    beta = 0.0 if name in ("dapo", "gspo") else BETA
    lengths = mask.sum(1, keepdims=True)
    log_ratio = logps - old
    if name == "gspo":  # eq. 7: the ratio of a sequence, to the power 1 / length
        log_ratio = (log_ratio * mask).sum(1, keepdims=True) / lengths * np.ones_like(mask)
    ratio, a = np.exp(log_ratio), adv[:, None]
    clipped = np.clip(ratio, 1 - low, 1 + high)
    loss = -np.minimum(ratio * a, clipped * a)
    # d min(r a, clip(r) a) / d log r: r a where the first is the smaller, 0 where the clip holds
    slope = -np.where(ratio * a <= clipped * a, ratio * a, 0.0)
    if name == "gspo":
        slope = (slope[:, :1] * mask) / lengths * lengths  # each token's share of its sequence's ratio
    difference = base - logps
    loss = loss + beta * (np.exp(difference) - difference - 1)  # k3, Schulman 2020
    slope = slope + beta * (1 - np.exp(difference))
    batch = len(adv)
    weight = {
        "grpo": mask / lengths / batch,
        "gspo": mask / lengths / batch,
        "drgrpo": mask / (batch * LONGEST),
        "drgrpo-tina": mask / mask.sum(),
        "dapo": mask / mask.sum(),
    }[name]
    if name == "gspo":
        return (loss * weight).sum(), slope / lengths / batch
    return (loss * weight).sum(), slope * weight


def trl_loss(name, logps, old, base, adv, mask):
    """(loss, gradient) of TRL's trainer with the settings that a run of the algorithm has."""
    from test_settings import training
    from trl import GRPOConfig, GRPOTrainer

    from tina_harness.training.settings import settings

    spec = registry.load().get(Algorithm, name)
    told = settings(training(spec, "transformers", gpu=False))
    told |= {
        "max_completion_length": LONGEST,
        "num_generations": GROUP,
        "per_device_train_batch_size": len(adv),
    }
    told |= {"gradient_accumulation_steps": 1}
    config = GRPOConfig(output_dir="unused", **told)
    trainer = (spec.trainer() if spec.trainer else GRPOTrainer).__new__(GRPOTrainer)
    own = torch.tensor(logps, requires_grad=True)
    fields = {
        "args": config,
        "loss_type": config.loss_type,
        "beta": config.beta,
        "epsilon_low": config.epsilon,
        "epsilon_high": config.epsilon_high if config.epsilon_high is not None else config.epsilon,
        "importance_sampling_level": config.importance_sampling_level,
        "max_completion_length": config.max_completion_length,
        "current_gradient_accumulation_steps": 1,
        "aux_loss_enabled": False,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "use_vllm": False,
        "_entropy_bonus_enabled": False,
        "_metrics": {"train": defaultdict(list)},
        "model": SimpleNamespace(training=True),
        "accelerator": SimpleNamespace(
            num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, sync_gradients=True
        ),
        "_get_per_token_logps_and_entropies": lambda *_, **__: (own, torch.zeros_like(own), None),
    }
    trainer.__dict__.update(fields)
    batch, tokens = logps.shape
    inputs = {
        "prompt_ids": torch.zeros(batch, 2, dtype=torch.long),
        "prompt_mask": torch.ones(batch, 2),
        "completion_ids": torch.zeros(batch, tokens, dtype=torch.long),
        "completion_mask": torch.tensor(mask),
        "advantages": torch.tensor(adv),
        "old_per_token_logps": torch.tensor(old),
        "ref_per_token_logps": torch.tensor(base),
        "num_items_in_batch": torch.tensor(mask.sum()),
    }
    loss = trainer._compute_loss(None, inputs)
    loss.backward()
    return loss.item(), own.grad.numpy()


def case(seed):
    chosen = np.random.default_rng(seed)
    batch, tokens = 2 * GROUP, 7
    mask = (np.arange(tokens) < chosen.integers(1, tokens + 1, size=(batch, 1))).astype(np.float64)
    logps = -chosen.gamma(2.0, 0.5, size=(batch, tokens))
    old = logps + chosen.normal(0, 0.3, size=logps.shape)
    base = logps + chosen.normal(0, 0.3, size=logps.shape)
    return logps, old, base, chosen.choice([0.0, 1.0, 2.0, 3.0], size=batch), mask


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["grpo", "drgrpo", "drgrpo-tina", "dapo", "gspo"])
def test_loss_and_gradient_are_those_of_the_paper(name, seed):
    logps, old, base, rewards, mask = case(seed)
    adv = advantages(name, rewards)
    loss, gradient = reference(name, logps, old, base, adv, mask)
    found, slope = trl_loss(name, logps, old, base, adv, mask)
    assert found == pytest.approx(loss, abs=1e-12)
    assert slope == pytest.approx(gradient, abs=1e-12)


@pytest.mark.parametrize("name", ["grpo", "drgrpo", "drgrpo-tina", "dapo", "gspo"])
def test_the_reference_s_gradient_is_that_of_its_loss(name):
    logps, old, base, rewards, mask = case(7)
    adv = advantages(name, rewards)
    _, gradient = reference(name, logps, old, base, adv, mask)
    for place in [(0, 0), (1, 0), (3, 0), (6, 0)]:
        moved = [logps.copy(), logps.copy()]
        for sign, array in zip((1, -1), moved, strict=True):
            array[place] += sign * 1e-6
        up, down = (reference(name, m, old, base, adv, mask)[0] for m in moved)
        assert gradient[place] == pytest.approx((up - down) / 2e-6, abs=1e-6)
