"""Train a Hugging Face model from scratch with PyTorch FSDP2; started by torchrun, one process a GPU.

It runs on CUDA with NCCL and, for tests and small trials, on CPUs with gloo. Every step prints one line: loss, peak
memory reserved on this GPU (on a CPU: peak resident memory), tokens per second and GPU.

    torchrun --nproc-per-node 8 train_fsdp2.py --model config.json --sequence 8192 --global-batch 64 --micro-batch 2
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.utils import checkpoint as recomputation
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a Hugging Face model from scratch with PyTorch FSDP2.")
    parser.add_argument("--model", required=True, help="config.json, or a folder with one")
    parser.add_argument("--sequence", type=int, required=True, help="tokens of one sequence")
    parser.add_argument("--global-batch", type=int, required=True, help="sequences of one optimizer step")
    parser.add_argument("--micro-batch", type=int, default=1, help="sequences that one GPU computes at once")
    parser.add_argument("--recompute", choices=("none", "selective", "full"), default="none")
    parser.add_argument("--zero", type=int, choices=(2, 3), default=3, help="3 frees gathered parameters after use")
    parser.add_argument("--shard-size", type=int, default=0, help="GPUs that one copy is sharded over; 0 is all")
    parser.add_argument("--precision", choices=tuple(DTYPES), default="bf16", help="of the passes; weights stay fp32")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--warmup", type=int, default=20, help="steps until the learning rate is reached")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--random-tokens", action="store_true", help="random data, to measure with")
    parser.add_argument("--text", help="a text file to train on")
    parser.add_argument("--tokenizer", help="folder or hub id of the tokenizer for --text")
    parser.add_argument("--save", help="folder for checkpoints; an existing one is gone on with")
    parser.add_argument("--save-every", type=int, default=500, help="steps between checkpoints")
    found = parser.parse_args()
    if found.random_tokens == bool(found.text):
        parser.error("give either --random-tokens or --text FILE")
    if found.text and not found.tokenizer:
        parser.error("--text needs --tokenizer")
    return found


def shard(model: nn.Module, options: argparse.Namespace, device: torch.device) -> nn.Module:
    """Shard every decoder layer, then what is left; with `--shard-size`, copies of the shards over the other GPUs."""
    world = dist.get_world_size()
    size = options.shard_size or world
    if world % size:
        raise SystemExit(f"--shard-size {size} does not divide the {world} GPUs")
    shape, names = ((world,), ("shard",)) if size == world else ((world // size, size), ("copy", "shard"))
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=names)
    policy = MixedPrecisionPolicy(param_dtype=DTYPES[options.precision], reduce_dtype=torch.float32)
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy, reshard_after_forward=options.zero == 3)
    return fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False)


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The list of layers: the longest list of modules."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len)


def recompute(model: nn.Module, how: str) -> None:
    """Make every layer compute its activations again in backward: all of them, or not the matrix products' outputs."""
    if how == "none":
        return
    products = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}
    counts: dict[str, int] = {}

    def keep(context: object, operator: object, *args: object, **kwargs: object) -> object:
        if operator in products:
            mode = "again" if getattr(context, "is_recompute", False) else "first"
            counts[mode] = counts.get(mode, 0) + 1
            if counts[mode] % 2:  # every second product is kept
                return recomputation.CheckpointPolicy.MUST_SAVE
        elif "attention" in str(operator):
            return recomputation.CheckpointPolicy.MUST_SAVE
        return recomputation.CheckpointPolicy.PREFER_RECOMPUTE

    def contexts() -> object:
        counts.clear()
        return recomputation.create_selective_checkpoint_contexts(keep)

    extra = {"context_fn": contexts} if how == "selective" else {}
    for layer in decoder_layers(model):
        forward = layer.forward

        def again(*args: object, _forward: object = forward, **kwargs: object) -> object:
            return recomputation.checkpoint(_forward, *args, use_reentrant=False, **extra, **kwargs)

        layer.forward = again


def batches(options: argparse.Namespace, vocabulary: int, device: torch.device) -> Iterator[Tensor]:
    """Micro-batches of this process, without end: int64 [micro-batch, sequence]."""
    generator = torch.Generator().manual_seed(options.seed * 100_003 + dist.get_rank())
    shape = (options.micro_batch, options.sequence)
    if options.random_tokens:
        while True:
            yield torch.randint(vocabulary, shape, generator=generator).to(device)
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    tokens = torch.tensor(tokenizer(Path(options.text).read_text(encoding="utf-8"))["input_ids"])
    if len(tokens) <= options.sequence:
        raise SystemExit(f"--text has {len(tokens)} tokens, fewer than one sequence of {options.sequence}")
    while True:
        starts = torch.randint(len(tokens) - options.sequence, (options.micro_batch,), generator=generator)
        yield torch.stack([tokens[start : start + options.sequence] for start in starts]).to(device)


def train_step(model: FSDPModule, data: Iterator[Tensor], micro_batches: int) -> Tensor:
    """Forward and backward of all micro-batches; gradients are reduced with the last one. Returns the mean loss."""
    total = torch.zeros(())
    for index in range(micro_batches):
        last = index == micro_batches - 1
        model.set_requires_gradient_sync(last)
        model.set_is_last_backward(last)
        tokens = next(data)
        loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss / micro_batches
        loss.backward()
        total = total + loss.detach().float().cpu()
    return total


def peak_memory(device: torch.device) -> tuple[float, float]:
    """Peak memory of this process, GiB, and its share of the device's, percent."""
    if device.type == "cuda":
        used, whole = torch.cuda.max_memory_reserved(device), torch.cuda.get_device_properties(device).total_memory
    else:
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return used / 2**30, 100 * used / whole


def load(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Go on with the newest complete checkpoint; returns its step."""
    done = sorted(int(path.name[5:]) for path in folder.glob("step-*") if (path / ".metadata").is_file())
    if not done:
        return 0
    weights, state = get_state_dict(model, optimizer)
    state_dict_loader.load({"model": weights, "optimizer": state}, checkpoint_id=folder / f"step-{done[-1]}")
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=state)
    return done[-1]


def save(folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    weights, state = get_state_dict(model, optimizer)
    state_dict_saver.save({"model": weights, "optimizer": state}, checkpoint_id=folder / f"step-{step}")


def build(options: argparse.Namespace, device: torch.device) -> tuple[nn.Module, int]:
    """The sharded model with random weights, and the size of its vocabulary."""
    config = AutoConfig.from_pretrained(options.model)
    torch.manual_seed(options.seed)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    recompute(model, options.recompute)
    shard(model, options, device)
    model.to_empty(device=device)
    with torch.no_grad():
        reset(model)
    return model, config.vocab_size


def reset(model: nn.Module) -> None:
    """Fill parameters and buffers, which `to_empty` left undefined, as the architecture initializes them."""
    model.init_weights()
    for module in model.modules():
        if hasattr(module, "rope_init_fn") and hasattr(module, "inv_freq"):
            frequencies, _ = module.rope_init_fn(module.config, module.inv_freq.device)
            module.inv_freq.copy_(frequencies)
            module.original_inv_freq = module.inv_freq


def main() -> None:
    options = arguments()
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    if options.global_batch % (options.micro_batch * world):
        product = options.micro_batch * world
        raise SystemExit(f"--global-batch {options.global_batch} is no multiple of micro-batch x GPUs, {product}")
    model, vocabulary = build(options, device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.1, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / options.warmup))
    first = load(Path(options.save), model, optimizer) if options.save else 0
    data = batches(options, vocabulary, device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    for step in range(first + 1, options.steps + 1):
        start = time.perf_counter()
        loss = train_step(model, data, options.global_batch // (options.micro_batch * world))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        dist.all_reduce(loss := loss.to(device) / world)  # also waits for the slowest process
        mean = loss.item()
        speed = options.global_batch * options.sequence / (time.perf_counter() - start) / world
        memory, percent = peak_memory(device)
        if rank == 0:
            print(
                f"step: {step}  loss: {mean:.5f}  memory: {memory:.2f}GiB({percent:.2f}%)  tps: {speed:,.2f}  "
                f"tflops: {6 * parameters * speed / 1e12:.3f}",
                flush=True,
            )
        if options.save and (step % options.save_every == 0 or step == options.steps):
            save(Path(options.save), step, model, optimizer)
    dist.barrier()  # no process takes its group down while another still uses it
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
