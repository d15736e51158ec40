"""The numbers that one estimate computes with: hardware, network and stack made one, in SI units."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field

from fyc.plan.cluster import Cluster
from fyc.plan.stack import Stack


class Correction(BaseModel):
    """Factors that a calibration found, on times; 1 is what the hardware file says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product: float = Field(1.0, gt=0, description="Matrix products and attention.")
    streaming: float = Field(1.0, gt=0, description="Memory-bound kernels and launches.")
    tensor: float = Field(1.0, gt=0, description="Tensor, context and expert parallel traffic.")
    data: float = Field(1.0, gt=0, description="Data parallel and pipeline traffic.")
    host: float = Field(1.0, gt=0, description="Host time.")
    memory: float = Field(1.0, gt=0, description="Activations.")
    memory_gib: float = Field(0.0, description="A constant on the peak memory, GiB.")
    source: str = Field("", description="What it was fitted on.")


@dataclass(frozen=True)
class Rates:
    """Rates of one GPU in one cluster under one stack.

    Attributes:
        sms: streaming multiprocessors.
        peak, peak_low: FLOP/s of 16-bit products, and of products in the training precision.
        share, share_low: what a large product sustains of them.
        low_bytes: bytes of an element in the training precision.
        hbm: bytes/s of a streaming kernel.
        kernel: seconds between two kernels.
        flash_forward, flash_backward: share of `peak` in flash attention.
        link, link_latency: bytes/s and seconds a step inside the NVLink domain.
        net, net_latency: bytes/s of one GPU and seconds a step between domains.
        domain: GPUs of an NVLink domain.
        host: seconds of host time to launch a layer.
    """

    sms: float
    peak: float
    peak_low: float
    share: float
    share_low: float
    low_bytes: float
    hbm: float
    kernel: float
    flash_forward: float
    flash_backward: float
    link: float
    link_latency: float
    net: float
    net_latency: float
    domain: int
    host: float

    @classmethod
    def of(cls, cluster: Cluster, stack: Stack, precision: str) -> Rates:
        """Put the constants of a cluster's GPU, its network and a stack together."""
        g = cluster.gpu
        low, share_low, low_bytes = g.peak_16, g.gemm_16, 2.0
        if precision.startswith("fp8") or precision == "mxfp8":
            low, share_low, low_bytes = g.peak_8 or low, g.gemm_8 or share_low, 1.0
        elif precision == "nvfp4":
            low, share_low, low_bytes = g.peak_4 or low, g.gemm_4 or share_low, 0.5
        flash = g.attention.get(stack.attention) or g.attention["flash2"]
        return cls(
            sms=g.sms.value,
            peak=g.peak_16.value * 1e12,
            peak_low=low.value * 1e12,
            share=g.gemm_16.value,
            share_low=share_low.value,
            low_bytes=low_bytes,
            hbm=g.hbm.value * 1e9 * g.hbm_share.value,
            kernel=g.kernel_us.value * 1e-6,
            flash_forward=flash.forward.value,
            flash_backward=flash.backward.value,
            link=g.nvlink.value * 1e9 * g.nvlink_share.value,
            link_latency=g.nvlink_latency_us.value * 1e-6,
            net=cluster.network_gbs * 1e9 * cluster.network_share,
            net_latency=cluster.latency_us * 1e-6,
            domain=cluster.nvlink_domain,
            host=stack.host_us * 1e-6,
        )

    def corrected(self, by: Correction) -> Rates:
        """These rates with a calibration's factors."""
        return replace(
            self,
            share=self.share / by.product,
            share_low=self.share_low / by.product,
            flash_forward=self.flash_forward / by.product,
            flash_backward=self.flash_backward / by.product,
            hbm=self.hbm / by.streaming,
            kernel=self.kernel * by.streaming,
            link=self.link / by.tensor,
            link_latency=self.link_latency * by.tensor,
            net=self.net / by.data,
            net_latency=self.net_latency * by.data,
            host=self.host * by.host,
        )
