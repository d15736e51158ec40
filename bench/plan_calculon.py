"""calculon (github.com/calculon-ai/calculon, Apache-2.0) on measured rows, as it comes: the peer of bench/plan.py.

It needs a checkout, and pandas and psutil installed. Its own description of an A100 is used unchanged, but for the size
of the memory, so that a row which ran is never refused. It has no ZeRO-3, no gated MLP, no experts and no other GPU.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

from fyc.plan.rows import Case

SYSTEM = "a100_80g.json"


class Calculon:
    """calculon from a checkout.

    Args:
        checkout: folder of the repository.
    """

    def __init__(self, checkout: Path) -> None:
        sys.path.insert(0, str(checkout))
        self._llm: Any = importlib.import_module("calculon.llm").Llm
        system = json.loads((checkout / "systems" / SYSTEM).read_text(encoding="utf-8"))
        system["mem1"]["GiB"] = 1e6
        self._system: Any = importlib.import_module("calculon.system").System(system)

    def seconds(self, case: Case) -> float | None:
        """Time of a step, or None where calculon cannot express the row."""
        job, layout = case.job, case.layout
        model = job.model
        if "a100" not in case.row.gpu_type or layout.zero > 2 or model.gated or model.experts or layout.cp > 1:
            return None
        application = self._llm.Application(
            {
                "hidden": model.hidden, "feedforward": model.ffn, "seq_size": job.sequence,
                "attn_heads": model.heads, "attn_size": model.head_dim, "num_blocks": model.layers,
            }
        )  # fmt: skip
        try:
            execution = self._llm.Execution.from_json(self._execution(case))
            run = self._llm(application, logging.getLogger("calculon"))
            run.compile(self._system, execution)
            run.run(self._system)
        except (self._llm.Error, AssertionError):
            return None
        return float(run.get_total_time())

    @staticmethod
    def _execution(case: Case) -> dict[str, object]:
        job, layout = case.job, case.layout
        domain = job.cluster.nvlink_domain
        sharded = layout.zero > 0 and layout.dp > 1
        parallel = layout.sequence_parallel and layout.tp > 1
        return {
            "num_procs": layout.world_size, "tensor_par": layout.tp, "pipeline_par": layout.pp,
            "data_par": layout.dp, "tensor_par_net": int(layout.tp > domain),
            "pipeline_par_net": int(layout.tp * layout.pp > domain),
            "data_par_net": int(layout.world_size > domain), "batch_size": job.global_batch,
            "microbatch_size": layout.micro_batch, "datatype": "float16", "fused_activation": False,
            "attention_type": "multihead", "pipeline_interleaving": layout.vpp, "optimizer_sharding": sharded,
            "activation_recompute": {"selective": "attn_only"}.get(layout.recompute, layout.recompute),
            "tensor_par_comm_type": "rs_ag" if parallel else "ar", "tensor_par_overlap": "none",
            "seq_par_ag_redo": parallel and layout.recompute != "full", "data_par_overlap": False,
            "weight_offload": False, "activations_offload": False, "optimizer_offload": False, "training": True,
        }  # fmt: skip
