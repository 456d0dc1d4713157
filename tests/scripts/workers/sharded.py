"""FSDP and ZeRO on CPUs, over gloo.

Both work there; accelerate takes them for GPUs alone, and plain data parallelism where it is told of CPUs.
"""

from accelerate import state
from accelerate.utils import DistributedType

begin = state.AcceleratorState.__init__


def sharding(self, kind):
    self.distributed_type = kind
    for states in (self._shared_state, state.PartialState._shared_state):
        states["distributed_type"] = kind


def init(self, *words, deepspeed_plugin=None, fsdp_plugin=None, **options):
    begin(self, *words, deepspeed_plugin=deepspeed_plugin, fsdp_plugin=fsdp_plugin, **options)
    if self.distributed_type != DistributedType.MULTI_CPU:
        return
    if fsdp_plugin is not None:
        sharding(self, DistributedType.FSDP)
        self.fsdp_plugin = fsdp_plugin
    if deepspeed_plugin is not None:
        from deepspeed import comm

        comm.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
        sharding(self, DistributedType.DEEPSPEED)
        plugins = deepspeed_plugin
        for plugin in plugins.values() if isinstance(plugins, dict) else [plugins]:
            plugin.set_mixed_precision("no")
            plugin.select(_from_accelerator_state=True)
        self.deepspeed_plugins = plugins


state.AcceleratorState.__init__ = init
