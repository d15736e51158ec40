"""The failures that are the trace of another one: ranks that waited in vain, processes that were ended or are gone."""

from __future__ import annotations

from fyc.plan.diagnosis import explain
from fyc.plan.diagnosis.causes import HOST_EDITS, MEMORY, PROGRAM, SHAPES
from fyc.plan.diagnosis.kinds import FailureKind, Level
from fyc.plan.diagnosis.report import edits

_NETWORK = "see what the other end says at that time; if nothing, test the fabric between the two (nccl-tests, ibstat)"

_WAITED = (
    FailureKind(
        name="nccl-timeout",
        category="hang",
        level=Level.WAITED,
        words=("Watchdog caught", "d out in blocking wait"),
        patterns=(
            r"WorkNCCL\(SeqNum=(?P<seq_num>\d{1,15}), OpType=(?P<operation>\w{1,40}),.*?"
            r"Timeout\(ms\)=(?P<timeout_ms>\d{1,15})\)(?: ran for (?P<ran_ms>\d{1,15}) milliseconds)?",
            r"Watchdog caught collective operation timeout",
        ),
        cause="a collective waited too long for a rank",
        next="look at the rank that did not take part (py-spy dump, NCCL flight recorder); work that takes ranks"
        " unequally long, such as checkpoints or evaluation, needs a longer timeout",
        source="hiyouga/LlamaFactory#7396, NVIDIA/Megatron-LM#735 and #1207",
        edits=edits("nccl_timeout:raise"),
        explain=explain.timeout,
    ),
    FailureKind(
        name="nccl-network",
        category="network",
        level=Level.WAITED,
        words=(
            "ncclRemoteError",
            "ncclSystemError",
            "L error in",
            "Got completion",
            "L WARN",
            "remote process exited",
        ),
        patterns=(
            r"ncclRemoteError",
            r"ncclSystemError",
            r"NET/IB\w* ?: ?Got completion",
            r"remote process exited or there was a network error",
            r"NCCL WARN .*(?:Call to (?:recv|send|connect)|Connection closed by remote peer|Connection refused)",
        ),
        cause="a connection between ranks broke: the network, or the process at the other end",
        next=_NETWORK,
        source="NVIDIA/nccl#2076, NVIDIA/nccl#795, tatsu-lab/stanford_alpaca#207",
    ),
    FailureKind(
        name="nccl-error",
        category="unknown",
        level=Level.WAITED,
        words=("L error in", "ncclInternalError", "ncclUnhandledCudaError", "ncclInvalidUsage"),
        patterns=(r"NCCL error in", r"nccl(?:InternalError|UnhandledCudaError|InvalidUsage)\b"),
        cause="NCCL failed inside a collective",
        next="run with NCCL_DEBUG=INFO: its line `Last error` names the call",
        source="NVIDIA/nccl#795 and #1241",
    ),
    FailureKind(
        name="peer-lost",
        category="network",
        level=Level.WAITED,
        words=(
            "Connection closed by peer",
            "Connection reset",
            "Broken pipe",
            "BrokenPipe",
            "ConnectionReset",
            "EOFError",
            "DistNetworkError",
            "DistBackendError",
            "DistStoreError",
            "gloo/transport",
        ),
        patterns=(
            r"gloo/transport.*(?:Connection closed|Connection reset|Timed out waiting|Read error|Write error)",
            r"Connection closed by peer",
            r"^(?:[\w.]+\.)?(?:Dist(?:Network|Backend|Store)Error|BrokenPipeError|ConnectionResetError|EOFError)\b",
            r"(?:recv|send).{0,200}(?:Connection reset|Broken pipe)",
        ),
        cause="a rank lost its connection to another one, which had ended",
        next=_NETWORK,
        source="gloo tcp/pair.cc, torch TCPStore",
    ),
    FailureKind(
        name="time-limit",
        category="timeout",
        level=Level.WAITED,
        words=("TIME LIMIT",),
        patterns=(r"DUE TO TIME LIMIT",),
        cause="the scheduler ended the job at its time limit",
        next="ask for more time, or resume from the last checkpoint",
        source="slurmstepd",
    ),
    FailureKind(
        name="interrupted",
        category="unknown",
        level=Level.WAITED,
        words=("KeyboardInterrupt", "PREEMPTION", "got signal: "),
        patterns=(
            r"^KeyboardInterrupt",
            r"DUE TO PREEMPTION",
            r"SignalException: Process \d+ got signal: (?:1|2|15)\b",
        ),
        cause="the job was stopped from outside",
        next="start it again from its last checkpoint",
        source="Python, slurmstepd, torchrun",
    ),
    FailureKind(
        name="nccl-abort",
        category="hang",
        level=Level.ENDED,
        words=("L operations have failed", "entire process down", "watchdog thread"),
        patterns=(
            r"Some NCCL operations have failed",
            r"taking the entire process down",
            r"watchdog thread terminated",
        ),
        cause="NCCL ended the process after a collective had failed",
        next="look for what the other ranks said before",
        source="tatsu-lab/stanford_alpaca#207",
    ),
    FailureKind(
        name="cancelled",
        category="unknown",
        level=Level.ENDED,
        words=("CANCELLED AT",),
        patterns=(r"CANCELLED AT",),
        cause="the scheduler or its user ended the job",
        next="look for the task that failed first",
        source="slurmstepd",
    ),
)

_CODE_WORDS = ("xitcode", "xit code", "return code = ", "xited with code")


def _code(codes: str) -> str:
    """Pattern of one of these exit codes in the words of torchrun, DeepSpeed, srun or docker."""
    return rf"(?:exitcode *: *|return code = |exit code |exited with code )(?P<code>{codes})\b"


def _ended_by(signals: str) -> str:
    """Pattern of a child that one of these signals ended, in the words of torchrun or subprocess."""
    return rf"Signal \d+ \(SIG(?:{signals})\)|died with <Signals\.SIG(?:{signals})"


_EXITS = (
    FailureKind(
        name="killed",
        category="host_oom",
        level=Level.KILLED,
        words=(*_CODE_WORDS, "(SIG", "Signals.SIG", ": Killed", "by signal 9"),
        patterns=(
            _code("-9|137"),
            _ended_by("KILL"),
            r"srun: error: .*: tasks? [\d,-]+: Killed",
            r"[Kk]illed by signal 9",
        ),
        cause="a process was killed with SIGKILL: nearly always because the machine had not enough memory (RAM)",
        next="see the machine's kernel log; use fewer data loader workers, no CPU offload, or more memory",
        source="xxayt/MGSV#2, torch/distributed/elastic, deepspeed/launcher/launch.py, srun",
        edits=HOST_EDITS,
        explain=explain.exit_code,
    ),
    FailureKind(
        name="crashed",
        category="unknown",
        level=Level.KILLED,
        words=(*_CODE_WORDS, "(SIG", "Signals.SIG", "Segmentation fault", "xited unexpectedly"),
        patterns=(
            _code("-4|-7|-8|-11|132|135|136|139"),
            _ended_by("SEGV|BUS|ILL|FPE"),
            r"Segmentation fault",
            r"DataLoader worker .* exited unexpectedly",
        ),
        cause="a process crashed in native code",
        next="run that rank with PYTHONFAULTHANDLER=1; suspect a library built for another version, or a full /dev/shm",
        source="NVIDIA/Megatron-LM#1880, torch/distributed/elastic",
        explain=explain.exit_code,
    ),
    FailureKind(
        name="terminated",
        category="unknown",
        level=Level.ENDED,
        words=(*_CODE_WORDS, "(SIG", ": Terminated", ": Aborted"),
        patterns=(
            _code("-15|143|-2|130|-6|134"),
            _ended_by("TERM|INT|ABRT"),
            r"srun: error: .*: tasks? [\d,-]+: (?:Terminated|Aborted)",
        ),
        cause="a process was told to end, or ended itself after a collective had failed",
        next="look at the log of the rank that ended first",
        source="torch/distributed/elastic, srun",
        explain=explain.exit_code,
    ),
    FailureKind(
        name="exited",
        category="unknown",
        level=Level.ENDED,
        words=(*_CODE_WORDS, "ChildFailedError", "CalledProcessError"),
        patterns=(_code(r"[1-9]\d{0,2}"), r"ChildFailedError", r"^(?:subprocess\.)?CalledProcessError"),
        cause="a rank ended with an error, and what it said itself is not in this log",
        next="look at the standard error of that rank (torchrun --tee 3, or its log folder)",
        source="torch/distributed/elastic, srun",
        explain=explain.exit_code,
    ),
)

_UNKNOWN = FailureKind(
    name="exception",
    category="unknown",
    level=Level.RAISED,
    words=("Error: ", "Exception: ", "AssertionError", "NotImplementedError"),
    patterns=(r"^(?:[A-Za-z_][\w.]{0,120}\.)?(?P<exception>[A-Z]\w{0,60}(?:Error|Exception))(?::|$)",),
    cause="the program raised an exception that this table of failures does not know",
    next="read the lines around it in the log",
    source="Python",
)

#: Every kind; of those that match a line the first one counts.
FAILURES: tuple[FailureKind, ...] = (*MEMORY, *SHAPES, *PROGRAM, *_WAITED, *_EXITS, _UNKNOWN)
