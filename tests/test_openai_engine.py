"""The openai engine, against a server of our own that misbehaves in every way."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tina_harness import Sampling, TinaError
from tina_plugins.engines import openai

SAMPLING = Sampling(0.6, 0.95, 16)


@pytest.fixture
def server(monkeypatch):
    """server.script: status and body of the next answers; then right ones. server.asked: the bodies."""

    under_way = [0]
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send(200, json.dumps({"data": [{"id": "served-model"}]}).encode())

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                under_way[0] += 1
                httpd.most = max(httpd.most, under_way[0])
                httpd.asked.append(body)
                httpd.headers.append(self.headers.get("Authorization"))
                planned = httpd.script.pop(0) if httpd.script else None
            try:
                if planned == "drop":
                    self.connection.close()
                elif planned is not None:
                    self.send(*planned)
                else:
                    text = f"{body['prompt']}!{body['seed']}"
                    choice = {"text": text, "finish_reason": "length" if "long" in text else "stop"}
                    self.send(
                        200, json.dumps({"choices": [choice], "usage": {"completion_tokens": 3}}).encode()
                    )
            finally:
                with lock:
                    under_way[0] -= 1

        def send(self, status, content):
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.script, httpd.asked, httpd.headers, httpd.most = [], [], [], 0
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{httpd.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setattr(openai, "LONGEST_WAIT_S", 0.02)
    yield httpd
    httpd.shutdown()


def sampled(prompts, sampling=SAMPLING):
    session = openai.Session(None, "auto", 64, 0)
    return dict(session.generate(prompts, range(len(prompts)), sampling, None))


def test_completions_come_back_for_their_prompts_with_the_settings_sent(server):
    found = sampled(["a", "b", "long"])
    assert {i: c.text for i, c in found.items()} == {0: "a!0", 1: "b!1", 2: "long!2"}
    assert [found[i].stop_reason for i in range(3)] == ["stop", "stop", "length"]
    assert found[0].tokens == 3
    sent = server.asked[0]
    assert {sent[k] for k in ("temperature", "top_p", "max_tokens")} == {0.6, 0.95, 16}
    assert sent["model"] == "served-model"
    assert set(server.headers) == {"Bearer sk-secret"}


def test_at_most_so_many_requests_are_under_way(server, monkeypatch):
    monkeypatch.setenv("TINA_OPENAI_CONCURRENCY", "3")
    assert len(sampled([str(i) for i in range(40)])) == 40
    assert 1 <= server.most <= 3


@pytest.mark.parametrize(
    "bad", [(429, b"slow down"), (500, b"oops"), (200, b"garbage"), (200, b"{}"), "drop"]
)
def test_what_may_be_better_the_next_time_is_tried_again(server, bad):
    server.script = [bad, bad]
    assert len(sampled(["a", "b"])) == 2
    assert len(server.asked) == 4


def test_a_server_that_stays_broken_is_a_clear_error_and_gives_what_was_finished(server):
    server.script = [None] + [(500, b"oops")] * 100
    session = openai.Session(None, "auto", 64, 0)
    session.concurrency = 1
    found = []
    with pytest.raises(TinaError, match=r"failed 6 times: status 500: oops"):
        found.extend(session.generate(["a", "b", "c"], range(3), SAMPLING, None))
    assert len(found) == 1


def test_a_refusal_is_said_at_once_and_without_the_key(server):
    server.script = [(401, b"bad key")]
    with pytest.raises(TinaError, match="status 401: bad key") as caught:
        sampled(["a"])
    assert "sk-secret" not in str(caught.value)
    assert len(server.asked) == 1


def test_nothing_at_the_address_no_address_and_an_adapter_are_clear_errors(server, monkeypatch, tmp_path):
    session = openai.Session(None, "auto", 64, 0)
    with pytest.raises(TinaError, match="--lora-modules"):
        list(session.generate(["a"], [0], SAMPLING, tmp_path))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(TinaError, match="does not list its models"):
        openai.Session(None, "auto", 64, 0)
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(TinaError, match="needs OPENAI_BASE_URL"):
        openai.Session(None, "auto", 64, 0)


def test_a_benchmark_is_evaluated_through_a_server_and_the_key_is_nowhere(server, tina, tmp_path):
    words = ("eval", "tina-nano", "--bench", "arithmetic-heldout", "--limit", "5", "--samples", "2")
    done = tina(*words, "--engine", "openai", "--json")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)
    assert result["counts"] == {"no_answer": 10}
    assert len(server.asked) == 10
    assert tina(*words, "--engine", "openai", "--json").returncode == 0
    assert len(server.asked) == 10
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"sk-secret" in p.read_bytes()]


def test_a_server_cannot_be_trained_through(tina, server):
    done = tina("run", "--engine", "openai")
    assert done.returncode != 0
    assert "evaluates only" in done.stderr
