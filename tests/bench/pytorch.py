"""Training beside PyTorch: the same model, weights and examples, tokens per second and loss step by step.

    python tests/bench/pytorch.py NESTLING CORPUS [--size nano] [--steps 60] [--rounds 2] [--picture FILE.svg]

Alternates `nestling train` and models/base/pretrain.py in f32, then runs PyTorch with bf16 autocast. Prints the
speeds (the best of the rounds of each), their ratios, and the losses of both curves. Needs torch, numpy,
safetensors. Both use all cores; nothing else should run.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]


def nestling(binary, corpus, folder, size, steps, *more):
    command = [binary, "train", corpus, "--out", folder, "--size", size, "--range-test", "false", *more]
    result = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    return result.stdout


def ours(args, data, folder):
    out = nestling(args.nestling, data, folder, args.size, args.steps, "--steps", args.steps, "--json")
    progress = json.loads(out)["progress"]
    # Means of ten steps each; the first point is one step alone.
    losses = {point["step"]: point["loss"] for point in progress["curve"][1:]}
    return progress["curve"][-1]["speed"], losses


def theirs(args, folder, dtype):
    log = folder / f"{dtype}.jsonl"
    log.unlink(missing_ok=True)
    script = ROOT / "models/base/pretrain.py"
    command = [sys.executable, script, folder, "--steps", args.steps, "--dtype", dtype]
    command += ["--device", "cpu", "--keep-weights", "--log", log]
    subprocess.run([*map(str, command)], check=True, capture_output=True)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    config = json.loads((folder / "config.json").read_text())
    tokens = config["max_position_embeddings"] * args.batch
    # The first steps allocate and warm up.
    times = [line["seconds"] for line in lines[5:]]
    losses = {
        at: sum(line["loss"] for line in lines[at - 9 : at + 1]) / 10
        for at in range(10, len(lines), 10)
    }
    return tokens * len(times) / sum(times), losses


def picture(curves):
    """The curves as SVG."""
    width, height, left, top = 720, 300, 50, 30
    points = [p for curve in curves.values() for p in curve.items()]
    low, high = min(y for _, y in points), max(y for _, y in points)
    most = max(x for x, _ in points)
    place = lambda x, y: (
        left + (width - left - 20) * x / most,
        top + (height - top - 40) * (high - y) / max(high - low, 1e-9),
    )
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{width}" height="{height}" fill="#fff"/>',
             f'<text x="{left}" y="18" font-size="14">Training loss beside PyTorch, nats per token by step</text>']
    for row, ((name, curve), colour) in enumerate(zip(curves.items(), ("#0072b2", "#d55e00", "#009e73"))):
        line = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in curve.items())
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{width - 180}" y="{top + 16 * (row + 1)}" fill="{colour}">{name}</text>')
    for y in (low, (low + high) / 2, high):
        parts.append(f'<text x="6" y="{place(0, y)[1] + 4:.0f}">{y:.2f}</text>')
    for x in (0, most // 2, most):
        parts.append(f'<text x="{place(x, low)[0]:.0f}" y="{height - 14}" text-anchor="middle">{x}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("nestling", type=pathlib.Path)
    parser.add_argument("corpus", type=pathlib.Path)
    parser.add_argument("--size", default="nano")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--picture", type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shared = pathlib.Path(folder) / "shared"
        nestling(args.nestling, args.corpus, shared, args.size, 1, "--export-rows", "1")
        args.batch = tomllib.loads((shared / "train.toml").read_text())["train"]["batch"]
        rows = str(args.steps * args.batch)
        nestling(args.nestling, args.corpus, shared, args.size, 1, "--export-rows", rows)
        # The corpus as it was prepared; itself, if it was that already.
        data = shared / "data" if (shared / "data").exists() else args.corpus
        speeds, curves = {"nestling f32": [], "torch f32": []}, {}
        for number in range(args.rounds):
            mine = pathlib.Path(folder) / f"mine-{number}"
            mine.mkdir()
            shutil.copy(shared / "tokenizer.json", mine)
            for name, (speed, losses) in {
                "nestling f32": ours(args, data, mine),
                "torch f32": theirs(args, shared, "f32"),
            }.items():
                speeds[name].append(speed)
                curves[name] = losses
        speed, curves["torch bf16"] = theirs(args, shared, "bf16")
        speeds["torch bf16"] = [speed]
    best = {name: max(list_) for name, list_ in speeds.items()}
    for name, speed in best.items():
        print(f"{name:14}{speed:8.0f} tok/s   nestling f32 is {best['nestling f32'] / speed:.2f} of it")
    print(f"{'step':>6}" + "".join(f"{name:>16}" for name in curves))
    for step in curves["torch f32"]:
        print(f"{step:6}" + "".join(f"{curve.get(step, float('nan')):16.4f}" for curve in curves.values()))
    if args.picture:
        args.picture.write_text(picture(curves))


if __name__ == "__main__":
    main()
