"""Time of one optimizer step: layers, head, pipeline, data parallel traffic, optimizer."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from fyc.plan.cost import collectives, kernels
from fyc.plan.cost.layer import LayerTime, layer_time, tokens_per_rank
from fyc.plan.cost.rates import Rates
from fyc.plan.job import Job
from fyc.plan.layout import Floats, Ints, Layouts

# FSDP gathers run on the same multiprocessors and memory: what they hide behind gets slower by this share.
INTERFERENCE = 0.03
# Host time of embedding, head and loss, forward and backward, in host times of a layer's forward.
HEAD_LAUNCHES = 2.5


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimizer step by cause; they add up to `total`. Arrays over layouts."""

    product: Floats
    attention: Floats
    streaming: Floats
    head: Floats
    tensor: Floats
    context: Floats
    expert: Floats
    host: Floats
    boundary: Floats
    bubble: Floats
    data: Floats
    shard: Floats
    optimizer: Floats

    @property
    def total(self) -> Floats:
        """The whole step."""
        return sum((getattr(self, field.name) for field in fields(self)), np.zeros(len(self.product)))

    def share(self, *names: str) -> Floats:
        """Part of the step that these causes take."""
        return sum((getattr(self, name) for name in names), np.zeros(len(self.product))) / self.total


def step_time(job: Job, layouts: Layouts, rates: Rates) -> StepTime:
    """Time of one step for every layout."""
    layer = layer_time(job, layouts, rates)
    per_stage, head_share = _slowest_stage(job, layouts)
    count = job.global_batch / (layouts.micro_batch * layouts.dp)
    head = _head(job, layouts, rates)
    head = np.where(head_share < 1, np.maximum(head - layer.total, 0.0), head)
    send = _boundary(job, layouts, rates)
    stage = per_stage * layer.total
    alone = layouts.pp == 1
    bubble = (layouts.pp - 1) / layouts.vpp * (stage + send)
    data, shard = _data_traffic(job, layouts, rates, layer, per_stage, count)
    times = count * per_stage
    return StepTime(
        product=times * layer.product,
        attention=times * layer.attention,
        streaming=times * layer.streaming,
        head=count * head,
        tensor=times * layer.tensor,
        context=times * layer.context,
        expert=times * layer.expert,
        host=times * layer.host,
        boundary=np.where(alone, 0.0, count * send),
        bubble=np.where(alone, 0.0, bubble),
        data=data,
        shard=shard,
        optimizer=_optimizer(job, layouts, rates),
    )


def _slowest_stage(job: Job, layouts: Layouts) -> tuple[Floats, Floats]:
    """Layers of the fullest stage, and 0 where the last stage has a layer less, which pays for its head."""
    layers = job.model.layers + job.model.prediction_layers
    return np.ceil(layers / layouts.pp), np.where(layers % layouts.pp == 0, 1.0, 0.0)


def stage_parameters(job: Job, layouts: Layouts) -> tuple[Floats, Floats]:
    """Parameters on one GPU of the fullest stage before data parallel sharding: dense ones, and routed experts."""
    model = job.model
    ends = padded_vocab(job, layouts) * model.hidden + model.positions * model.hidden
    ends = ends * np.where(layouts.pp == 1, 1 if model.tied else 2, 1)
    dense, experts = layer_parameters(job, layouts, np.ceil(model.layers / layouts.pp) / model.layers)
    return dense + ends / layouts.tp, experts


def layer_parameters(job: Job, layouts: Layouts, share: Floats) -> tuple[Floats, Floats]:
    """Parameters on one GPU of a share of the layers: dense ones, and routed experts."""
    model = job.model
    layers = model.layer_parameters - model.moe_layers * model.expert_parameters
    cut = layouts.ep * (layouts.tp if job.stack.expert_tensor_parallel else 1)
    return layers * share / layouts.tp, model.moe_layers * model.expert_parameters * share / cut


def padded_vocab(job: Job, layouts: Layouts) -> Floats:
    """Vocabulary after padding."""
    multiple = job.stack.pad_vocab * layouts.tp
    return np.ceil(job.model.vocab / multiple) * multiple


def _head(job: Job, layouts: Layouts, rates: Rates) -> Floats:
    """Output projection and loss of one micro-batch, both ways, and the embedding where one rank has both."""
    tokens, hidden = tokens_per_rank(job, layouts), float(job.model.hidden)
    words = padded_vocab(job, layouts) / layouts.tp
    forward = kernels.product(tokens, words, hidden, rates)
    backward = kernels.product(tokens, hidden, words, rates) + kernels.product(words, hidden, tokens, rates)
    loss = kernels.streaming(job.stack.logit_traffic * tokens * words, rates, kernels=6)
    embedding = kernels.streaming(12 * tokens * hidden, rates, kernels=4)
    time = forward + backward + loss + np.where(layouts.pp == 1, embedding, 0.0)
    return np.maximum(time, HEAD_LAUNCHES * rates.host)


def _boundary(job: Job, layouts: Layouts, rates: Rates) -> Floats:
    """Sending activations and their gradients to the next stage, for one micro-batch."""
    cut = layouts.tp if job.stack.scatter_pipeline else np.ones_like(layouts.tp)
    size = 2 * tokens_per_rank(job, layouts) * job.model.hidden / cut
    near = layouts.world_size <= rates.domain
    return 2 * collectives.send(size, near, rates) * layouts.vpp


def _inside(layouts: Layouts, ranks: Ints, rates: Rates) -> Ints:
    """How many ranks of a data parallel group share an NVLink domain: tensor ranks are placed first."""
    return np.minimum(np.maximum(rates.domain // layouts.tp, 1), ranks)


def _data_traffic(
    job: Job, layouts: Layouts, rates: Rates, layer: LayerTime, per_stage: Floats, count: Floats
) -> tuple[Floats, Floats]:
    """Exposed gradient reduction and parameter gathers: once a step (zero 0-2), and for each micro-batch (zero 3)."""
    ranks = layouts.dp * layouts.cp
    dense, experts = stage_parameters(job, layouts)
    sharded = layouts.zero == 3
    expert_ranks = np.maximum(ranks * layouts.tp // layouts.ep, 1)
    once = _reduction(job, layouts, rates, dense, ranks) + _reduction(job, layouts, rates, experts, expert_ranks)
    backward = per_stage * (layer.total - layer.forward)
    data = np.where(sharded, 0.0, np.maximum(once * 0.05, once - job.stack.overlap_data * backward))
    tied = np.where(layouts.pp > 1, 1.0, 0.0) * (1.0 if job.model.tied else 0.0)
    words = 2 * padded_vocab(job, layouts) * job.model.hidden / layouts.tp
    data = data + tied * collectives.all_reduce(words, np.full(len(layouts), 2), np.ones(len(layouts)), rates)
    times = np.where((layouts.pp > 1) & job.stack.keeps_gathered, 1.0, count)
    shard = _gathers(job, layouts, rates, layer, (dense + experts) / per_stage) * per_stage * times
    return data, np.where(sharded, shard, 0.0)


def _reduction(job: Job, layouts: Layouts, rates: Rates, parameters: Floats, ranks: Ints) -> Floats:
    inside = _inside(layouts, ranks, rates)
    gradients = collectives.all_gather(parameters * job.stack.reduce_bytes, ranks, inside, rates)
    weights = collectives.all_gather(parameters * 2.0, ranks, inside, rates)
    whole = (layouts.zero == 0) | job.stack.reduce_whole
    return np.where(whole, 2 * gradients, gradients) + np.where(layouts.zero >= 1, weights, 0.0)


def _gathers(job: Job, layouts: Layouts, rates: Rates, layer: LayerTime, parameters: Floats) -> Floats:
    """Exposed traffic of one layer and one micro-batch when parameters are sharded."""
    ranks = layouts.shard_size
    inside = _inside(layouts, ranks, rates)
    gather = collectives.all_gather(2.0 * parameters, ranks, inside, rates)
    scatter = collectives.all_gather(job.stack.reduce_bytes * parameters, ranks, inside, rates)
    forward, backward = layer.forward, layer.total - layer.forward
    hide = job.stack.overlap_shard
    exposed = np.maximum(0.0, gather - hide * forward) + np.maximum(0.0, gather + scatter - hide * backward)
    slowed = INTERFERENCE * (np.minimum(gather, forward) + np.minimum(gather + scatter, backward))
    return exposed + slowed


def _optimizer(job: Job, layouts: Layouts, rates: Rates) -> Floats:
    """Read and write master weights, two moments, gradients and weights once."""
    dense, experts = stage_parameters(job, layouts)
    shard = np.where(layouts.zero >= 1, layouts.shard_size, 1)
    expert_shard = np.where(layouts.zero >= 1, np.maximum(layouts.dp * layouts.cp * layouts.tp // layouts.ep, 1), 1)
    bytes_ = 2 * job.stack.optimizer_bytes + job.stack.gradient_bytes
    return kernels.streaming((dense / shard + experts / expert_shard) * bytes_, rates)
