"""Trains a model on a GPU (or a CPU) with PyTorch, by the recipe and on the examples of `nestling train`.

    nestling train CORPUS... --config models/base/train.toml --out DIR --export-rows 500000
    python models/base/pretrain.py DIR --steps 15000

The first command writes DIR/config.json, DIR/train.toml, DIR/tokenizer.json, the initial weights and the
examples as DIR/rows/*.npy; this script trains on them in order, with the same optimizer and schedule, and
writes DIR/model.safetensors. `nestling quantize DIR --out model.gguf` makes the file to ship.
Needs: torch, numpy, safetensors, Python 3.11.
"""

import argparse
import json
import math
import pathlib
import signal
import time
import tomllib

import numpy
import safetensors.torch
import torch
import torch.nn.functional as F

BETA1, BETA2, MOMENTUM, EPSILON = 0.9, 0.95, 0.95, 1e-8


def rms_norm(x, weight, epsilon):
    return F.rms_norm(x, (weight.shape[-1],), weight, epsilon)


class Model(torch.nn.Module):
    """qwen3: RMSNorm, QK-norm, RoPE, grouped queries, SwiGLU, tied embeddings. Parameters by checkpoint name."""

    def __init__(self, config, weights):
        super().__init__()
        self.config = config
        # Names of modules may not hold dots.
        self.table = torch.nn.ParameterDict(
            {name.replace(".", "|"): torch.nn.Parameter(w.clone()) for name, w in weights.items()}
        )
        positions, half = config["max_position_embeddings"], config["head_dim"] // 2
        theta = config["rope_theta"] ** (-torch.arange(half, dtype=torch.float32) / half)
        angles = torch.arange(positions, dtype=torch.float32)[:, None] * theta[None]
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def named(self):
        return {name.replace("|", "."): p for name, p in self.table.items()}

    def rotate(self, x):
        a, b = x.chunk(2, dim=-1)
        cos, sin = self.cos[: x.shape[-2]].to(x.dtype), self.sin[: x.shape[-2]].to(x.dtype)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)

    def forward(self, tokens, targets):
        c, w, eps = self.config, self.named(), self.config["rms_norm_eps"]
        batch, length = tokens.shape
        heads, kv_heads, size = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        embed = w["model.embed_tokens.weight"]
        x = F.embedding(tokens, embed)
        for layer in range(c["num_hidden_layers"]):
            p = lambda name: w[f"model.layers.{layer}.{name}.weight"]
            h = rms_norm(x, p("input_layernorm"), eps)
            split = lambda t, n: t.view(batch, length, n, size).transpose(1, 2)
            q = split(F.linear(h, p("self_attn.q_proj")), heads)
            k = split(F.linear(h, p("self_attn.k_proj")), kv_heads)
            v = split(F.linear(h, p("self_attn.v_proj")), kv_heads)
            q = self.rotate(rms_norm(q, p("self_attn.q_norm"), eps))
            k = self.rotate(rms_norm(k, p("self_attn.k_norm"), eps))
            y = F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), is_causal=True, enable_gqa=True)
            x = x + F.linear(y.transpose(1, 2).reshape(batch, length, -1), p("self_attn.o_proj"))
            h = rms_norm(x, p("post_attention_layernorm"), eps)
            gate = F.silu(F.linear(h, p("mlp.gate_proj"))) * F.linear(h, p("mlp.up_proj"))
            x = x + F.linear(gate, p("mlp.down_proj"))
        logits = F.linear(rms_norm(x, w["model.norm.weight"], eps), embed)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def orthogonalize(m, dtype):
    """Five quintic Newton-Schulz steps (Jordan et al. 2024)."""
    x = (m.mT if m.shape[0] > m.shape[1] else m).to(dtype)
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (2.0315 * (a @ a) - 4.7750 * a) @ x
    return (x.mT if m.shape[0] > m.shape[1] else x).float()


class Optimizer:
    """Muon for the matrices of the layers, AdamW for the rest: src/train/optimizer.rs in PyTorch."""

    def __init__(self, parameters, settings, dtype):
        self.settings, self.dtype, self.step_number = settings, dtype, 0
        self.parameters = parameters
        self.first = {n: torch.zeros_like(p) for n, p in parameters.items()}
        self.second = {n: torch.zeros_like(p) for n, p in parameters.items() if not self.hidden(n, p)}

    def hidden(self, name, p):
        return self.settings["muon"] and p.ndim == 2 and ".layers." in name

    @torch.no_grad()
    def step(self, scale):
        s, ps = self.settings, self.parameters
        norm = torch.nn.utils.clip_grad_norm_(ps.values(), s["clip"])
        self.step_number += 1
        rate = s["learning_rate"] * scale
        for name, p in ps.items():
            g, m = p.grad, self.first[name]
            if p.ndim == 2:
                p.mul_(1 - rate * s["weight_decay"])
            if self.hidden(name, p):
                m.mul_(MOMENTUM).add_(g)
                update = orthogonalize(m * MOMENTUM + g, self.dtype)
                p.sub_(update, alpha=rate * 0.2 * math.sqrt(max(p.shape)))
            else:
                v = self.second[name]
                m.lerp_(g, 1 - BETA1)
                v.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
                fix1, fix2 = 1 - BETA1**self.step_number, 1 - BETA2**self.step_number
                p.sub_(m / fix1 / ((v / fix2).sqrt() + EPSILON), alpha=rate)
            p.grad = None
        return norm

    def state(self):
        return {"step": self.step_number, "first": self.first, "second": self.second}

    def load(self, state):
        self.step_number = state["step"]
        for mine, saved in ((self.first, state["first"]), (self.second, state["second"])):
            for name in mine:
                mine[name].copy_(saved[name])


class Rows:
    """The exported examples, in order, from the start again when they are used up."""

    def __init__(self, folder):
        files = sorted(pathlib.Path(folder).glob("rows-*.npy"))
        if not files:
            raise SystemExit(f"{folder} holds no rows-*.npy: run nestling train with --export-rows first")
        self.parts = [numpy.load(file, mmap_mode="r") for file in files]
        self.starts = numpy.cumsum([0] + [len(part) for part in self.parts])

    def batch(self, first, size):
        rows = []
        for index in range(first, first + size):
            index %= self.starts[-1]
            part = numpy.searchsorted(self.starts, index, side="right") - 1
            rows.append(self.parts[part][index - self.starts[part]])
        rows = torch.from_numpy(numpy.stack(rows).astype(numpy.int64))
        return rows[:, :-1], rows[:, 1:]


def save(folder, model, shard_bytes):
    """Safetensors as Transformers reads them, in one file or in shards with an index."""
    weights = {name: p.detach().float().cpu().contiguous() for name, p in model.named().items()}
    shards, size = [{}], 0
    for name, weight in weights.items():
        if size + weight.nbytes > shard_bytes and shards[-1]:
            shards, size = [*shards, {}], 0
        shards[-1][name], size = weight, size + weight.nbytes
    # Shards of an earlier save would be read beside these.
    for old in (*folder.glob("model*.safetensors"), folder / "model.safetensors.index.json"):
        old.unlink(missing_ok=True)
    if len(shards) == 1:
        safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
        return
    where = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        safetensors.torch.save_file(shard, folder / file, {"format": "pt"})
        where.update({name: file for name in shard})
    index = {"metadata": {"total_size": sum(w.nbytes for w in weights.values())}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--steps", type=int, required=True, help="steps of the whole run")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop and save after this time; run again to go on")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["bf16", "f32"], default=None, help="bf16 on a GPU by default")
    parser.add_argument("--micro-batch", type=int, default=None, help="sequences at once; the batch by default")
    parser.add_argument("--log", type=pathlib.Path, help="one JSON line for each step")
    parser.add_argument("--keep-weights", action="store_true", help="write nothing: for comparisons")
    parser.add_argument("--shard-mb", type=float, default=math.inf, help="largest weight file")
    args = parser.parse_args()

    config = json.loads((args.folder / "config.json").read_text())
    recipe = tomllib.loads((args.folder / "train.toml").read_text())["train"]
    cuda = args.device.startswith("cuda")
    half = (args.dtype or ("bf16" if cuda else "f32")) == "bf16"
    torch.set_float32_matmul_precision("high" if cuda else "highest")
    initial = safetensors.torch.load_file(args.folder / "initial.safetensors")
    model = Model(config, initial).to(args.device)
    optimizer = Optimizer(model.named(), recipe["optimizer"], torch.bfloat16 if cuda else torch.float32)
    rows = Rows(args.folder / "rows")
    state = args.folder / "pretrain.pt"
    if state.exists() and not args.keep_weights:
        saved = torch.load(state, map_location=args.device, weights_only=True)
        with torch.no_grad():
            for name, p in model.named().items():
                p.copy_(saved["weights"][name])
        optimizer.load(saved["optimizer"])
        print(f"going on from step {optimizer.step_number}")
    forward = torch.compile(model) if cuda else model

    stop = []
    signal.signal(signal.SIGINT, lambda *_: stop.append(True))
    batch, steps = recipe["batch"], args.steps
    micro = min(args.micro_batch or batch, batch)
    decay = max(int(recipe["decay"] * steps), 1)
    log = args.log.open("a") if args.log else None
    started, before = time.time(), time.time()
    while optimizer.step_number < steps and not stop and time.time() - started < args.seconds:
        step = optimizer.step_number
        tokens, targets = rows.batch(step * batch, batch)
        total = 0.0
        for at in range(0, batch, micro):
            part = [t[at : at + micro].to(args.device, non_blocking=True) for t in (tokens, targets)]
            with torch.autocast(args.device.split(":")[0], torch.bfloat16, enabled=half):
                loss = forward(*part) * (len(part[0]) / batch)
            loss.backward()
            total += loss.detach()
        scale = min((step + 1) / max(recipe["warmup"], 1), 1.0, (steps - step) / decay)
        norm = optimizer.step(scale)
        if log or step % 50 == 0:
            value, now = float(total), time.time()
            line = {"step": step, "loss": value, "gradient_norm": float(norm), "seconds": now - before}
            before = now
            if log:
                log.write(json.dumps(line) + "\n")
                log.flush()
            if step % 50 == 0:
                speed = (step % steps + 1) * tokens.numel() / max(now - started, 1e-9)
                print(f"step {step}/{steps} loss {value:.4f} {speed:.0f} tok/s", flush=True)
    if not args.keep_weights:
        weights = {name: p.detach() for name, p in model.named().items()}
        fresh = state.with_suffix(".new")
        torch.save({"weights": weights, "optimizer": optimizer.state()}, fresh)
        fresh.rename(state)
        save(args.folder, model, args.shard_mb * 1e6)


if __name__ == "__main__":
    main()
