"""A vLLM server that takes weights on a CPU: `vllm_server.py --model FOLDER OPTIONS...`."""

import runpy

import vllm_on_cpu  # noqa: F401

if __name__ == "__main__":  # vLLM starts processes that import this again
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
