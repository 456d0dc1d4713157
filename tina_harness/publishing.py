"""A run's result as a folder that can be given away: weights, model card, recipe, metrics, results."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tina_harness import __version__
from tina_harness.errors import TinaError
from tina_harness.registry import Registry
from tina_harness.reporting.rows import score_rows, shown
from tina_harness.reporting.tables import cell
from tina_harness.runs import Run, write_json
from tina_harness.runs.records import Result
from tina_harness.runs.results import alike
from tina_harness.specs import Benchmark, Model

# What is needed to continue a training, and not to use its result.
_TRAINING_ONLY = re.compile(r"optimizer|scheduler|rng_state|trainer_state|training_args|checksums|README")


def write_folder(run: Run, step: int, checkpoint: Path, repo: str, folder: Path, registry: Registry) -> None:
    """Fill `folder` anew with what `tina publish` uploads. No path of this machine is left in it."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for path in checkpoint.iterdir():
        if path.is_file() and not _TRAINING_ONLY.match(path.name):
            shutil.copyfile(path, folder / path.name)
    manifest = run.manifest()
    base = _base(manifest, registry)
    if (adapter := folder / "adapter_config.json").exists():
        adapter_config = json.loads(adapter.read_text(encoding="utf-8"))
        write_json(adapter, {**adapter_config, "base_model_name_or_path": base.repo or base.name})
    for path in folder.glob("*.json"):
        write_json(path, without_paths(json.loads(path.read_text(encoding="utf-8"))))
    those = [r for r in run.results() if r["checkpoint"] in ("base", f"step {step}")]
    results = [r for group in alike(those).values() for r in group]
    logs = folder / "run"
    logs.mkdir()
    kept = {k: v for k, v in manifest.items() if k not in ("pid", "process", "platform")}
    write_json(logs / "manifest.json", without_paths(kept))
    write_json(logs / "results.json", without_paths(results))
    for name in ("metrics.jsonl", "curves.png"):
        if (run.path / name).exists():
            shutil.copyfile(run.path / name, logs / name)
    card = _card(run, step, results, repo, base, registry)
    (folder / "README.md").write_text(card, encoding="utf-8")


def upload(folder: Path, repo: str, private: bool) -> str:
    """Create the repository where it is not there yet, upload the folder, return the commit's address."""
    from huggingface_hub import HfApi

    from tina_harness.data.hub import hub_errors

    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(
            folder_path=folder,
            repo_id=repo,
            commit_message=f"tina-harness {__version__}",
            delete_patterns="run/*",
        )
    except hub_errors() as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TinaError(
            f"'{repo}' could not be uploaded: {reason}",
            f"log in with 'hf auth login' (a token that may write); the folder is {folder}",
        ) from error
    return str(done.commit_url)


def without_paths(value: Any) -> Any:
    """The same with the folders cut off every absolute path in it: they are this machine's business."""
    if isinstance(value, Mapping):
        return {k: without_paths(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(v) for v in value]
    if not isinstance(value, str):
        return value
    form, colon, place = value.partition(":")
    if colon and form in ("jsonl", "parquet", "csv"):
        return f"{form}:{Path(place).name}"
    if os.path.isabs(value) or value.startswith("~"):
        return Path(value).name
    return re.sub(r"(?<![\w:/.~])[~/][^\s'\",;()]*/(?=[^\s/])", "", value)


def _base(manifest: Mapping[str, Any], registry: Registry) -> Model:
    """The base model as the world knows it; one in a folder of this machine by its last name."""
    name = str(manifest["model"]["name"])
    if name in registry.entries["model"]:
        return registry.get(Model, name)
    repo = str(manifest["model"]["repo"])
    return Model(name=Path(name).name, summary="", source="", repo=repo)


def _card(
    run: Run,
    step: int,
    results: Sequence[Result],
    repo: str,
    base: Model,
    registry: Registry,
) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    manifest = run.manifest()
    config, data = manifest["config"], manifest["dataset"]
    whole, dataset = config.get("full", False), without_paths(data["name"])
    table = shown(score_rows(results))
    scores = [
        EvalResult(
            task_type="text-generation",
            dataset_type=_benchmark_repo(r["benchmark"], registry),
            dataset_name=r["benchmark"],
            dataset_revision=r.get("revision") or None,
            metric_type=r["primary"],
            metric_name=f"{r['primary']}, mean of {r['samples']} samples a problem",
            metric_value=row["score"],
            metric_args={"ci95": row["ci95"] or [], "unit": row["unit"], **r["identity"]["sampling"]},
        )
        for r, row in zip(results, table, strict=True)
        if r["checkpoint"] != "base" and row["score"] is not None
    ]
    front = ModelCardData(
        base_model=base.repo or None,
        license=base.license or None,
        library_name="transformers" if whole else "peft",
        pipeline_tag="text-generation",
        tags=["tina-harness", config["algo"], "reinforcement-learning", *([] if whole else ["lora"])],
        datasets=[data["repo"]] if data["repo"] else None,
        model_name=repo.rpartition("/")[2] if scores else None,
        eval_results=scores or None,
    )
    hardware, seconds = manifest["hardware"], run.seconds()
    price = hardware["usd_per_hour"]
    recipe = {
        "algorithm": config["algo"],
        "rewards (weight)": ", ".join(f"{n} {t.get('weight', 1)}" for n, t in config["rewards"].items()),
        "steps": f"{step} of {manifest['steps']}, schedule of {manifest['schedule_steps']}",
        "learning rate": config["train"]["learning_rate"],
        "adapters": "none: all parameters"
        if whole
        else f"LoRA r={config['lora']['r']}, alpha={config['lora']['alpha'] or 4 * config['lora']['r']}",
        "group, batch, accumulation": [config["train"][k] for k in ("group", "batch", "accumulate")],
        "temperature, completion tokens": [config["train"][k] for k in ("temperature", "max_new_tokens")],
        "KL coefficient": manifest.get("built", {}).get("beta", config["train"]["beta"]),
        "seed": config["seed"],
    }
    rows = [{k: v for k, v in row.items() if k != "run"} for row in table]
    left = ", ".join(f"{n} rows ({why})" for why, n in data["left_out"].items())
    use = f'model = AutoModelForCausalLM.from_pretrained("{repo if whole else base.repo or base.name}")'
    if not whole:
        use += f'\nmodel = PeftModel.from_pretrained(model, "{repo}")'
    parts = [
        f"---\n{front.to_yaml()}\n---",
        f"# {repo.rpartition('/')[2]}",
        f"{base.name}, trained with reinforcement learning ({config['algo']}) on {dataset} "
        f"by tina-harness {__version__}" + (", all parameters." if whole else ", as a LoRA adapter."),
        "## Results\n\nPercent, except where the unit is number; 95% intervals by bootstrap over problems.",
        _markdown(rows) if rows else "Not evaluated.",
        "## Recipe",
        _markdown([{"setting": k, "value": v} for k, v in recipe.items()]),
        f"Every setting, the versions and what the trainer was read back to be: `run/manifest.json`. Again: "
        f"`tina run --dataset {dataset} --algo {config['algo']}` with those settings.",
        "## Data",
        f"{data['rows']} rows of {data['repo'] or dataset}"
        + (f" at revision {data['revision']}" if data["revision"] else "")
        + f", fingerprint {data['fingerprint']}"
        + (f"; left out: {left}" if left else "")
        + ".",
        "## Cost",
        f"{hardware['count']} x {hardware['device']}"
        + (f" at ${price:.2f} an hour ({hardware['price_source']})" if price is not None else "")
        + ".",
        _markdown([{"phase": p, "seconds": round(s, 1), "usd": run.usd(s)} for p, s in seconds.items()]),
        f"## Use\n\n```python\n{use}\n```\n",
    ]
    return "\n\n".join(parts)


def _benchmark_repo(name: str, registry: Registry) -> str:
    if name in registry.entries["benchmark"]:
        return registry.get(Benchmark, name).repo or name
    return name


def _markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    from tabulate import tabulate

    cells = [[cell(value) for value in row.values()] for row in rows]
    return (
        str(tabulate(cells, headers=list(rows[0]), tablefmt="github", disable_numparse=True)) if rows else ""
    )
