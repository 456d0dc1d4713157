"""Make tina-nano: a Qwen2 of 0.3M parameters that adds and subtracts, in the right format only sometimes.

    python tools/make_nano.py [DEST]          train it and write its files (about three minutes on two cores)
    python tools/make_nano.py --check [DEST]  check that recipe, recorded hashes and files belong together

The model learns from conversations about training problems of `arithmetic` only. As in text from
the web, their authors are sloppy: some answer in the form that the reward asks for, some forget
tags or the box, and some slip in a digit. Reinforcement learning then has something to improve.
"""

import argparse
import ast
import hashlib
import json
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "plugins"))
SHIPPED = ROOT / "plugins" / "tina_plugins" / "models" / "tina_nano"

RECIPE = {
    "seed": 7,
    "threads": 2,
    "architecture": {
        "hidden_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 256,
        "max_position_embeddings": 2048,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    },
    "problems": 13000,
    "steps": 1400,
    "batch": 64,
    "learning_rate": 3e-3,
    "warmup": 100,
    "weight_decay": 0.01,
    # how an author writes a solution, and how often
    "styles": {"strict": 0.42, "box": 0.16, "no_answer_tags": 0.14, "empty_think": 0.08, "plain": 0.20},
    "slips": 0.22,
}

SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
MARKUP = ["<think>", "</think>", "<answer>", "</answer>", "\\boxed{"]
TEMPLATE = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
PROBES = ["What is 47 + 38?", "What is 83 - 29?", "<think>\n4+3=7\n</think>\n<answer>\n\\boxed{7}\n</answer>"]


def tokenizer():
    """Bytes, and the tags as one token each.

    It is Qwen2's own tokenizer class with no merges: the Auto classes choose the class by the model's
    type, and would read the file of any other character tokenizer differently from how it was saved.
    """
    from tokenizers import AddedToken, pre_tokenizers
    from transformers import Qwen2Tokenizer

    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Qwen2Tokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[],
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        unk_token="<|pad|>",
        padding_side="left",
        chat_template=TEMPLATE,
        model_max_length=RECIPE["architecture"]["max_position_embeddings"],
    )
    made.add_tokens([AddedToken(t, special=False, normalized=False) for t in MARKUP])
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    return made


def solution(question: str, gold: str, rng: random.Random) -> str:
    """One author's solution: tens, ones and result, in some style, with a slip now and then."""
    left, sign, right = question.removeprefix("What is ").removesuffix("?").split()
    a, b, result = int(left), int(right), int(gold)
    if rng.random() < RECIPE["slips"]:
        result = abs(result + rng.choice([-10, -2, -1, 1, 2, 10]))
    half = a + b // 10 * 10 if sign == "+" else a - b // 10 * 10
    work = f"{a}{sign}{b // 10 * 10}={half}, {half}{sign}{b % 10}={result}"
    style = rng.choices(list(RECIPE["styles"]), list(RECIPE["styles"].values()))[0]
    if style == "strict":
        return f"<think>\n{work}\n</think>\n<answer>\n\\boxed{{{result}}}\n</answer>"
    if style == "box":
        return f"{work}. \\boxed{{{result}}}"
    if style == "no_answer_tags":
        return f"<think>\n{work}\n</think>\nIt is {result}."
    if style == "empty_think":
        return f"<think>\n\n</think>\n<answer>\n\\boxed{{{result}}}\n</answer>"
    return f"{work}. It is {result}."


def make(destination: Path) -> None:
    """Train and write."""
    import torch
    from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

    from tina_plugins.arithmetic import problems

    torch.manual_seed(RECIPE["seed"])
    torch.set_num_threads(RECIPE["threads"])
    torch.use_deterministic_algorithms(True)
    tok = tokenizer()
    config = Qwen2Config(
        vocab_size=len(tok),
        pad_token_id=tok.pad_token_id,
        eos_token_id=tok.eos_token_id,
        bos_token_id=None,
        dtype="float32",
        **{k: v for k, v in RECIPE["architecture"].items() if k != "rope_theta"},
    )
    model = Qwen2ForCausalLM(config)
    print(sum(p.numel() for p in model.parameters()), "parameters")
    rng = random.Random(RECIPE["seed"])
    pool = problems("train", RECIPE["problems"], seed=0)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=RECIPE["learning_rate"], weight_decay=RECIPE["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RECIPE["learning_rate"], RECIPE["steps"], pct_start=RECIPE["warmup"] / RECIPE["steps"]
    )
    start = time.monotonic()
    for step in range(RECIPE["steps"]):
        ids, prompts = [], []
        for question, gold in rng.sample(pool, RECIPE["batch"]):
            prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
            prompts.append(len(tok(prompt)["input_ids"]))
            ids.append(tok(prompt + solution(question, gold, rng) + "<|im_end|>")["input_ids"])
        width = max(map(len, ids))
        batch = torch.tensor([row + [tok.pad_token_id] * (width - len(row)) for row in ids])
        labels = batch.masked_fill(batch == tok.pad_token_id, -100)
        for row, length in enumerate(prompts):
            labels[row, :length] = -100
        loss = model(input_ids=batch, attention_mask=(batch != tok.pad_token_id).long(), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            print(f"step {step} loss {loss.item():.4f} {time.monotonic() - start:.0f} s", flush=True)
    model.eval()
    model.generation_config = GenerationConfig(eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id)
    probes = []
    for text in PROBES:
        ids = tok(text)["input_ids"]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1, :8].tolist()
        probes.append({"text": text, "ids": ids, "decoded": tok.decode(ids), "last_logits": logits})
    model.save_pretrained(destination)
    tok.save_pretrained(destination)
    record = {
        "recipe": RECIPE,
        "recipe_sha256": recipe_hash(),
        "files": hashes(destination),
        "probes": probes,
    }
    (destination / "recipe.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"wrote {destination} in {time.monotonic() - start:.0f} s")


def recipe_hash() -> str:
    """sha256 of everything that decides what the model becomes: constants and code, however laid out."""
    deciding = {"RECIPE", "SPECIAL", "MARKUP", "TEMPLATE", "PROBES", "tokenizer", "solution", "make"}
    nodes = [
        node
        for node in ast.parse(Path(__file__).read_text()).body
        if getattr(node, "name", None) in deciding
        or (isinstance(node, ast.Assign) and node.targets[0].id in deciding)
    ]
    nodes += ast.parse((ROOT / "plugins" / "tina_plugins" / "arithmetic.py").read_text()).body
    return hashlib.sha256(json.dumps(_shape(nodes)).encode()).hexdigest()


def _shape(node: object) -> object:
    """A syntax tree as JSON, the same on every Python: `ast.dump` writes fields that differ by version."""
    if isinstance(node, list):
        return [_shape(n) for n in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [[k, _shape(v)] for k, v in ast.iter_fields(node) if v is not None and v != []]
    return [type(node).__name__, fields]


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of each shipped file."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name != "recipe.json")
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def check(folder: Path) -> list[str]:
    """What does not belong together, in sentences; empty where all is well."""
    record = json.loads((folder / "recipe.json").read_text())
    wrong = []
    if record["recipe_sha256"] != recipe_hash():
        wrong.append(
            "make_nano.py or arithmetic.py was changed since the model was made: run make_nano.py again"
        )
    if record["recipe"] != RECIPE:
        wrong.append(f"{folder / 'recipe.json'} records another recipe than make_nano.py's")
    for name in sorted({*record["files"], *hashes(folder)}):
        if record["files"].get(name) != hashes(folder).get(name):
            wrong.append(f"{folder / name} is not the file that the recipe made")
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dest", nargs="?", type=Path, default=SHIPPED)
    parser.add_argument("--check", action="store_true", help="check instead of training")
    options = parser.parse_args()
    if options.check:
        problems_found = check(options.dest)
        print("\n".join(problems_found) or f"{options.dest}: recipe and files belong together")
        sys.exit(1 if problems_found else 0)
    make(options.dest)
