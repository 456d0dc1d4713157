"""Loading from the hub, against a stand-in of its HTTP interface on this machine."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tina_plugins.models.nano import folder

PINNED, NEWEST = "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path):
    """A hub with one dataset (two revisions: 3 rows pinned, 5 rows newest), one model, one gated set."""
    files = {}
    for sha, count in ((PINNED, 3), (NEWEST, 5)):
        path = tmp_path / f"{sha}.parquet"
        pq.write_table(pa.table({"problem": [f"q{i}" for i in range(count)], "answer": ["1"] * count}), path)
        files["datasets/me/mine", sha] = {"data/train-00000-of-00001.parquet": path.read_bytes()}
        model = {p.name: p.read_bytes() for p in folder().iterdir() if p.name != "recipe.json"}
        files["models/me/nano", sha] = model
    card = "---\nconfigs:\n" + "".join(
        f"- config_name: {n}\n  data_files: {f}\n"
        for n, f in (("typed", "typed.csv"), ("mixed", "mixed.jsonl"), ("ragged", "ragged.csv"))
    )
    files["datasets/me/cards", NEWEST] = {
        "README.md": f"{card}---\n".encode(),
        "typed.csv": b"problem,answer\np,007\nq,0.10\nr,NA\n",
        "mixed.jsonl": b'{"problem": "p", "answer": 7}\n{"problem": "q", "answer": "07"}\n'
        b'{"problem": "r", "answer": [1e400]}\n{"problem": "s", "answer": 12345678901234567890123}\n',
        "ragged.csv": b"problem,answer\np,1\nq,1,000\n",
    }
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            path = urlparse(self.path).path.strip("/")
            asked.append(f"{self.command} {path}")
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length).decode()
            if "me/gated" in path:
                return self.send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated repo"})
            for (repo, sha), held in files.items():
                name = repo.removeprefix("models/")
                for revision in (sha, *(["main"] if sha == NEWEST else [])):
                    if path in (
                        f"api/{repo}/revision/{revision}",
                        *([f"api/{repo}"] if sha == NEWEST else []),
                    ):
                        siblings = [{"rfilename": f, "size": len(c)} for f, c in held.items()]
                        info = {"id": name, "sha": sha, "siblings": siblings, "tags": [], "private": False}
                        return self.send(200, json.dumps(info).encode())
                    if path.startswith(f"api/{repo}/tree/{revision}"):
                        under = path.removeprefix(f"api/{repo}/tree/{revision}").strip("/")
                        return self.send(200, json.dumps(self.entries(held, under)).encode())
                    if path == f"api/{repo}/paths-info/{revision}":
                        wanted = json.loads(body)["paths"] if body.startswith("{") else []
                        found = [e for e in self.entries(held, "") if e["path"] in wanted]
                        return self.send(200, json.dumps(found).encode())
                    prefix = f"{name}/resolve/{revision}/"
                    if path.startswith(prefix) and path.removeprefix(prefix) in held:
                        content = held[path.removeprefix(prefix)]
                        etag = hashlib.sha256(content).hexdigest()
                        return self.send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": sha})
            missing = {"X-Error-Code": "EntryNotFound" if "/resolve/" in path else "RepoNotFound"}
            return self.send(404, b"{}", missing)

        def entries(self, held, under):
            rows = [
                {"type": "file", "path": f, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                for f, c in held.items()
                if f.startswith(under)
            ]
            folders = sorted({f.rpartition("/")[0] for f in held if "/" in f})
            return rows + [
                {"type": "directory", "path": d, "size": 0, "oid": "0" * 40} for d in folders if d != under
            ]

        def send(self, status, content, headers=None):
            self.send_response(status)
            for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = answer

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "TINA_MIRROR")}
    environment |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "cache"),
        "XDG_CACHE_HOME": str(tmp_path / "ours"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "hf_secret_of_the_user",
    }

    def ask(code):
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
        )
        return done.stdout.strip(), done.stderr

    yield ask, asked
    server.shutdown()


LOAD = """
from tina_harness import Dataset, TinaError
from tina_harness.data import load_problems
spec = Dataset(name="mine", summary="s", source="x", repo="{repo}")
try:
    loaded = load_problems(spec, {{"revisions": {pins}}})
    print(len(loaded.problems), loaded.revision, loaded.origin)
except TinaError as error:
    print(error)
"""


def test_a_dataset_is_loaded_at_its_pinned_revision_and_otherwise_at_the_newest_by_name(hub):
    ask, _ = hub
    pins = {"me/mine": PINNED}
    out, err = ask(LOAD.format(repo="me/mine", pins=pins))
    assert out == f"3 {PINNED} hub", err
    out, err = ask(LOAD.format(repo="me/mine", pins={}))
    assert out == f"5 {NEWEST} hub", err


def test_a_file_on_the_hub_has_the_golds_that_it_has_in_a_mirror_and_on_a_second_day_offline(hub, tmp_path):
    ask, asked = hub
    load = """
import os
os.environ.update({environment})
from tina_harness import Dataset, TinaError
from tina_harness.data import load_problems
for config in ("typed", "mixed", "ragged"):
    spec = Dataset(name="mine", summary="s", source="x", repo="me/cards", config=config)
    try:
        loaded = load_problems(spec, {{}})
        print([p.gold for p in loaded.problems], loaded.revision)
    except TinaError as error:
        print(error.message.rpartition("/")[2])
"""
    copy = (
        "from pathlib import Path\n"
        "from tina_harness.data import hub, mirror\n"
        f"hub.download('me/cards', 'dataset', '', mirror.DATA_FILES, Path({str(tmp_path)!r}, 'copy'))"
    )
    online, err = ask(load.format(environment={}))
    big = "12345678901234567890123"
    assert online.splitlines() == [
        f"['007', '0.10', 'NA'] {NEWEST}",
        f"['7', '07', '1{400 * '0'}', '{big}'] {NEWEST}",
        "ragged.csv, line 3: 3 cells, where the header has 2",
    ], err
    _, err = ask(copy)
    assert ask(load.format(environment={"TINA_MIRROR": f"{tmp_path}/copy"}))[0] == online, err
    before = len(asked)
    assert ask(load.format(environment={"HF_HUB_OFFLINE": "1"}))[0] == online
    assert len(asked) == before


def test_a_model_is_loaded_at_its_pinned_revision_without_files_it_does_not_need(hub):
    ask, asked = hub
    code = (
        "from tina_harness.data.hub import model_folder\n"
        f"folder, origin = model_folder('me/nano', '{PINNED}')\n"
        "print(origin, sorted(p.name for p in folder.iterdir()))"
    )
    out, err = ask(code)
    assert out.startswith(f"hub me/nano@{PINNED}"), err
    assert "model.safetensors" in out
    assert any(f"resolve/{PINNED}/config.json" in line for line in asked)


def test_a_gated_or_missing_repository_is_said_without_the_token(hub):
    ask, _ = hub
    out, err = ask(LOAD.format(repo="me/gated", pins={}))
    assert "hf auth login" in out, err
    out, err = ask(LOAD.format(repo="me/absent", pins={}))
    assert "'me/absent' could not be loaded from the hub" in out, err
    assert "hf_secret" not in out + err


def test_a_mirror_made_from_the_hub_holds_the_pinned_revision_and_gives_the_same_fingerprint(hub, tmp_path):
    ask, asked = hub
    from_hub, err = ask(LOAD.format(repo="me/mine", pins={"me/mine": PINNED}).replace(
        "loaded.origin)", "loaded.fingerprint)"))  # fmt: skip
    copy = (
        "from pathlib import Path\n"
        "from tina_harness.data import hub, mirror\n"
        f"to = Path({str(tmp_path)!r}, 'copy')\n"
        f"done = hub.download('me/mine', 'dataset', '{PINNED}', mirror.DATA_FILES, to)\n"
        "print(done.files, done.fetched, done.revision)"
    )  # fmt: skip
    out, err = ask(copy)
    assert out == f"1 1 {PINNED}", err
    load = LOAD.format(repo="me/mine", pins={}).replace("loaded.origin)", "loaded.fingerprint)")
    mirrored, err = ask(f"import os; os.environ['TINA_MIRROR'] = {str(tmp_path / 'copy')!r}\n" + load)
    assert mirrored == from_hub, err
    assert PINNED in mirrored
    model = copy.replace("me/mine", "me/nano").replace("'dataset'", "'model'").replace(
        "mirror.DATA_FILES", "hub.MODEL_FILES")  # fmt: skip
    out, err = ask(model)
    assert out.endswith(PINNED), err
    assert (tmp_path / "copy" / "me" / "nano" / "tina-mirror.json").exists()
    before = sum("resolve" in line and line.startswith("GET") for line in asked)
    out, err = ask(model)
    assert " 0 " in out, err
    assert sum("resolve" in line and line.startswith("GET") for line in asked) == before


def test_a_gated_repository_cannot_be_mirrored_and_says_how_to_get_access(hub, tmp_path):
    ask, _ = hub
    code = (
        "from pathlib import Path\n"
        "from tina_harness import TinaError\n"
        "from tina_harness.data import hub, mirror\n"
        "try:\n"
        f"    hub.download('me/gated', 'dataset', '', mirror.DATA_FILES, Path({str(tmp_path)!r}))\n"
        "except TinaError as error:\n"
        "    print(error)"
    )
    out, err = ask(code)
    assert "hf auth login" in out, err
