"""Fine-tuning beside Transformers + PEFT: the same start, rows, batch, f32, AdamW; LoRA and all weights.

    tests/interop/setup.sh
    python tests/bench/finetune_peft.py NESTLING CORPUS [--model PATH] [--steps 40] [--batch 4] [--sequence 512]
        [--rank 16] [--rounds 2] [--methods lora full] [--python PYTHON]

Prints for each method tokens per second (the best of the rounds), the peak of resident memory of the whole
process, and the mean loss on rows that neither trained on, judged by the same PyTorch code for both. What
nestling wrote goes through PEFT for that. PYTHON needs torch, transformers, peft; the default is what
tests/interop/setup.sh installs. Debian's torch multiplies matrices ten times slower than one with MKL: for
figures name a PYTHON that has MKL. Both use all cores; nothing else should run. The first steps are not timed.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
INTEROP = ROOT / "tests/interop/.cache"
UNTIMED = 3
UNSEEN = 8  # batches

RECIPE = """\
{method}[train]
batch = {batch}
warmup = 5
evaluate_every = 1000000
save_seconds = 1000000
[train.optimizer]
learning_rate = {rate}
weight_decay = 0.01
muon = false
betas = [0.9, 0.999]
average = 0
[examples]
sequence = {sequence}
[prepare]
any_licence = true
no_held_out = true
"""


def run(command, **more):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **more)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr[-3000:]}")
    return done.stdout


def nestling(args, model, corpus, out, recipe, steps, *more):
    command = [args.nestling, "--model", model, "train", corpus, "--out", out, "--config", recipe]
    command += ["--range-test", "false", "--steps", steps, *more]
    # Its children are waited for one by one: the largest so far would hide the peak of a smaller one.
    wrapper = [sys.executable, "-c", MEASURE, *map(str, command)]
    answer = json.loads(run(wrapper))
    if answer["code"]:
        sys.exit(answer["stderr"][-3000:])
    return answer


MEASURE = """
import json, resource, subprocess, sys
run = subprocess.run(sys.argv[1:], capture_output=True, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
json.dump({"code": run.returncode, "stdout": run.stdout, "stderr": run.stderr, "peak": peak}, sys.stdout)
"""


def prepare(args, method, folder):
    """Rows, start and recipe that both sides take."""
    lora = f"[train.method.lora]\nrank = {args.rank}\nalpha = {2 * args.rank}.0\n" if method == "lora" else ""
    recipe = folder / "recipe.toml"
    rate = args.learning_rate or (1e-3 if method == "lora" else 1e-4)
    recipe.write_text(RECIPE.format(method=lora, batch=args.batch, rate=rate, sequence=args.sequence))
    shared = folder / "shared"
    count = (args.steps + UNSEEN) * args.batch
    nestling(args, args.model, args.corpus, shared, recipe, args.steps, "--export-rows", count)
    start = folder / "start"
    start.mkdir()
    shutil.copy(shared / "initial.safetensors", start / "model.safetensors")
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(shared / name, start)
    data = shared / "data" if (shared / "data").exists() else args.corpus
    return recipe, shared, start, data


def ours(args, method, recipe, start, data, folder):
    answer = nestling(args, start, data, folder, recipe, args.steps, "--json")
    curve = json.loads(answer["stdout"])["progress"]["curve"]
    # `speed` is the mean since the start, first steps included: they cost nothing extra here.
    return {"speed": curve[-1]["speed"], "peak": answer["peak"],
            "losses": {point["step"]: point["loss"] for point in curve[1:]},
            "result": folder / "adapter" if method == "lora" else folder}


def theirs(args, method, shared, judge):
    command = [args.python, ROOT / "tests/bench/peer_finetune.py", shared, "--steps", args.steps]
    if method == "lora":
        command += ["--lora", args.rank, 2 * args.rank]
    if judge:
        command += ["--judge", *judge]
    beside = args.python.parent.parent / "peft"  # where setup.sh puts it
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
                   "PYTHONPATH": f"{beside}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    answer = json.loads(run(command, env=environment))
    times = answer["seconds"][UNTIMED:]
    answer["speed"] = answer["tokens_per_step"] * len(times) / sum(times)
    answer["losses"] = {at: sum(answer["losses"][at - 9 : at + 1]) / 10 for at in range(10, args.steps, 10)}
    return answer


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("nestling", type=pathlib.Path)
    parser.add_argument("corpus", type=pathlib.Path)
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models/base/model.gguf")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--sequence", type=int, default=512)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=["lora", "full"], choices=["lora", "full"])
    parser.add_argument("--python", type=pathlib.Path, default=INTEROP / "bin/transformers-python")
    args = parser.parse_args()
    assert args.steps > 10, "the first speed is told after ten steps"
    for method in args.methods:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            recipe, shared, start, data = prepare(args, method, folder)
            mine, peer = [], []
            for number in range(args.rounds):
                mine.append(ours(args, method, recipe, start, data, folder / f"mine-{number}"))
                last = number + 1 == args.rounds
                peer.append(theirs(args, method, shared, [mine[-1]["result"]] if last else []))
        speed = [max(one["speed"] for one in side) for side in (mine, peer)]
        peak = [min(one["peak"] for one in side) for side in (mine, peer)]
        loss = [peer[-1]["judged"][0], peer[-1]["unseen"]]
        print(f"{method}: {peer[-1]['trained']} parameters trained, {args.steps} steps of {args.batch} x {args.sequence} tokens")
        for what, (a, b), unit in (("speed", speed, "tok/s"), ("peak memory", [p / 1e6 for p in peak], "MB"), ("unseen loss", loss, "nats")):
            digits = 4 if unit == "nats" else 0
            print(f"  {what:12} nestling {a:9.{digits}f} {unit:6} peer {b:9.{digits}f} {unit:6} ratio {a / b:.3f}")
        for step, value in peer[-1]["losses"].items():
            print(f"  step {step:5}    nestling {mine[-1]['losses'].get(step, float('nan')):9.4f}        peer {value:9.4f}", flush=True)


if __name__ == "__main__":
    main()
