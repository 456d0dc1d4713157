"""What a CPU lacks for training on vLLM's rollouts, replaced; imported by the programs beside this one.

On a CPU vLLM packs the weights of linear layers, after which it cannot take new ones; here they stay as they
are. NCCL, over which a server takes them, has no CPU side; here they go over gloo.
"""

from datetime import timedelta
from types import SimpleNamespace

import torch
from torch import distributed
from trl.generation import vllm_client
from vllm.distributed.weight_transfer import nccl_engine
from vllm.model_executor.layers import linear, utils, vocab_parallel_embedding


def plain(layer, remove_weight):
    layer.cpu_linear = torch.nn.functional.linear


for module in (linear, utils, vocab_parallel_embedding):
    if hasattr(module, "dispatch_cpu_unquantized_gemm"):
        module.dispatch_cpu_unquantized_gemm = plain


class Gloo:
    """The trainer (rank 0) and the workers of a server."""

    def __init__(self, address, port, rank, size):
        wait = timedelta(seconds=120)
        store = distributed.TCPStore(address, port, size, is_master=rank == 0, timeout=wait)
        self.backend = distributed.ProcessGroupGloo(store, rank, size, wait)
        self.group = SimpleNamespace()

    def broadcast(self, tensor):
        self.backend.broadcast([tensor.view(torch.uint8)], distributed.BroadcastOptions()).wait()


def send(iterator, group, src, post_iter_func):
    for item in iterator:
        group.broadcast(post_iter_func(item).contiguous())


def receive(iterator, group, src, post_unpack_func, **_):
    for name, (shape, dtype) in iterator:
        tensor = torch.empty(shape, dtype=dtype)
        group.broadcast(tensor)
        post_unpack_func([(name, tensor)])


connect = vllm_client.VLLMClient.init_communicator
vllm_client.VLLMClient.init_communicator = lambda self, device=0: connect(self, "cuda")
vllm_client.open_trainer_endpoint = lambda to: Gloo(
    to["master_address"], to["master_port"], 0, to["world_size"]
)
vllm_client.packed_nccl_broadcast_producer = send
nccl_engine.worker_init_process_group = lambda to, workers: Gloo(
    to.master_address, to.master_port, to.rank_offset + workers.rank, to.world_size
)
nccl_engine.packed_nccl_broadcast_consumer = receive
