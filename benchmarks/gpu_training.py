"""Step time of a 1.5B model with LoRA on this machine's GPU, and what the `tina-limr` recipe would cost here.

    python benchmarks/gpu_training.py [--steps 4] [--engine vllm]

The model has the shape of DeepSeek-R1-Distill-Qwen-1.5B and random weights, so that nothing is downloaded
and no completion ends early: prompts of some 500 tokens, G = 4 completions of 3,584 tokens, 32 completions
a step, LoRA r = 32. It is trained by `tina run`. `--layers 2 --width 64 --tokens 32` tries it on a CPU.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tabulate import tabulate

RECIPE_STEPS = 180  # where tina-limr stops
COMPLETIONS = 32  # that it samples in a step
BENCHMARK = "arithmetic-heldout"


def make_model(folder: Path, layers: int, width: int) -> None:
    """A Qwen2 with random weights, and the tokenizer of tina-nano."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    from tina_plugins.models.nano import folder as nano

    torch.manual_seed(0)
    heads = max(2, width // 128)
    config = Qwen2Config(
        hidden_size=width,
        intermediate_size=width * 35 // 6,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=2,
        vocab_size=151_936,
        max_position_embeddings=131_072,
        tie_word_embeddings=False,
    )
    tokenizer = AutoTokenizer.from_pretrained(nano())
    config.bos_token_id = config.eos_token_id = tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    Qwen2ForCausalLM(config).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_problems(folder: Path) -> Path:
    """A dataset whose prompts have some 500 tokens, which are bytes for this tokenizer."""
    lines = [
        {"problem": f"{'Think about it with care. ' * 17}{n} + 1 =", "answer": n + 1} for n in range(256)
    ]
    target = folder / "problems.jsonl"
    target.write_text("\n".join(map(json.dumps, lines)))
    return target


def main() -> None:
    """Train a few steps and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--width", type=int, default=1536)
    parser.add_argument("--tokens", type=int, default=3584)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        model, runs = Path(place) / "random-1.5b", Path(place) / "runs"
        make_model(model, given.layers, given.width)
        settings = {
            "train.group": 4,
            "train.batch": 4,
            "train.accumulate": 8,
            "train.max_prompt_tokens": 1024,
            "train.temperature": 0.7,
            "train.max_new_tokens": given.tokens,
            "train.learning_rate": 1e-6,
            "eval.max_new_tokens": 16,
            "lora.r": 32,
        }
        words = [w for key, value in settings.items() for w in ("--set", f"{key}={value}")]
        words += ["--dataset", f"jsonl:{make_problems(Path(place))}", "--algo", "grpo", "--bench", BENCHMARK]
        words += ["--reward", "format=1", "--reward", "accuracy=2"]
        words += ["--engine", given.engine, "--max-steps", str(given.steps), "--limit", "1", "--samples", "1"]
        command = [
            sys.executable,
            "-m",
            "tina_harness",
            "run",
            "--model",
            str(model),
            "--runs-dir",
            str(runs),
        ]
        subprocess.run([*command, *words], check=True)
        (run,) = (p.parent for p in runs.glob("*/manifest.json"))
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        manifest = json.loads((run / "manifest.json").read_text())
    warm = lines[1:] or lines
    count = len(warm)
    seconds, rollout, update = (
        sum(m[key] for m in warm) / count for key in ("seconds", "seconds_rollout", "seconds_update")
    )
    sampled = sum(m["completion_length"] for m in warm) / count * COMPLETIONS
    price = manifest["hardware"]["usd_per_hour"]
    hours = RECIPE_STEPS * seconds / 3600
    row = {
        "device": manifest["hardware"]["device"],
        "engine": manifest["engine"],
        "completion tokens": sampled / COMPLETIONS,
        "s a step": seconds,
        "rollout s": rollout,
        "update s": update,
        "sampled tokens/s": sampled / rollout,
        f"hours of {RECIPE_STEPS} steps": hours,
        "usd": None if price is None else hours * price,
    }
    print(tabulate([row], headers="keys", tablefmt="github", floatfmt=".2f"))
    print("evaluation is not counted; completions of a trained model are shorter than the longest")


if __name__ == "__main__":
    main()
