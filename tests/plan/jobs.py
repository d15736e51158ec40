"""Jobs that the tests of plans share; dimensions of published models."""

from fyc.plan.cluster import Cluster
from fyc.plan.job import Job
from fyc.plan.model import Experts, ModelShape
from fyc.plan.stack import stack

LLAMA_8B = ModelShape(
    name="Llama-3.1-8B", hidden=4096, layers=32, heads=32, kv_heads=8, head_dim=128, ffn=14336, vocab=128256,
    gated=True, tied=False, rms_norm=True, bias=False,
)  # fmt: skip
LLAMA_70B = LLAMA_8B.model_copy(
    update={"name": "Llama-3.1-70B", "hidden": 8192, "layers": 80, "heads": 64, "ffn": 28672}
)

GPT_22B = ModelShape(
    name="GPT-22B", hidden=6144, layers=48, heads=64, kv_heads=64, head_dim=96, ffn=24576, vocab=51200,
    gated=False, tied=True, rms_norm=False, bias=True, positions=2048,
)  # fmt: skip
MIXTRAL = LLAMA_8B.model_copy(
    update={"name": "Mixtral-8x7B", "vocab": 32000, "experts": Experts(count=8, top_k=2, ffn=14336)}
)


def make_job(
    model: ModelShape = LLAMA_70B, *, gpu: str = "h100-sxm", nodes: int = 64, backend: str = "megatron-core",
    sequence: int = 8192, batch: int = 512, precision: str = "bf16",
) -> Job:  # fmt: skip
    cluster = Cluster.model_validate({"gpu": gpu, "nodes": nodes, "network_gbs": 50})
    return Job.model_validate(
        {"model": model, "cluster": cluster, "stack": stack(backend), "sequence": sequence, "global_batch": batch,
         "precision": precision}
    )  # fmt: skip
