"""Time of one transformer layer for one micro-batch on one GPU, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fyc.plan.cost import collectives, kernels
from fyc.plan.cost.rates import Rates
from fyc.plan.job import Job
from fyc.plan.layout import RECOMPUTE, Floats, Ints, Layouts
from fyc.plan.model import Projection

# Bytes that a token's feature costs in the memory-bound kernels of a layer, 16-bit tensors read and written once.
NORM = (4.0, 8.0)  # forward, backward: read and write; backward reads input and gradient, writes, reduces weights
RESIDUAL = (7.0, 6.0)  # bias, dropout and residual add in one kernel
GATED, PLAIN = (6.0, 10.0), (4.0, 6.0)  # SwiGLU reads two and writes one; GeLU reads one and writes one
ROTARY = (4.0, 4.0)
# Context parallel attention hides its ring in this share of its compute; each doubling makes it this much longer.
RING_HIDES, RING_PIECES = 0.5, 0.13
FULL = RECOMPUTE.index("full")
SELECTIVE = RECOMPUTE.index("selective")


@dataclass(frozen=True)
class LayerTime:
    """Seconds of an average layer for one micro-batch, by cause; each an array over layouts.

    `product`, `attention` and `streaming` are compute, forward, backward and recomputed together; `tensor`,
    `context` and `expert` are exposed traffic; `host` is what launching adds where the GPU waits for it.
    """

    product: Floats
    attention: Floats
    streaming: Floats
    tensor: Floats
    context: Floats
    expert: Floats
    host: Floats
    forward: Floats

    @property
    def total(self) -> Floats:
        """Forward and backward together."""
        return self.product + self.attention + self.streaming + self.tensor + self.context + self.expert + self.host


def layer_time(job: Job, layouts: Layouts, rates: Rates) -> LayerTime:
    """Time of the average layer: dense and expert layers in their proportion."""
    repeat, again_product, again_attention = _repeats(job, layouts)
    product_f, product_b = _products(job, layouts, rates)
    attention_f, attention_b = _attention(job, layouts, rates)
    stream_f, stream_b = _streaming(job, layouts, rates)
    tensor = _tensor_traffic(job, layouts, rates) * (1 - job.stack.overlap_tensor)
    context = _context_traffic(job, layouts, rates, attention_f)
    expert = _expert_traffic(job, layouts, rates) * (1 - job.stack.overlap_expert)
    product = product_f * (1 + again_product) + product_b
    attention = attention_f * (1 + again_attention) + attention_b
    stream = stream_f * (1 + again_product) + stream_b
    traffic = tensor * (2 + repeat) + context * (3 + repeat) + expert * (2 + repeat)
    forward = product_f + attention_f + stream_f + tensor + context + expert
    backward = product + attention + stream + traffic - forward
    host_f = np.maximum(rates.host - forward, 0.0)
    host_b = np.maximum(rates.host * (2 + repeat) - backward, 0.0)
    return LayerTime(
        product=product,
        attention=attention,
        streaming=stream,
        tensor=tensor * (2 + repeat),
        context=context * (3 + repeat),
        expert=expert * (2 + repeat),
        host=host_f + host_b,
        forward=forward + host_f,
    )


def _repeats(job: Job, layouts: Layouts) -> tuple[Floats, Floats, Floats]:
    """What backward computes again: whole layers (0 or 1), share of the products, attention (0 or 1)."""
    full = np.where(layouts.recompute == FULL, 1.0, 0.0)
    selective = np.where(layouts.recompute == SELECTIVE, 1.0, 0.0)
    return full, full + selective * job.stack.selective_products, full + selective * job.stack.selective_attention


def tokens_per_rank(job: Job, layouts: Layouts) -> Floats:
    """Tokens of one micro-batch that one context parallel rank works on."""
    return layouts.micro_batch * job.sequence / layouts.cp


def _matrix(projection: Projection, tokens: Floats, tp: Ints, rates: Rates, low: bool) -> tuple[Floats, Floats]:
    """Forward and backward of one projection; backward makes the gradients of input and weight."""
    n = projection.n / tp if projection.split == "column" else np.full(tp.shape, float(projection.n))
    k = projection.k / tp if projection.split == "row" else np.full(tp.shape, float(projection.k))
    forward = kernels.product(tokens, n, k, rates, low=low)
    backward = kernels.product(tokens, k, n, rates, low=low) + kernels.product(n, k, tokens, rates, low=low)
    if low:  # quantizing reads 16 bits and writes the low ones, for the backward products in both directions
        forward = forward + kernels.streaming(tokens * k * (2 + rates.low_bytes), rates)
        backward = backward + kernels.streaming(tokens * n * (2 + 2 * rates.low_bytes), rates)
    return forward, backward


def _products(job: Job, layouts: Layouts, rates: Rates) -> tuple[Floats, Floats]:
    model, tokens = job.model, tokens_per_rank(job, layouts)
    low = rates.low_bytes < 2
    dense = model.dense_layers / model.layers
    work = [(p, tokens, layouts.tp, 1.0) for p in model.attention_projections()]
    if dense:
        work += [(p, tokens, layouts.tp, dense) for p in model.mlp_projections(model.ffn)]
    if model.experts and model.experts.shared_ffn:
        work += [(p, tokens, layouts.tp, 1 - dense) for p in model.mlp_projections(model.experts.shared_ffn)]
    parts = [(w, _matrix(p, t, tp, rates, low)) for p, t, tp, w in work]
    if model.experts:
        parts.append((1 - dense, _grouped(job, layouts, rates, low)))
    return sum(w * f for w, (f, _) in parts), sum(w * b for w, (_, b) in parts)  # type: ignore[return-value]


def _grouped(job: Job, layouts: Layouts, rates: Rates, low: bool) -> tuple[Floats, Floats]:
    """The routed experts of one layer as grouped products, tokens spread evenly."""
    experts = job.model.experts
    assert experts is not None
    cut = layouts.tp if job.stack.expert_tensor_parallel else np.ones_like(layouts.tp)
    mine = experts.count / layouts.ep
    routed = tokens_per_rank(job, layouts) / layouts.tp * cut * experts.top_k
    each = np.maximum(routed / mine, 1.0)
    forward = np.zeros(len(layouts))
    backward = np.zeros(len(layouts))
    for p in job.model.mlp_projections(experts.ffn):
        n = p.n / cut if p.split == "column" else np.full(cut.shape, float(p.n))
        k = p.k / cut if p.split == "row" else np.full(cut.shape, float(p.k))
        forward = forward + kernels.product(each, n, k, rates, low=low, batch=mine)
        backward = backward + kernels.product(each, k, n, rates, low=low, batch=mine)
        backward = backward + kernels.product(n, k, each, rates, low=low, batch=mine)
        if low:
            forward = forward + kernels.streaming(routed * k * (2 + rates.low_bytes), rates)
            backward = backward + kernels.streaming(routed * n * (2 + 2 * rates.low_bytes), rates)
    return forward, backward


def _attention(job: Job, layouts: Layouts, rates: Rates) -> tuple[Floats, Floats]:
    model, length = job.model, job.sequence
    heads = model.heads / layouts.tp * layouts.micro_batch
    if job.stack.attention == "unfused":
        return kernels.unfused_attention(heads, length / layouts.cp, model.head_dim, rates, dropout=job.stack.dropout)
    full = 1 - model.windowed_layers / model.layers
    share = 0.5 if job.stack.causal else 1.0
    reach = full * share + (1 - full) * min(model.window / length, share)
    dims = model.query_dim + model.value_dim
    return kernels.flash_attention(heads, length / layouts.cp, length, dims, rates, work=reach)


def _streaming(job: Job, layouts: Layouts, rates: Rates) -> tuple[Floats, Floats]:
    """Norms, residual adds, activation, rotary: bytes over bandwidth, each a kernel or two."""
    model, tokens = job.model, tokens_per_rank(job, layouts)
    wide = tokens * model.hidden / np.where(layouts.sequence_parallel, layouts.tp, 1)
    dense = model.dense_layers / model.layers
    inner = tokens * model.ffn / layouts.tp * dense
    if model.experts:
        own = model.experts.top_k * model.experts.ffn + model.experts.shared_ffn
        inner = inner + tokens * own / layouts.tp * (1 - dense)
    query = tokens * (model.heads + model.kv_heads) * model.query_dim / layouts.tp
    act = GATED if model.gated else PLAIN
    rotary = 0.0 if model.positions else 1.0
    out = []
    for way in (0, 1):
        bytes_ = 2 * (NORM[way] + RESIDUAL[way]) * wide + act[way] * inner + rotary * ROTARY[way] * query
        if model.experts:  # sort tokens by expert and back: read and write twice
            bytes_ = bytes_ + 8 * tokens / layouts.tp * model.experts.top_k * model.hidden * (1 - dense)
        passes = job.stack.elementwise * (job.stack.expert_bias if model.experts and model.bias else 1.0)
        out.append(kernels.streaming(bytes_ * passes, rates, kernels=6 * passes))
    return out[0], out[1]


def _tensor_traffic(job: Job, layouts: Layouts, rates: Rates) -> Floats:
    """Two all-reduces of the activations forward; sequence parallelism moves the same bytes in gathers and scatters."""
    size = 2 * tokens_per_rank(job, layouts) * job.model.hidden
    return 2 * collectives.all_reduce(size, layouts.tp, np.minimum(layouts.tp, rates.domain), rates)


def _context_traffic(job: Job, layouts: Layouts, rates: Rates, attention: Floats) -> Floats:
    """Keys and values go round the ring while attention computes: what attention does not hide, and that it computes
    in smaller pieces."""
    model = job.model
    width = model.kv_heads * (model.query_dim + model.value_dim) / np.minimum(layouts.tp, model.kv_heads)
    near = layouts.tp * layouts.cp <= rates.domain
    hop = collectives.send(2 * tokens_per_rank(job, layouts) * width, near, rates)
    exposed = np.maximum(0.0, (layouts.cp - 1) * hop - RING_HIDES * attention)
    return np.where(layouts.cp > 1, exposed + RING_PIECES * np.log2(layouts.cp) * attention, 0.0)


def _expert_traffic(job: Job, layouts: Layouts, rates: Rates) -> Floats:
    """Dispatch and combine: two all-to-alls forward, two backward. A token goes to another domain once, not once for
    each of its experts there."""
    model = job.model
    if model.experts is None:
        return np.zeros(len(layouts))
    domains = np.maximum(layouts.ep / rates.domain, 1.0)
    reached = domains * (1 - (1 - 1 / domains) ** model.experts.top_k)
    size = 2 * tokens_per_rank(job, layouts) / layouts.tp * model.hidden
    local = size * model.experts.top_k * (1 - 1 / np.minimum(layouts.ep, rates.domain)) / rates.link
    remote = size * reached * (1 - 1 / domains) / rates.net
    latency = np.where(domains > 1, rates.net_latency, rates.link_latency)
    once = np.where(layouts.ep > 1, np.maximum(local, remote) + latency, 0.0)
    return np.asarray(2 * once * model.moe_layers / model.layers)
