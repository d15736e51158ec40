"""Peak memory of the fullest GPU: states, activations, logits, gathered parameters, and what the libraries take."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from fyc.plan.cost.layer import FULL, SELECTIVE, tokens_per_rank
from fyc.plan.cost.rates import Correction
from fyc.plan.cost.step import layer_parameters, padded_vocab, stage_parameters
from fyc.plan.job import Job
from fyc.plan.layout import Floats, Ints, Layouts

GIB = 2.0**30
# Share of the allocated activations and temporaries that the caching allocator holds on top.
FRAGMENTATION = 0.05
# NCCL buffers of one communicator, GiB; a job has one for each parallel dimension that it uses.
COMMUNICATOR_GIB = 0.35
LIVE_GATHERED = 3  # layers whose parameters are whole at once: in use, prefetched, being freed


@dataclass(frozen=True)
class MemoryUse:
    """GiB on the fullest GPU by cause; arrays over layouts. They add up to `device`.

    `reserved` is what torch's allocator reports as reserved at its peak, `device` what nvidia-smi shows.
    """

    weights: Floats
    gradients: Floats
    optimizer: Floats
    workspace: Floats
    activations: Floats
    logits: Floats
    gathered: Floats
    fragmentation: Floats
    communication: Floats
    context: Floats

    @property
    def device(self) -> Floats:
        """Everything."""
        return np.asarray(sum(getattr(self, field.name) for field in fields(self)))

    @property
    def reserved(self) -> Floats:
        """What the allocator of torch holds."""
        return self.device - self.context - self.communication

    @property
    def states(self) -> Floats:
        """Weights, gradients and optimizer states."""
        return self.weights + self.gradients + self.optimizer


def memory_use(job: Job, layouts: Layouts, correction: Correction | None = None) -> MemoryUse:
    """Memory of the fullest GPU for every layout: of the first stage or of the last, whichever needs more."""
    by = correction or Correction()
    states = _states(job, layouts, stage_parameters(job, layouts))
    gathered = np.where(layouts.zero == 3, _gathered(job, layouts), 0.0)
    return _use(job, layouts, by, states, _fullest_stage(job, layouts, by.memory), gathered)


def stage_use(job: Job, layouts: Layouts, stages: Ints, correction: Correction | None = None) -> MemoryUse:
    """Memory of one pipeline stage of every layout.

    Layers are spread evenly, the first stages take those that are left over. None needs more than `memory_use` says,
    which counts the most layers for the last stage too.

    Args:
        job: what is trained.
        layouts: n layouts.
        stages: which stage of each, from 0 to pp - 1.
        correction: a calibration.
    """
    by = correction or Correction()
    first, last = stages == 0, stages == layouts.pp - 1
    model = job.model
    words = padded_vocab(job, layouts) * model.hidden
    embedding = np.where(first, words + model.positions * model.hidden, 0.0)
    head = np.where(last, np.where(first & model.tied, 0.0, words), 0.0)
    dense, experts = layer_parameters(job, layouts, stage_layers(model.layers, layouts, stages) / model.layers)
    states = _states(job, layouts, (dense + (embedding + head) / layouts.tp, experts))
    gathered = _gathered(job, layouts) - np.where(first | last, 0.0, _gathered_ends(job, layouts))
    gathered = np.where(layouts.zero == 3, gathered, 0.0)
    layers = stage_layers(model.layers + model.prediction_layers, layouts, stages)
    return _use(job, layouts, by, states, _stage(job, layouts, by.memory, stages, layers), gathered)


def stage_layers(layers: int, layouts: Layouts, stages: Ints) -> Ints:
    """Layers of a stage: evenly spread, those that are left over in the first stages."""
    return np.asarray(layers // layouts.pp + (stages < layers % layouts.pp), dtype=np.int64)


def _use(
    job: Job,
    layouts: Layouts,
    by: Correction,
    states: tuple[Floats, Floats, Floats],
    kept: tuple[Floats, Floats],
    gathered: Floats,
) -> MemoryUse:
    """Bytes of states, of activations and logits, and of gathered parameters, with what the libraries take."""
    weights, gradients, optimizer = states
    activations, logits = kept
    dims = [(layouts.dp * layouts.cp > 1), (layouts.tp > 1), (layouts.pp > 1), (layouts.cp > 1), (layouts.ep > 1)]
    used = sum(np.where(dim, 1.0, 0.0) for dim in dims)
    return MemoryUse(
        weights=weights / GIB,
        gradients=gradients / GIB,
        optimizer=optimizer / GIB,
        workspace=np.full(len(layouts), job.stack.workspace_gib + by.memory_gib),
        activations=activations / GIB,
        logits=logits / GIB,
        gathered=gathered / GIB,
        fragmentation=FRAGMENTATION * (activations + logits + gathered) / GIB,
        communication=COMMUNICATOR_GIB * np.asarray(used),
        context=np.full(len(layouts), job.cluster.gpu.context_gib.value),
    )


def _states(job: Job, layouts: Layouts, parameters: tuple[Floats, Floats]) -> tuple[Floats, Floats, Floats]:
    """Bytes of weights, gradients and optimizer states after sharding, of so many dense and routed parameters."""
    dense, experts = parameters
    ranks = layouts.shard_size
    expert_ranks = np.maximum(layouts.dp * layouts.cp * layouts.tp // layouts.ep, 1)
    expert_ranks = np.minimum(expert_ranks, np.maximum(ranks * layouts.tp // layouts.ep, 1))

    def spread(bytes_: float, from_level: int) -> Floats:
        cut = layouts.zero >= from_level
        return bytes_ * (dense / np.where(cut, ranks, 1) + experts / np.where(cut, expert_ranks, 1))

    gradient = job.stack.gradient_bytes + job.stack.gradient_bytes_bf16 * (job.precision != "fp16")
    return spread(job.stack.weight_bytes, 3), spread(gradient, 2), spread(job.stack.optimizer_bytes, 1)


def _fullest_stage(job: Job, layouts: Layouts, factor: float) -> tuple[Floats, Floats]:
    """Bytes of activations and logits of the stage that needs more: the first (most in flight) or the last (logits)."""
    per_stage = np.ceil((job.model.layers + job.model.prediction_layers) / layouts.pp)
    first, _ = _stage(job, layouts, factor, np.zeros_like(layouts.pp), per_stage)
    last, logits = _stage(job, layouts, factor, layouts.pp - 1, per_stage)
    fuller = (layouts.pp > 1) & (first >= last + logits)
    return np.where(fuller, first, last), np.where(fuller, 0.0, logits)


def _stage(job: Job, layouts: Layouts, factor: float, stages: Ints, layers: Floats | Ints) -> tuple[Floats, Floats]:
    """Bytes of activations and logits of stages with so many layers."""
    last = stages == layouts.pp - 1
    kept, live = _layer_activations(job, layouts)
    kept, live = kept * factor, live * factor
    ends = 2 * tokens_per_rank(job, layouts) * job.model.hidden / _sequence_cut(layouts)
    ends = ends * np.where(last, 1, job.stack.boundary_copies)
    logits = job.stack.logit_bytes * tokens_per_rank(job, layouts) * padded_vocab(job, layouts) / layouts.tp
    return _in_flight(job, layouts, stages) * (layers * kept + ends) + live, np.where(last, logits, 0.0)


def _in_flight(job: Job, layouts: Layouts, stages: Ints) -> Floats:
    """Micro-batches that a stage holds at once: under 1F1B one for itself and each stage behind it; interleaved as many
    of its chunks as warm up (arXiv 2104.04473, section 2.2), here in micro-batches."""
    count = np.maximum(job.global_batch / (layouts.micro_batch * layouts.dp), 1)
    plain = np.minimum(count, layouts.pp - stages)
    warm = 2 * (layouts.pp - 1 - stages) + (layouts.vpp - 1) * layouts.pp + 1
    interleaved = np.minimum(count, layouts.pp) * warm / (layouts.pp * layouts.vpp)
    return np.asarray(np.where(layouts.vpp > 1, interleaved, plain))


def _sequence_cut(layouts: Layouts) -> Floats:
    return np.where(layouts.sequence_parallel, layouts.tp, 1).astype(np.float64)


def _layer_activations(job: Job, layouts: Layouts) -> tuple[Floats, Floats]:
    """Bytes that one layer keeps for backward, and that one layer being recomputed has alive (Korthikanti et al.,
    arXiv 2205.05198, section 4, written out for gated MLPs, grouped queries and flash attention)."""
    model, tokens = job.model, tokens_per_rank(job, layouts)
    whole = tokens * model.hidden / _sequence_cut(layouts)
    wide = (8.0 + (2.0 if job.stack.dropout else 0.0)) * whole
    if job.stack.gathered_inputs:
        wide = wide + 4.0 * (tokens * model.hidden - whole)
    heads = (
        model.heads * (model.query_dim + model.value_dim) + model.kv_heads * (model.query_dim + model.value_dim)
    ) / layouts.tp
    core = 2.0 * tokens * heads
    scores = np.zeros(len(layouts))
    if job.stack.attention == "unfused":
        scores = (5.0 if job.stack.dropout else 4.0) * tokens * job.sequence / layouts.cp * model.heads / layouts.tp
    dense = model.dense_layers / model.layers
    inner = (3.0 if model.gated else 2.0) * model.ffn * dense / layouts.tp
    if model.experts:
        own = 3.0 * (model.experts.top_k * model.experts.ffn + model.experts.shared_ffn)
        inner = inner + (own + 2 * model.experts.top_k * model.hidden) * (1 - dense) / layouts.tp
    everything = (wide + core + 2.0 * tokens * inner) * job.stack.activation_slack
    kept = everything + scores
    part = everything * job.stack.selective_memory
    kept = np.where(layouts.recompute == SELECTIVE, part, np.where(layouts.recompute == FULL, 2.0 * whole, kept))
    again = layouts.recompute == FULL
    half = (layouts.recompute == SELECTIVE) * (1 - job.stack.selective_memory)
    return kept, np.where(again, everything + scores, half * everything + scores * (layouts.recompute == SELECTIVE))


def _gathered(job: Job, layouts: Layouts) -> Floats:
    """Whole parameters and gradients of the layers at work, and of embedding and head."""
    layer = job.model.layer_parameters / job.model.layers / layouts.tp
    passing = LIVE_GATHERED * 2.0 * layer + (2.0 + job.stack.reduce_bytes) * layer
    dense, experts = stage_parameters(job, layouts)
    whole = (2.0 + job.stack.reduce_bytes) * (dense + experts)
    kept = (layouts.pp > 1) & job.stack.keeps_gathered
    return np.where(kept, whole, passing + _gathered_ends(job, layouts))


def _gathered_ends(job: Job, layouts: Layouts) -> Floats:
    """Bytes of embedding and head, whole for a moment."""
    ends = padded_vocab(job, layouts) * job.model.hidden / layouts.tp * (1 if job.model.tied else 2)
    return np.asarray(np.where((layouts.pp > 1) & job.stack.keeps_gathered, 0.0, 2.0 * ends))
