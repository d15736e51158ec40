"""Which rank failed first, when it mattered, and what was only its echo."""

from __future__ import annotations

import pytest

from tests.plan.diagnosis.logs import (
    OOM,
    interleave,
    megatron,
    nccl_noise,
    remote_error,
    titan,
    torchrun_report,
    traceback,
    watchdog,
)


def oom(rank: int) -> list[str]:
    return traceback(rank, OOM.format(gpu=rank % 8))


@pytest.mark.parametrize("seed", range(20))
def test_of_several_ranks_the_first_in_the_log_counts(judge, seed):
    lines = interleave(seed, *(nccl_noise(rank, seed % 5) + oom(rank) for rank in range(4)))
    first = next(line for line in lines if "OutOfMemoryError" in line)
    found = judge(lines)
    assert f"[rank{found.rank}]" in first
    (finding,) = found.findings
    assert finding.count == 4
    assert sorted(finding.ranks) == [0, 1, 2, 3]
    assert finding.ranks[0] == found.rank


def test_times_count_more_than_the_order_of_the_lines(judge):
    """The logs of two machines, one after the other."""
    late = ["2025-03-21 02:10:09 " + line for line in oom(0)]
    early = ["2025-03-21 02:10:01 " + line for line in oom(9)]
    found = judge(late, early)
    assert found.rank == 9
    assert found.line == len(late) + len(early)


def test_an_echo_in_front_does_not_win(judge):
    found = judge(remote_error(0), watchdog(1), remote_error(2), oom(3))
    assert (found.kind, found.rank) == ("gpu-memory", 3)
    assert [finding.role for finding in found.findings if finding.kind == "gpu-memory"] == ["cause"]
    assert {finding.kind: finding.count for finding in found.findings}["nccl-network"] == 6


def test_an_unknown_exception_wins_over_echoes_and_exit_codes(judge):
    error = traceback(2, "shapes.ShapeError: the tokenizer and the model disagree")
    found = judge(watchdog(0), error, torchrun_report((1, -6), [(2, 1)]))
    assert (found.kind, found.rank) == ("exception", 2)
    assert "ShapeError" in (found.cause or "")
    assert found.allowed_edits == ()


def test_a_kill_is_host_memory_and_the_root_cause_is_its_rank(judge):
    found = judge(titan(range(1, 9)), watchdog(0), torchrun_report((3, -9), [(0, -6), (7, 1)]))
    assert (found.kind, found.category, found.rank, found.rank_kind) == ("killed", "host_oom", 3, "global")
    assert found.numbers == {"exit_code": -9}
    assert "memory" in (found.cause or "")
    assert {"workers", "offload"} <= {edit.field for edit in found.allowed_edits}
    killed = next(finding for finding in found.findings if finding.kind == "killed")
    assert killed.ranks == (3,)


def test_the_first_of_two_kills_is_the_one_torchrun_calls_the_root(judge):
    report = torchrun_report((12, -9), [(8, -9), (9, -9)])[1:]  # without the line about one local rank
    assert judge(report).rank == 12


def test_a_report_of_an_earlier_machine_counts(judge):
    later = torchrun_report((0, -9), time="2025-03-21_02:17:40")
    earlier = torchrun_report((8, -9), time="2025-03-21_02:17:10")
    assert judge(later[1:], earlier[1:]).rank == 8


@pytest.mark.parametrize(
    ("line", "kind", "rank"),
    [
        (
            "slurmstepd: error: Detected 1 oom_kill event in StepId=11.0. Some of the step tasks have been OOM Killed.",
            "host-memory",
            None,
        ),
        ("srun: error: node-03: task 24: Out Of Memory", "host-memory", 24),
        ("[12345.6] Out of memory: Killed process 4711 (python3) total-vm:1kB", "host-memory", None),
        ("/var/spool/slurm_script: line 28:  8156 Killed                  python3 main.py", "host-memory", None),
        ("srun: error: node-03: task 24: Killed", "killed", 24),
        ("srun: error: node-03: tasks 24-31: Exited with exit code 137", "killed", 24),
        (
            "[launch.py:321:sigkill_handler] ['/usr/bin/python3', 'train.py'] exits with return code = -9",
            "killed",
            None,
        ),
        ("srun: error: node-03: task 5: Segmentation fault", "crashed", 5),
        ("srun: error: node-03: task 5: Exited with exit code 1", "exited", 5),
        (
            "slurmstepd: error: *** STEP 11.0 ON node-0 CANCELLED AT 2025-01-01T00:00:00 DUE TO TIME LIMIT ***",
            "time-limit",
            None,
        ),
        ("slurmstepd: error: *** STEP 11.0 ON node-0 CANCELLED AT 2025-01-01T00:00:00 ***", "cancelled", None),
        (
            "[rank1]: RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer"
            " [127.0.0.1]:25236",
            "peer-lost",
            1,
        ),
        ("KeyboardInterrupt", "interrupted", None),
        (
            "torch.distributed.elastic.multiprocessing.api.SignalException: Process 7 got signal: 15",
            "interrupted",
            None,
        ),
        ("[rank2]: ncclUnhandledCudaError: Call to CUDA function failed.", "nccl-error", 2),
    ],
)
def test_what_launchers_and_schedulers_say(judge, line, kind, rank):
    found = judge(megatron(range(1, 9)), [line])
    assert (found.status, found.kind, found.rank) == ("failed", kind, rank)


def test_a_lost_peer_is_an_echo_of_a_kill(judge):
    lost = ["[rank1]: RuntimeError: [/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:25236"]
    found = judge(lost, torchrun_report((0, -9), [(1, 1)]))
    assert (found.kind, found.rank) == ("killed", 0)


def test_a_hang_names_the_rank_that_did_not_wait(judge):
    lines = interleave(1, *(watchdog(rank) for rank in range(8) if rank != 6), nccl_noise(7))
    found = judge(["[rank7]: hello"], lines)
    assert (found.kind, found.category, found.rank) == ("nccl-timeout", "hang", 6)
    assert "rank 6" in (found.cause or "")
    assert found.numbers == {"seq_num": 1580, "timeout_ms": 600000, "ran_ms": 600004}
    assert "600 s" in (found.cause or "")


def test_a_hang_of_a_few_ranks_blames_nobody_else(judge):
    found = judge(watchdog(6), watchdog(4), ["[rank7]: RuntimeError: NCCL error in: x, internal error"])
    assert (found.kind, found.rank) == ("nccl-timeout", 6)
    assert "look there" not in (found.cause or "")


def test_a_network_failure_without_a_cause_is_the_diagnosis(judge):
    warn = [
        "node-01:183006:183220 [1] misc/socket.cc:518 NCCL WARN Net : Call to recv from 10.2.84.247<58355> failed : x"
    ]
    internal = ["[rank9]: ncclInternalError: Internal check failed."]
    found = judge(titan(range(1, 6)), warn, internal, watchdog(3))
    assert (found.kind, found.category, found.after_step) == ("nccl-network", "network", 5)


@pytest.mark.parametrize(
    ("prefix", "rank", "kind"),
    [
        ("[rank3]: ", 3, "global"),
        ("[rank3]:", 3, "global"),
        ("[default3]:", 3, "local"),
        ("[default3]: ", 3, "local"),
        ("[trainer_3]:", 3, "local"),
        ("12: ", 12, "task"),
        ("12: [default3]:", 3, "local"),
        ("12: [rank99]: ", 99, "global"),
        ("  7: ", 7, "task"),
        ("[1,3]<stderr>:", 3, "global"),
        ("2024-11-20 14:37:16 [rank3]: ", 3, "global"),
        ("[2024-11-20 14:37:16,123] [rank3]: ", 3, "global"),
        ("2024-11-20T14:37:16.123456789Z stderr F [rank3]: ", 3, "global"),
        ("\x1b[31m[rank3]:\x1b[0m ", 3, "global"),
        ("", 1, "local"),  # the GPU that the message names
    ],
)
def test_prefixes_of_launchers(judge, prefix, rank, kind):
    found = judge([prefix + OOM.format(gpu=1)])
    assert (found.kind, found.rank, found.rank_kind) == ("gpu-memory", rank, kind)


def test_a_failure_the_run_got_over_is_not_the_cause(judge):
    again = megatron(range(5, 31), minute=5)
    found = judge(megatron(range(1, 9)), oom(2), torchrun_report((2, 1)), again, remote_error(5))
    assert (found.kind, found.rank, found.after_step) == ("nccl-network", 5, 30)
    assert {finding.kind: finding.role for finding in found.findings}["gpu-memory"] == "survived"


def test_a_run_that_got_over_everything_did_not_fail(judge):
    found = judge(megatron(range(1, 10)), oom(2), torchrun_report((2, 1)), megatron(range(5, 101)))
    assert (found.status, found.kind) == ("ok", None)
    assert {finding.role for finding in found.findings} == {"survived"}
    assert found.progress is not None


def test_a_failure_that_the_program_caught_is_not_the_cause(judge):
    caught = ["2024-04-06 02:00:07 [rank2]: " + OOM.format(gpu=2)]
    found = judge(megatron(range(1, 7)), caught, megatron(range(7, 31), head=False), remote_error(5))
    assert (found.kind, found.rank) == ("nccl-network", 5)
    many = megatron(range(7, 200), head=False, total=1000)
    assert judge(megatron(range(1, 7)), oom(2), many, remote_error(5)).kind == "nccl-network"


@pytest.mark.parametrize("echo", [remote_error(5), torchrun_report((2, 1)), []])
def test_steps_that_waited_in_a_buffer_do_not_excuse(judge, echo):
    """Standard error reaches the log at once, standard output only when the process ends."""
    found = judge(oom(2), megatron(range(1, 21)), echo)
    assert (found.status, found.kind, found.rank) == ("failed", "gpu-memory", 2)


def test_a_rank_that_exits_without_a_word_is_blamed_before_those_that_miss_it(judge):
    found = judge(remote_error(0), remote_error(2), torchrun_report((1, 3), [(0, -15), (2, 1)]))
    assert (found.kind, found.rank, found.numbers) == ("exited", 1, {"exit_code": 3})
    found = judge(remote_error(0), watchdog(1), torchrun_report((1, 1), [(0, -15)]))
    assert found.kind == "nccl-network"


def test_steps_that_were_made_before_but_stand_behind_do_not_excuse(judge):
    """Logs of two machines in one file: the second one holds the steps that the first one's failure ended."""
    first = ["2024-04-06 02:59:00 " + line for line in oom(2)]
    found = judge(first, megatron(range(1, 31), head=False), ["2024-04-06 02:59:30 [rank9]: ncclRemoteError: x"])
    assert (found.kind, found.rank) == ("gpu-memory", 2)


def test_two_steps_after_a_failure_do_not_excuse_it(judge):
    caught = ["2024-04-06 02:00:09 [rank2]: " + OOM.format(gpu=2)]
    assert judge(megatron(range(1, 10)), caught, megatron(range(10, 12), head=False)).kind == "gpu-memory"
    assert judge(megatron(range(1, 10)), caught, megatron(range(10, 13), head=False)).kind is None


def test_noise_of_the_shutdown_is_no_failure(judge):
    done = ["[rank0]:[titan] 2025-08-22 08:10:00,000 - root - INFO - Training completed"]
    found = judge(titan(range(1, 101)), done, remote_error(1), watchdog(2))
    assert (found.status, found.kind) == ("ok", None)
    assert judge(titan(range(1, 101)), done, oom(1)).kind == "gpu-memory"


def test_a_run_that_goes_on_is_unfinished(judge):
    found = judge(megatron(range(1, 50)))
    assert (found.status, found.kind, found.findings) == ("unfinished", None, ())


def test_a_log_without_anything(judge):
    found = judge(["hello", "world"], nccl_noise(1))
    assert found.is_empty
    assert found.status == "unfinished"
    assert found.lines == 8
    assert not judge(watchdog(1)).is_empty
    assert not judge(megatron(range(3))).is_empty
