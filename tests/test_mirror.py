"""A mirror is whole, or says what is wrong with it."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tina_harness import Dataset, TinaError
from tina_harness.data import load_problems

REPO = "GAIR/LIMR"


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A folder with LIMR's shape, as another mirror or a plain copy holds it."""
    folder = tmp_path / "source" / REPO
    folder.mkdir(parents=True)
    rows = [{"prompt": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(20)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
    (folder / "README.md").write_text("# LIMR")
    (folder / "weights.bin").write_text("not data")
    monkeypatch.setenv("TINA_MIRROR", str(tmp_path / "source"))
    return folder


@pytest.fixture
def copied(tina, source, tmp_path, monkeypatch):
    """The copy that `tina mirror limr copy` makes, and TINA_MIRROR set to it."""
    done = tina("mirror", "limr", "copy")
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("TINA_MIRROR", str(tmp_path / "copy"))
    return tmp_path / "copy" / REPO


def load():
    spec = Dataset(name="limr", summary="s", source="x", repo=REPO, problem="prompt")
    return load_problems(spec, {})


def test_a_copy_holds_the_data_files_with_their_checksums_and_loads_the_same_rows(
    source, copied, monkeypatch
):
    manifest = json.loads((copied / "tina-mirror.json").read_text())
    assert set(manifest["files"]) == {"train.parquet", "README.md"}
    assert all(len(entry["sha256"]) == 64 for entry in manifest["files"].values())
    there = load().fingerprint
    monkeypatch.setenv("TINA_MIRROR", str(source.parents[1]))
    assert load().fingerprint == there


def test_a_second_copy_fetches_only_what_is_missing_or_was_cut(tina, source, copied):
    env = {"TINA_MIRROR": str(source.parents[1])}
    (copied / "train.parquet").write_bytes((copied / "train.parquet").read_bytes()[:100])
    (copied / ".train.parquet.incomplete").write_bytes(b"half")
    done = json.loads(tina("mirror", "limr", "copy", "--json", env=env).stdout)
    assert [(row["files"], row["fetched"]) for row in done] == [(2, 1)]
    assert not (copied / ".train.parquet.incomplete").exists()
    assert len(load().problems) == 20
    done = json.loads(tina("mirror", "limr", "copy", "--json", env=env).stdout)
    assert done[0]["fetched"] == 0


def test_a_missing_a_cut_and_an_altered_file_are_named(copied):
    whole = (copied / "train.parquet").read_bytes()
    (copied / "train.parquet").write_bytes(whole[:-10])
    with pytest.raises(TinaError, match=r"train\.parquet has \d+ bytes where \d+ were copied"):
        load()
    (copied / "train.parquet").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(TinaError, match=r"was altered: train\.parquet is not the file that was copied"):
        load()
    (copied / "train.parquet").unlink()
    with pytest.raises(TinaError, match=r"train\.parquet is missing") as caught:
        load()
    assert "tina mirror" in str(caught.value)


def test_an_unreadable_list_of_files_is_named(copied):
    (copied / "tina-mirror.json").write_text("{")
    with pytest.raises(TinaError, match=r"tina-mirror\.json cannot be read"):
        load()


def test_several_mirrors_are_searched_in_order(copied, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("TINA_MIRROR", f"{tmp_path / 'empty'}{os.pathsep}{tmp_path / 'copy'}")
    assert len(load().problems) == 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["limmr", "copy"], "did you mean 'limr'"),
        (["copy"], "NAME or DEST is missing"),
        (["arithmetic", "copy"], "comes with the package: there is nothing to copy"),
        (["limr", "/proc/copy"], "cannot write the mirror"),
        (["me/mine", "copy"], "needs --kind"),
    ],
)
def test_bad_input_is_one_clear_error(tina, source, words, message):
    done = tina("mirror", *words)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_without_network_and_without_the_repository_it_says_what_is_missing(tina, source):
    done = tina("mirror", "aime24", "copy")
    assert done.returncode != 0
    assert "'HuggingFaceH4/aime_2024' could not be loaded from the hub" in done.stderr


def test_a_hub_that_cannot_be_reached_is_said(tina, tmp_path):
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "TINA_MIRROR": ""}
    done = tina("mirror", "limr", tmp_path / "m", env=nowhere)
    assert done.returncode == 2
    assert "'GAIR/LIMR' could not be loaded from the hub" in done.stderr
