"""tina publish: the folder, and the upload against a stand-in of the hub's interface."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import score, tina_command

pytestmark = pytest.mark.slow


@pytest.fixture
def hub():
    """A hub that takes repositories and commits; `.files` is what was committed, `.asked` each request."""
    files, asked, tokens = {}, [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            tokens.append(self.headers.get("Authorization"))
            asked.append(self.path)
            if tokens[-1] != "Bearer hf_good":
                return self.send(401, {"error": "Invalid credentials"})
            if self.path == "/api/repos/create":
                return self.send(200, {"url": f"{server.address}/me/{json.loads(body)['name']}"})
            if self.path == "/api/validate-yaml":
                return self.send(200, {"errors": [], "warnings": []})
            if "/preupload/" in self.path:
                paths = [f["path"] for f in json.loads(body)["files"]]
                told = [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]
                return self.send(200, {"files": told})
            if "/commit/" in self.path:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                return self.send(
                    200, {"commitUrl": f"{server.address}/me/tina-x/commit/1", "commitOid": "1" * 40}
                )
            return self.send(404, {"error": self.path})

        def do_GET(self):
            asked.append(self.path)
            if "/tree/" in self.path:
                return self.send(200, [])
            info = {"id": "me/tina-x", "sha": "0" * 40, "siblings": [], "private": False, "tags": []}
            return self.send(200, info)

        def send(self, status, value):
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.files, server.asked, server.address = files, asked, f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()


def test_a_run_is_published_with_its_card_results_and_cost(tina, hub, tmp_path):
    small = ("--max-steps", "3", "--limit", "4", "--samples", "2", "--set", "train.save_every=2")
    assert tina("run", *small).returncode == 0
    done = tina("publish", "latest@2", "--repo", "me/tina-x", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "nothing was uploaded" in done.stdout
    (folder,) = Path("runs").glob("*/publish")
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert {"README.md", "adapter_model.safetensors", "adapter_config.json", "run/metrics.jsonl"} <= names
    assert {"run/manifest.json", "run/results.json", "run/curves.png"} <= names
    assert not any("optimizer" in n or "rng" in n for n in names)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "tina-nano"
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".md", ".jsonl", ".jinja"):
            assert str(tmp_path) not in path.read_text(), path
            assert str(Path(__file__).parent.parent) not in path.read_text(), path

    done = tina("publish", "latest", "--repo", "me/tina-x", env=_surroundings(hub, "hf_good"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{hub.address}/me/tina-x/commit/1"
    assert hub.files.keys() == names
    from huggingface_hub import ModelCard

    card = ModelCard(hub.files["README.md"].decode())
    (result,) = card.data.eval_results
    (measured,) = [r for r in json.loads(hub.files["run/results.json"]) if r["checkpoint"] == "step 3"]
    assert result.dataset_name == "arithmetic-heldout"
    assert result.metric_value == round(100 * score(measured), 2)
    assert card.data.library_name == "peft"
    for words in ("## Recipe", "## Data", "## Cost", "LoRA r=32", "format 1.0, accuracy 2.0", "3 of 3"):
        assert words in card.text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("latest", "--repo", "tina-x"), "a repository is OWNER/NAME"),
        (("latest@7", "--repo", "me/x"), "has no checkpoint '7'"),
        (("latest", "--repo", "me/x"), "'me/x' could not be uploaded"),
    ],
)
def test_what_cannot_be_published_is_one_sentence(tina, hub, words, said, trained):
    done = tina("publish", *words, "--runs-dir", trained, env=_surroundings(hub, "hf_bad"))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not hub.files


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Where a run of one step is."""
    place = tmp_path_factory.mktemp("trained")
    words = ("--max-steps", "1", "--limit", "2", "--samples", "1")
    assert tina_command("run", *words, "--runs-dir", place).returncode == 0
    return place


def _surroundings(hub, token):
    return {"HF_ENDPOINT": hub.address, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
