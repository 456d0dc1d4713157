"""What the harness costs: the embedded training by `tina run` and by a plain TRL script, side by side.

    python benchmarks/training.py [--pairs 3] [--steps 40]

Same model, data order, seed, steps and rewards; the plain script grades with math-verify in its own
process. Prints wall-clock seconds of the steps (after start-up) and of the whole process, peak
memory, whether losses and rewards are equal step by step, and what checkpoints take of the run, saved as
often as the recipe says. `--plain FILE` is the plain script.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

LORA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def plain(steps: int, out: Path, recipe: dict) -> None:
    """GRPO on arithmetic as a script with TRL alone would do it."""
    import re

    import torch
    from datasets import Dataset
    from math_verify import parse, verify
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from tina_plugins.datasets.arithmetic import rows
    from tina_plugins.models.nano import folder

    layout = re.compile(r"\s*<think>(.+?)</think>\s*<answer>(.+?)</answer>\s*", re.DOTALL)

    def format(completions, **_):
        texts = [c[0]["content"] for c in completions]
        tags = ("<think>", "</think>", "<answer>", "</answer>")
        matches = [all(t.count(tag) == 1 for tag in tags) and layout.fullmatch(t) for t in texts]
        return [float(bool(m) and all(re.search(r"\w", g) for g in m.groups())) for m in matches]

    def accuracy(completions, gold, **_):
        rewards = []
        for completion, right in zip(completions, gold, strict=True):
            final = completion[0]["content"].rpartition("</think>")[2]
            boxes = re.findall(r"\\boxed\{([^{}]*)\}", final)
            rewards.append(float(bool(boxes) and verify(parse(f"${right}$"), parse(f"${boxes[-1]}$"))))
        return rewards

    train, seed = recipe["train"], recipe["seed"]
    torch.manual_seed(seed)
    data = [{"prompt": [{"role": "user", "content": r["problem"]}], "gold": r["answer"]} for r in rows(seed)]
    lines, clock = [], [0.0]

    class Steps(TrainerCallback):
        def on_train_begin(self, args, state, control, **_):
            clock.append(time.perf_counter())

        def on_log(self, args, state, control, logs, **_):
            if "loss" in logs:
                lines.append({"loss": logs["loss"], "reward": logs["reward"]})

        def on_train_end(self, args, state, control, **_):
            clock.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as place:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder(), dtype=torch.float32),
            reward_funcs=[format, accuracy],
            args=GRPOConfig(
                output_dir=place,
                learning_rate=train["learning_rate"],
                lr_scheduler_type="cosine_with_min_lr",
                lr_scheduler_kwargs={"min_lr_rate": train["min_lr_share"]},
                warmup_steps=round(train["warmup"] * steps),
                max_steps=steps,
                max_grad_norm=train["max_grad_norm"],
                per_device_train_batch_size=train["batch"],
                gradient_accumulation_steps=train["accumulate"],
                num_generations=train["group"],
                max_completion_length=train["max_new_tokens"],
                temperature=train["temperature"],
                beta=train["beta"],
                loss_type="grpo",
                scale_rewards="group",
                use_bias_correction_kl=False,
                reward_weights=[1.0, 2.0],
                seed=seed,
                bf16=False,
                use_cpu=True,
                gradient_checkpointing=False,
                save_steps=train["save_every"],
                logging_steps=1,
                report_to="none",
                disable_tqdm=True,
                dataloader_pin_memory=False,
            ),
            train_dataset=Dataset.from_list(data),
            processing_class=AutoTokenizer.from_pretrained(folder(), padding_side="left"),
            peft_config=LoraConfig(
                r=32, lora_alpha=128, lora_dropout=0.05, target_modules=LORA, task_type="CAUSAL_LM"
            ),
            callbacks=[Steps()],
        )
        trainer.train()
    seconds = clock[-1] - clock[1]
    out.write_text(json.dumps({"lines": lines, "seconds": seconds}))


def measured(command: list[str]) -> tuple[float, float]:
    """(wall-clock seconds, peak MiB) of one process and its children."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(process.stderr.read().decode())
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> None:
    """Run both in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()

    from tina_harness import registry
    from tina_harness.planning import layers

    names = registry.load()
    config = layers(names, preset="embedded", file=None, flags={}, assignments=[]).config.model_dump()
    if given.plain:
        plain(given.steps, given.plain, config)
        return
    rows, equal = [], True
    with tempfile.TemporaryDirectory() as place:
        for pair in range(given.pairs):
            out, runs = Path(place) / f"plain{pair}.json", Path(place) / f"runs{pair}"
            steps = ["--steps", str(given.steps)]
            whole_plain, peak_plain = measured([sys.executable, __file__, "--plain", str(out), *steps])
            command = [sys.executable, "-m", "tina_harness", "run", "--runs-dir", str(runs), "--limit", "1"]
            whole_tina, peak_tina = measured([*command, "--samples", "1", "--max-steps", str(given.steps)])
            theirs = json.loads(out.read_text())
            (run,) = (p.parent for p in runs.glob("*/manifest.json"))
            ours = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            same = [{"loss": m["loss"], "reward": m["reward"]} for m in ours] == theirs["lines"]
            equal = equal and same
            manifest = json.loads((run / "manifest.json").read_text())
            rows.append(
                [
                    f"{theirs['seconds']:.2f}",
                    f"{manifest['seconds_of_steps']:.2f}",
                    manifest["seconds_of_steps"] / theirs["seconds"],
                    f"{whole_plain:.1f}",
                    f"{whole_tina:.1f}",
                    f"{peak_plain:.0f}",
                    f"{peak_tina:.0f}",
                    peak_tina / peak_plain,
                    100 * manifest["seconds_of_checkpoints"] / whole_tina,
                    "equal" if same else "differ",
                ]
            )
    heads = [
        "TRL s",
        "tina s",
        "ratio",
        "TRL whole",
        "tina whole",
        "TRL MiB",
        "tina MiB",
        "ratio",
        "checkpoints %",
        "loss, reward",
    ]
    print(tabulate(rows, headers=heads, tablefmt="github", floatfmt=".3f"))
    print(f"median ratio of the steps: {statistics.median(r[2] for r in rows):.3f}")
    print(f"median ratio of steps a second: {1 / statistics.median(r[2] for r in rows):.3f}")
    print(f"median share of checkpoints: {statistics.median(r[8] for r in rows):.2f}%")
    print(f"median ratio of peak memory: {statistics.median(r[7] for r in rows):.3f}")
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
