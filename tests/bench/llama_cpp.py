"""Measures the engine beside llama.cpp: same GGUF file, same threads, alternating rounds.

Each round runs a prefill of 512 tokens and a decode of 64 tokens after them: first in
nestling, then in llama.cpp without and with flash attention. The rounds alternate so that
a machine that slows down slows both. llama.cpp is credited with the better of its two
ways, and only its decode calls are timed. The token ids are fixed; nothing is sampled.
A busy machine hurts the two sides unequally, so the script says when it was not idle.

    CMAKE_ARGS="-DGGML_NATIVE=ON" tests/bench/.cache/venv/bin/pip install llama-cpp-python
    tests/bench/.cache/venv/bin/python tests/bench/llama_cpp.py --nestling target/release/nestling

The first line needs cmake and a C++ compiler and takes some minutes. The model comes from
make_gguf.py, whose header also makes the environment; --gguf names another one.
Without --nestling, llama.cpp alone is measured. The nestling side is this command, which
warms up once, measures once, and prints one JSON object with prefill_tok_s and decode_tok_s:

    nestling eval engine --model FILE --prompt-tokens 512 --decode-tokens 64 --rounds 1 --json
"""

import argparse
import ctypes
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Without this, `import llama_cpp` would find this file instead of the library.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != HERE]

CACHE = HERE / ".cache"
NESTLING, PLAIN, FLASH = "nestling", "llama.cpp", "llama.cpp flash"
METRICS = ("prefill_tok_s", "decode_tok_s")
MEGABYTE = 1e6
BUSY_LIMIT = 0.1  # processors that others may use before a run counts as disturbed
IDS_BELOW = 256  # every vocabulary has at least the byte tokens


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gguf", type=Path, default=CACHE / "qwen3-54m-q8_0.gguf")
    parser.add_argument("--nestling", type=Path, help="the binary to measure")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--decode-tokens", type=int, default=64)
    parser.add_argument("--json", type=Path, default=CACHE / "llama_cpp.json")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    if not arguments.gguf.is_file():
        parser.error(f"{arguments.gguf} is missing: run make_gguf.py, or pass --gguf FILE")
    if arguments.nestling and not arguments.nestling.is_file():
        parser.error(f"{arguments.nestling} is missing: run cargo build --release")
    return arguments


def confine(threads):
    """Gives this process and its children `threads` processors, so that no side can use more."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for name in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ[name] = str(threads)


def processor_seconds():
    """Processor time used so far: by the whole machine (None off Linux), and by this benchmark."""
    own = sum(os.times()[:4])
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    except OSError:
        return None, own
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, fields)
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK"), own


def watched(measure):
    """One measurement, with the number of processors that other programs kept busy meanwhile."""
    (machine, own), start = processor_seconds(), time.perf_counter()
    sample = measure()
    (machine_after, own_after), wall = processor_seconds(), time.perf_counter() - start
    if machine is not None:
        sample["others_busy"] = max(0.0, machine_after - machine - (own_after - own)) / wall
    return sample


class LlamaCpp:
    """One llama.cpp context, called at the level of llama_decode."""

    def __init__(self, api, model, arguments, flash):
        params = api.llama_context_default_params()
        params.n_ctx = max(1024, arguments.prompt_tokens + arguments.decode_tokens)
        params.n_batch = params.n_ubatch = max(512, arguments.prompt_tokens)
        params.n_threads = params.n_threads_batch = arguments.threads
        params.flash_attn_type = (
            api.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        self.api = api
        self.context = api.llama_init_from_model(model, params)
        if not self.context:
            sys.exit("llama.cpp could not make a context")

    def decode(self, tokens):
        """Runs the tokens after those already there; logits for the last one only."""
        batch = self.api.llama_batch_get_one(tokens, len(tokens))
        if self.api.llama_decode(self.context, batch) != 0:
            sys.exit("llama.cpp could not decode")
        self.api.llama_synchronize(self.context)

    def measure(self, arguments):
        ids = [(index * 37 + 11) % IDS_BELOW for index in range(arguments.prompt_tokens)]
        prompt = (ctypes.c_int32 * len(ids))(*ids)
        token = (ctypes.c_int32 * 1)()
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)

        start = time.perf_counter()
        self.decode(prompt)
        prefill = time.perf_counter() - start
        decode = 0.0
        for index in range(arguments.decode_tokens):
            token[0] = (index * 53 + 7) % IDS_BELOW
            start = time.perf_counter()
            self.decode(token)
            decode += time.perf_counter() - start
        return {
            "prefill_tok_s": arguments.prompt_tokens / prefill,
            "decode_tok_s": arguments.decode_tokens / decode,
        }


def load_llama_cpp(arguments):
    """Both llama.cpp contexts on one set of weights, warmed up, and the build's description."""
    try:
        import llama_cpp as api
    except ImportError:
        sys.exit("llama-cpp-python is not installed in this Python; see the top of this script")
    silent = api.llama_log_callback(lambda level, text, data: None)
    api.llama_log_set(silent, ctypes.c_void_p(0))
    api.llama_backend_init()
    params = api.llama_model_default_params()
    params.n_gpu_layers = 0
    model = api.llama_model_load_from_file(str(arguments.gguf).encode(), params)
    if not model:
        sys.exit(f"llama.cpp could not load {arguments.gguf}")
    peers = {
        PLAIN: LlamaCpp(api, model, arguments, flash=False),
        FLASH: LlamaCpp(api, model, arguments, flash=True),
    }
    peers[PLAIN].silent = silent  # the library keeps only a raw pointer to it
    for peer in peers.values():
        peer.measure(arguments)
    description = {
        "llama_cpp_python": api.__version__,
        "system_info": api.llama_print_system_info().decode().strip(),
    }
    return peers, description


def measure_nestling(arguments):
    command = [
        str(arguments.nestling.resolve()), "eval", "engine",
        "--model", str(arguments.gguf),
        "--prompt-tokens", str(arguments.prompt_tokens),
        "--decode-tokens", str(arguments.decode_tokens),
        "--rounds", "1",
        "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nexit code {done.returncode}\n{done.stderr.strip()}")
    try:
        answer = json.loads(done.stdout)
        return {metric: float(answer[metric]) for metric in METRICS}
    except (ValueError, KeyError, TypeError) as error:
        sys.exit(f"{' '.join(command)}\nprinted no usable JSON ({error!r}):\n{done.stdout}")


def summarize(samples):
    """Medians and best values per side and metric; with nestling, its ratios to the better peer."""
    result = {}
    for title, pick in (("median", statistics.median), ("best", max)):
        values = {
            side: {metric: pick([sample[metric] for sample in taken]) for metric in METRICS}
            for side, taken in samples.items()
        }
        result[title] = values
        if NESTLING in values:
            result[f"{title}_ratio"] = {
                metric: values[NESTLING][metric] / max(values[PLAIN][metric], values[FLASH][metric])
                for metric in METRICS
            }
    return result


def print_table(samples, summary):
    columns = [(title, metric) for metric in METRICS for title in ("median", "best")]
    names = {"prefill_tok_s": "prefill", "decode_tok_s": "decode"}
    print(f"{'tok/s':<18}" + "".join(f"{names[m] + ' ' + t:>16}" for t, m in columns))
    for side in samples:
        print(f"{side:<18}" + "".join(f"{summary[t][side][m]:>16.1f}" for t, m in columns))
    if NESTLING in samples:
        row = "".join(f"{summary[t + '_ratio'][m]:>15.2f}x" for t, m in columns)
        print(f"{'ratio to better':<18}{row}")
    busy = [sample.get("others_busy", 0.0) for taken in samples.values() for sample in taken]
    if statistics.median(busy) > BUSY_LIMIT:
        print(
            f"Not a clean run: other programs kept {statistics.median(busy):.1f} processors busy "
            "(median over the samples). Run it again on an idle machine.",
            file=sys.stderr,
        )


def main():
    arguments = parse_arguments()
    confine(arguments.threads)
    peers, description = load_llama_cpp(arguments)
    sides = {}
    if arguments.nestling:
        sides[NESTLING] = lambda: measure_nestling(arguments)
    for name, peer in peers.items():
        sides[name] = lambda peer=peer: peer.measure(arguments)

    samples = {name: [] for name in sides}
    for _ in range(arguments.rounds):
        for name, measure in sides.items():
            samples[name].append(watched(measure))

    summary = summarize(samples)
    print_table(samples, summary)
    memory = {}
    if arguments.nestling:
        # Its children are nestling alone; kilobytes on Linux.
        memory = {"peak": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / MEGABYTE,
                  "file": arguments.gguf.stat().st_size / MEGABYTE}  # fmt: skip
        print(f"memory of nestling {memory['peak']:.0f} MB at most; the file has {memory['file']:.0f} MB")
    result = {
        "model": arguments.gguf.name,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "prompt_tokens": arguments.prompt_tokens,
        "decode_tokens": arguments.decode_tokens,
        "machine": platform.machine(),
        "peer": description,
        "memory_mb": memory,
        **summary,
        "samples": samples,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
