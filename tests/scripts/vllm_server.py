"""`vllm serve` that takes weights on a CPU: `vllm_server.py MODEL OPTIONS...`."""

import sys

import vllm_on_cpu  # noqa: F401
from vllm.entrypoints.cli.main import main

if __name__ == "__main__":  # vLLM starts processes that import this again
    sys.argv[1:1] = ["serve"]
    main()
