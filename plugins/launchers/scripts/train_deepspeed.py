"""Train a Hugging Face model from scratch with DeepSpeed's ZeRO stages; started by torchrun, one process a GPU.

Batch, precision and ZeRO stage are in the configuration of DeepSpeed. It runs on CUDA with NCCL and, for tests and
small trials, on CPUs with gloo. Every step prints one line: loss, peak memory reserved on this GPU (on a CPU: peak
resident memory), tokens per second and GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import deepspeed
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils import checkpoint as recomputation
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a Hugging Face model from scratch with DeepSpeed.")
    parser.add_argument("--model", required=True, help="config.json, or a folder with one")
    parser.add_argument("--config", required=True, help="configuration of DeepSpeed")
    parser.add_argument("--sequence", type=int, required=True, help="tokens of one sequence")
    parser.add_argument("--recompute", choices=("none", "selective", "full"), default="none")
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


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The list of layers: the longest list of modules."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len)


def recompute(model: nn.Module, how: str) -> None:
    """Make every layer compute its activations again in backward: all of them, or not the matrix products' outputs."""
    if how == "none":
        return
    products = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}

    def contexts() -> object:
        seen = {"first": 0, "again": 0}

        def keep(context: object, operator: object, *args: object, **kwargs: object) -> object:
            if operator in products:
                mode = "again" if getattr(context, "is_recompute", False) else "first"
                seen[mode] += 1
                if seen[mode] % 2:  # every second product is kept
                    return recomputation.CheckpointPolicy.MUST_SAVE
            elif "attention" in str(operator):
                return recomputation.CheckpointPolicy.MUST_SAVE
            return recomputation.CheckpointPolicy.PREFER_RECOMPUTE

        return recomputation.create_selective_checkpoint_contexts(keep)

    extra = {"context_fn": contexts} if how == "selective" else {}
    for layer in decoder_layers(model):
        forward = layer.forward

        def again(*args: object, _forward: object = forward, **kwargs: object) -> object:
            return recomputation.checkpoint(_forward, *args, use_reentrant=False, **extra, **kwargs)

        layer.forward = again


def batches(options: argparse.Namespace, micro: int, vocabulary: int, device: torch.device) -> Iterator[Tensor]:
    """Micro-batches of this process, without end: int64 [micro-batch, sequence]."""
    generator = torch.Generator().manual_seed(options.seed * 100_003 + dist.get_rank())
    shape = (micro, options.sequence)
    if options.random_tokens:
        while True:
            yield torch.randint(vocabulary, shape, generator=generator).to(device)
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    tokens = torch.tensor(tokenizer(Path(options.text).read_text(encoding="utf-8"))["input_ids"])
    if len(tokens) <= options.sequence:
        raise SystemExit(f"--text has {len(tokens)} tokens, fewer than one sequence of {options.sequence}")
    while True:
        starts = torch.randint(len(tokens) - options.sequence, (micro,), generator=generator)
        yield torch.stack([tokens[start : start + options.sequence] for start in starts]).to(device)


def peak_memory(cuda: bool) -> tuple[float, float]:
    """Peak memory of this process, GiB, and its share of the device's, percent."""
    if cuda:
        used, whole = torch.cuda.max_memory_reserved(), torch.cuda.get_device_properties().total_memory
    else:
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return used / 2**30, 100 * used / whole


def initialize(model: nn.Module) -> None:
    """Initialize sharded parameters as the architecture does: transformers saw only empty ones when it built them."""
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        for parameter in own:
            parameter._is_hf_initialized = False
        with deepspeed.zero.GatheredParameters(own, modifier_rank=0, enabled=bool(own)):
            if own and dist.get_rank() == 0:
                model._init_weights(module)


def build(options: argparse.Namespace, settings: dict, cuda: bool) -> tuple[deepspeed.DeepSpeedEngine, int, int]:
    """DeepSpeed's engine, the size of the vocabulary, and the number of parameters."""
    config = AutoConfig.from_pretrained(options.model)
    torch.manual_seed(options.seed)
    with deepspeed.zero.Init(config_dict_or_path=settings, enabled=settings["zero_optimization"]["stage"] == 3):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    if settings["zero_optimization"]["stage"] == 3:
        initialize(model)
    recompute(model, options.recompute)
    parameters = sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.1, fused=cuda)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / options.warmup))
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, lr_scheduler=schedule, config=settings)
    return engine, config.vocab_size, parameters


def main() -> None:
    options = arguments()
    settings = json.loads(Path(options.config).read_text(encoding="utf-8"))
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    deepspeed.init_distributed("nccl" if cuda else "gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    engine, vocabulary, parameters = build(options, settings, cuda)
    first = 0
    if options.save and (Path(options.save) / "latest").is_file():
        _, state = engine.load_checkpoint(options.save)
        first = state["step"]
    micro, batch = settings["train_micro_batch_size_per_gpu"], settings["train_batch_size"]
    data = batches(options, micro, vocabulary, engine.device)
    for step in range(first + 1, options.steps + 1):
        start, total = time.perf_counter(), torch.zeros((), device=engine.device)
        for _ in range(settings["gradient_accumulation_steps"]):
            tokens = next(data)
            loss = engine(input_ids=tokens, labels=tokens, use_cache=False).loss
            engine.backward(loss)
            engine.step()  # does something after the last micro-batch only
            total += loss.detach().float() / settings["gradient_accumulation_steps"]
        dist.all_reduce(total)  # also waits for the slowest process
        mean = total.item() / world
        speed = batch * options.sequence / (time.perf_counter() - start) / world
        memory, percent = peak_memory(cuda)
        if rank == 0:
            print(
                f"step: {step}  loss: {mean:.5f}  memory: {memory:.2f}GiB({percent:.2f}%)  tps: {speed:,.2f}  "
                f"tflops: {6 * parameters * speed / 1e12:.3f}",
                flush=True,
            )
        if options.save and (step % options.save_every == 0 or step == options.steps):
            engine.save_checkpoint(options.save, tag=f"step-{step}", client_state={"step": step})
    dist.barrier()  # no process takes its group down while another still uses it
    engine.destroy()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
