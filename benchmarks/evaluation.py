r"""What evaluation costs: engines side by side, one load against many, a resumed run, memory.

    TINA_MIRROR=DIR python benchmarks/evaluation.py engines load resume memory [--model MODEL]

engines: tokens a second of the transformers engine, of plain batched `generate`, and (where lighteval is
installed) of its transformers backend, greedy, on the same prompts, whose completions end at different
lengths; in turns, three rounds, each in this process.
load: base + 4 adapters x 2 benchmarks x 4 samples, in one `tina eval` against one process for each
(checkpoint, benchmark). resume: a `tina eval` killed at half of its samples and started again, against
the whole. memory: the peak of `tina eval` at 1, 4 and 16 samples a problem. Prints Markdown.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
BENCH = "arithmetic-heldout"


def model_folder(name: str) -> Path:
    from tina_harness import registry
    from tina_harness.hardware import detect
    from tina_harness.planning import choose_model, locate

    found = registry.load()
    return locate(choose_model(name, found, detect(found.catalogue)), found)[0]


def prompts(count: int) -> list[str]:
    """Questions with short and with long answers."""
    chosen = random.Random(0)
    asked = []
    for n in range(count):
        a, b = chosen.randint(1, 99), chosen.randint(1, 99)
        asked.append(
            [
                f"What is {a} + {b}? Answer with the number only.",
                f"Name the capital of the country number {a} in the alphabet. One word.",
                f"Explain in several paragraphs why {a} times {b} is {a * b}.",
                f"Is {a} even? Say yes or no.",
            ][n % 4]
        )
    return [f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n" for q in asked]


def engines(folder: Path, count: int, longest: int, batch: int, rounds: int) -> None:
    from tina_harness import Sampling
    from tina_plugins.engines import transformers as ours

    texts = prompts(count)
    ours.BATCH = batch
    session = ours.Session(folder, "float32", 4096, 0)

    def tina() -> int:
        return sum(c.tokens for _, c in session.generate(texts, range(count), Sampling(0, 1, longest), None))

    def plain() -> int:
        """`generate` on batches in the order of their lengths."""
        import torch

        model, tokenizer = session.model, session.tokenizer
        total = 0
        order = sorted(texts, key=len, reverse=True)
        for start in range(0, count, batch):
            inputs = tokenizer(order[start : start + batch], return_tensors="pt", padding=True)
            with torch.inference_mode():
                rows = model.generate(**inputs, do_sample=False, max_new_tokens=longest)
            for row in rows[:, inputs["input_ids"].shape[1] :].tolist():
                ends = [i for i, t in enumerate(row) if t in session.ends]
                total += ends[0] if ends else len(row)
        return total

    ways = {"tina, transformers engine": tina, "plain batched generate": plain}
    if importlib.util.find_spec("lighteval"):
        ways["lighteval, transformers backend"] = lighteval_backend(folder, texts, longest, batch)
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    tokens: dict[str, int] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            tokens[name] = way()
            speeds[name].append(tokens[name] / (time.perf_counter() - began))
    print(f"\n{count} prompts, at most {longest} tokens, batches of {batch}; median of {rounds} rounds\n")
    print("| engine | tokens | tokens/s | of ours |\n|---|---|---|---|")
    mine = statistics.median(speeds["tina, transformers engine"])
    for name, values in speeds.items():
        speed = statistics.median(values)
        print(f"| {name} | {tokens[name]:,} | {speed:.0f} | {mine / speed:.2f}x |")


def lighteval_backend(folder: Path, texts: list[str], longest: int, batch: int):
    """lighteval's model on the same prompts, without its cache; prompts are not cut."""
    from lighteval.models.transformers.transformers_model import TransformersModel, TransformersModelConfig
    from lighteval.tasks.requests import Doc, SamplingMethod

    model = TransformersModel(
        TransformersModelConfig(
            model_name=str(folder),
            dtype="float32",
            batch_size=batch,
            max_length=1024,
            override_chat_template=False,
            generation_parameters={"temperature": 0, "max_new_tokens": longest},
        )
    )

    def run() -> int:
        docs = [
            Doc(
                query=text,
                choices=[""],
                gold_index=0,
                id=str(n),
                task_name="t",
                generation_size=longest,
                sampling_methods=[SamplingMethod.GENERATIVE],
                stop_sequences=[],
            )
            for n, text in enumerate(texts)
        ]
        found = type(model)._padded_greedy_until(model, docs)
        ends = {model.tokenizer.eos_token_id, model.tokenizer.pad_token_id}
        return sum(sum(int(t) not in ends for t in r.output_tokens[0]) for r in found)

    return run


def tina(*words: object, wait: bool = True, environment: dict[str, str] | None = None):
    command = [sys.executable, "-m", "tina_harness", *map(str, words)]
    env = {**os.environ, **(environment or {})}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    if not wait:
        return process
    out, err = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{err}")
    return out


def adapters(folder: Path, where: Path, count: int) -> list[Path]:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    made = []
    for n in range(count):
        torch.manual_seed(n)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(r=8))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.01)
        model.save_pretrained(where / f"adapter{n}")
        made.append(where / f"adapter{n}")
    return made


def load(model: str, folder: Path, problems: int, longest: int, engine: str) -> None:
    """One process against one for each (checkpoint, benchmark)."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        made = adapters(folder, place, 4)
        common = ["--limit", problems, "--samples", 4, "--max-new-tokens", longest, "--json"]
        common += ["--engine", engine]
        benches = ("aime24", "math500")
        began = time.perf_counter()
        words = [w for b in benches for w in ("--bench", b)]
        words += ["--base"] + [w for a in made for w in ("--adapter", a)]
        tina("eval", model, *words, *common, "--runs-dir", place / "one")
        one = time.perf_counter() - began
        began = time.perf_counter()
        for n, adapter in enumerate([None, *made]):
            for bench in benches:
                words = ["--bench", bench] + ([] if adapter is None else ["--adapter", adapter])
                tina("eval", model, *words, *common, "--runs-dir", place / f"many{n}{bench}")
        many = time.perf_counter() - began
        print(
            f"\nbase + 4 adapters x 2 benchmarks x 4 samples, {problems} problems, at most {longest} tokens, "
        )
        print(f"engine {engine}\n\n| | seconds | ratio |\n|---|---|---|")
        print(f"| one `tina eval` | {one:.0f} | |")
        print(f"| one process for each (checkpoint, benchmark): 10 | {many:.0f} | {many / one:.1f}x |")


def resume(model: str, problems: int, longest: int) -> None:
    """A kill at half of the samples."""
    with tempfile.TemporaryDirectory() as temporary:
        words = ["eval", model, "--bench", BENCH, "--limit", problems, "--samples", 4]
        words += ["--max-new-tokens", longest, "--json"]
        began = time.perf_counter()
        whole = json.loads(tina(*words, "--runs-dir", Path(temporary) / "whole"))
        full = time.perf_counter() - began
        other = Path(temporary) / "killed"
        began = time.perf_counter()
        process = tina(*words, "--runs-dir", other, wait=False)
        half = problems * 4 // 2
        while sum(p.read_bytes().count(b"\n") for p in other.glob(".samples/*.jsonl")) < half:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        before = time.perf_counter() - began
        began = time.perf_counter()
        again = json.loads(tina(*words, "--runs-dir", other))
        rest = time.perf_counter() - began
        same = whole[0]["metrics"] == again[0]["metrics"] and whole[0]["tokens"] == again[0]["tokens"]
        print(
            f"\n{problems} problems x 4 samples, at most {longest} tokens\n\n"
            "| | seconds | of the whole |\n|---|---|---|"
        )
        print(f"| the whole | {full:.0f} | |\n| up to the kill | {before:.0f} | {before / full:.2f} |")
        print(f"| the same command again | {rest:.0f} | {rest / full:.2f} |")
        print(f"\n{again[0]['reused']} samples were there; the same table: {'yes' if same else 'NO'}")


def memory(model: str, problems: int, longest: int) -> None:
    """Peak of the process with ever more samples."""
    import psutil

    print(f"\n{problems} problems, at most {longest} tokens\n\n| samples a problem | peak MiB |\n|---|---|")
    for samples in (1, 4, 16):
        with tempfile.TemporaryDirectory() as temporary:
            words = ["eval", model, "--bench", BENCH, "--limit", problems, "--samples", samples]
            process = tina(*words, "--max-new-tokens", longest, "--runs-dir", temporary, wait=False)
            watched, peak = psutil.Process(process.pid), 0
            while process.poll() is None:
                try:
                    peak = max(peak, watched.memory_info().rss)
                except psutil.NoSuchProcess:
                    break
                time.sleep(0.05)
            if process.wait():
                raise SystemExit(process.stderr.read())
            print(f"| {samples} | {peak / 2**20:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", choices=("engines", "load", "resume", "memory"))
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--engine", default="transformers", help="for load")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--problems", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    folder = model_folder(given.model)
    if "engines" in given.what:
        engines(folder, given.prompts, given.tokens, given.batch, given.rounds)
    if "load" in given.what:
        load(given.model, folder, given.problems, given.tokens, given.engine)
    if "resume" in given.what:
        resume(given.model, given.problems * 8, given.tokens)
    if "memory" in given.what:
        memory(given.model, given.problems * 8, given.tokens)


if __name__ == "__main__":
    main()
