"""tina-nano: a 0.3M-parameter Qwen2 that adds and subtracts, made by tools/make_nano.py."""

from pathlib import Path

from tina_harness import Model, hookimpl


def folder() -> Path:
    """Where the wheel keeps the model's files."""
    return Path(__file__).parent / "tina_nano"


@hookimpl
def tina_models():
    yield Model(
        name="tina-nano",
        summary="0.3M parameters, arithmetic only, right format only sometimes; ships in the wheel",
        source="made here: tools/make_nano.py",
        path=folder,
        parameters=316_000,
        license="Apache-2.0",
    )
