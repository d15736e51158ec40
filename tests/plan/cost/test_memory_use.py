"""Memory against the formulas of the literature, term by term."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyc.plan.cost.memory import GIB, memory_use, stage_use
from fyc.plan.cost.rates import Correction
from fyc.plan.job import Job
from fyc.plan.layout import Layout, Layouts
from tests.plan.jobs import GPT_22B, LLAMA_8B, make_job


def use(job: Job, **layout: object) -> dict[str, float]:
    m = memory_use(job, Layouts.of([Layout.model_validate(layout)]))
    return {name: float(value[0]) for name, value in vars(m).items()} | {"device": float(m.device[0])}


@pytest.mark.parametrize("tp", [1, 8])
def test_activations_of_a_gpt_layer_are_those_of_korthikanti(tp: int) -> None:
    """arXiv 2205.05198, equations 1 and 2: sbh(34 + 5as/h), and sbh(10 + 24/t + 5as/(ht)) under tensor parallelism."""
    job = make_job(GPT_22B, gpu="a100-80gb", nodes=1, backend="megatron-2021", sequence=2048, batch=4)
    s, b, h, a, layers = 2048, 4, 6144, 64, 48
    per_layer = s * b * h * (10 + 24 / tp + 5 * a * s / (h * tp))
    ends = 2 * s * b * h
    found = use(job, tp=tp, dp=8 // tp, micro_batch=b, recompute="none")
    assert found["activations"] == pytest.approx((layers * per_layer + ends) / GIB, rel=0.01)


def test_sequence_parallelism_cuts_everything() -> None:
    """Equation 4 of the same: sbh/t (34 + 5as/h)."""
    job = make_job(GPT_22B, gpu="a100-80gb", nodes=1, backend="megatron-2021", sequence=2048, batch=4)
    s, b, h, a = 2048, 4, 6144, 64
    expected = 48 * s * b * h / 8 * (34 + 5 * a * s / h) + 2 * s * b * h / 8
    found = use(job, tp=8, micro_batch=b, sequence_parallel=True)
    assert found["activations"] == pytest.approx(expected / GIB, rel=0.01)


def test_full_recomputation_keeps_the_input_of_every_layer() -> None:
    job = make_job(GPT_22B, gpu="a100-80gb", nodes=1, backend="megatron-2021", sequence=2048, batch=4)
    kept = 48 * 2 * 2048 * 4 * 6144 / GIB
    found = use(job, tp=8, micro_batch=4, recompute="full")["activations"]
    assert kept < found < kept + 3


@given(st.sampled_from([0, 1]), st.sampled_from([1, 2, 8]))
def test_states_follow_the_megatron_table(zero: int, dp: int) -> None:
    """6 + 12 / d bytes with the distributed optimizer, 18 without (Megatron-LM README)."""
    job = make_job(LLAMA_8B, nodes=1, batch=64)
    found = use(job, dp=dp, zero=zero)
    parameters = 8_030_261_248
    bytes_ = 6 + 12 / (dp if zero else 1)
    states = found["weights"] + found["gradients"] + found["optimizer"]
    assert states == pytest.approx(bytes_ * parameters / GIB, rel=0.01)


def test_fsdp_holds_sixteen_bytes_a_parameter_in_all() -> None:
    job = make_job(LLAMA_8B, nodes=1, backend="torchtitan", batch=64)
    found = use(job, dp=8, zero=3)
    assert found["weights"] + found["gradients"] + found["optimizer"] == pytest.approx(2 * 8.03e9 / GIB, rel=0.01)


def test_the_parts_add_up_and_more_recomputation_needs_less() -> None:
    job = make_job(LLAMA_8B, nodes=1, backend="torchtitan", batch=64)
    peaks = []
    for mode in ("none", "selective", "full"):
        found = use(job, dp=8, zero=3, recompute=mode, micro_batch=2)
        assert found["device"] == pytest.approx(sum(v for k, v in found.items() if k != "device"))
        peaks.append(found["device"])
    assert peaks == sorted(peaks, reverse=True)


@given(st.integers(0, 2**31))
def test_hybrid_sharding_holds_more_than_full_sharding(seed: int) -> None:
    rng = np.random.default_rng(seed)
    job = make_job(LLAMA_8B, nodes=2, backend="torchtitan", batch=64)
    shard = int(rng.choice([1, 2, 4, 8]))
    assert use(job, dp=16, zero=3, shard_size=shard)["weights"] > use(job, dp=16, zero=3)["weights"]


def test_the_last_stage_pays_for_logits_when_it_is_the_fullest() -> None:
    job = make_job(LLAMA_8B, nodes=1, sequence=1024, batch=64)
    full = {"pp": 8, "zero": 1, "recompute": "full"}
    assert use(job, **full, micro_batch=8)["logits"] > 0
    assert use(job, **full, micro_batch=1)["device"] < use(job, **full, micro_batch=8)["device"]


def test_a_calibration_moves_activations_and_the_constant() -> None:
    job = make_job(LLAMA_8B, nodes=1, backend="torchtitan", batch=64)
    layouts = Layouts.of([Layout(dp=8, zero=3)])
    plain, moved = memory_use(job, layouts), memory_use(job, layouts, Correction(memory=1.2, memory_gib=3))
    assert moved.activations[0] == pytest.approx(1.2 * plain.activations[0], rel=1e-2)
    assert moved.workspace[0] == pytest.approx(plain.workspace[0] + 3)


def by_stage(job: Job, layout: Layout) -> list[dict[str, float]]:
    found = stage_use(job, Layouts.of([layout] * layout.pp), np.arange(layout.pp))
    return [
        {name: float(value[r]) for name, value in vars(found).items()} | {"device": float(found.device[r])}
        for r in range(layout.pp)
    ]


@pytest.mark.parametrize("vpp", [1, 5])
def test_the_fullest_stage_is_the_peak_and_later_stages_hold_fewer_micro_batches(vpp: int) -> None:
    job = make_job()
    stages = by_stage(job, Layout(tp=8, pp=4, vpp=vpp, dp=16, micro_batch=1, zero=1, sequence_parallel=True))
    assert max(s["device"] for s in stages) == pytest.approx(
        use(job, tp=8, pp=4, vpp=vpp, dp=16, zero=1, sequence_parallel=True)["device"]
    )
    kept = [s["activations"] for s in stages]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] - kept[1] == pytest.approx(kept[1] - kept[2])
    assert [s["logits"] > 0 for s in stages] == [False, False, False, True]
    assert stages[0]["weights"] > stages[1]["weights"] < stages[3]["weights"]


def test_the_stages_hold_the_whole_model() -> None:
    """80 layers, embedding and head once each; with 7 stages the first three have a layer more."""
    job = make_job()
    bytes_ = job.stack.weight_bytes
    for pp in (1, 4, 7):
        stages = by_stage(job, Layout(pp=pp, dp=1))
        whole = sum(stage["weights"] for stage in stages) * GIB / bytes_
        assert whole == pytest.approx(job.model.parameters, rel=0.001)


def test_interleaved_stages_hold_the_chunks_that_warm_up() -> None:
    """Megatron-LM's schedule: 2 (pp - rank - 1) + (vpp - 1) pp chunks warm up, and one is at work."""
    job = make_job(GPT_22B, nodes=8, sequence=2048, batch=64)
    layout = Layout(tp=8, pp=4, vpp=3, dp=2, sequence_parallel=True, zero=1)
    kept = [stage["activations"] for stage in by_stage(job, layout)]
    chunks = [2 * (4 - rank - 1) + 2 * 4 + 1 for rank in range(4)]
    assert [k / kept[0] for k in kept] == pytest.approx([c / chunks[0] for c in chunks], rel=0.01)


def test_a_sharded_stage_in_the_middle_never_gathers_the_ends() -> None:
    job = make_job(backend="torchtitan", nodes=64)
    job = job.model_copy(update={"stack": job.stack.model_copy(update={"keeps_gathered": False})})
    stages = by_stage(job, Layout(pp=4, dp=128, zero=3))
    gathered = [stage["gathered"] for stage in stages]
    assert gathered[1] == gathered[2] < gathered[0] == gathered[3]
