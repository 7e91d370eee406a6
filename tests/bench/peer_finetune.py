"""Fine-tunes with Transformers (and PEFT) on exported rows, as nestling does: AdamW, f32, the same schedule.

    python tests/bench/peer_finetune.py FOLDER --steps N [--lora RANK ALPHA] [--judge FOLDER...]

FOLDER is what `nestling train --export-rows` made: config.json, train.toml, initial.safetensors, rows/. Prints one
JSON object: losses and seconds of every step, the peak of resident memory, and the mean loss on the rows after
those trained on: of its own result, and of each folder to judge (an adapter, or a model directory).
"""

import argparse
import json
import pathlib
import resource
import sys
import time
import tomllib

import numpy
import safetensors.torch
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def base_model(folder):
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    weights = safetensors.torch.load_file(folder / "initial.safetensors")
    missing, unknown = model.load_state_dict(weights, strict=False)
    assert not unknown and set(missing) <= {"lm_head.weight"}, (missing, unknown)
    model.tie_weights()
    return model


def loss_of(model, rows):
    rows = torch.from_numpy(rows.astype(numpy.int64))
    logits = model(rows[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


def judged(model, rows, batch):
    model.eval()
    with torch.no_grad():
        parts = [rows[at : at + batch] for at in range(0, len(rows), batch)]
        return sum(float(loss_of(model, part)) * len(part) for part in parts) / max(len(rows), 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--lora", type=float, nargs=2, metavar=("RANK", "ALPHA"))
    parser.add_argument("--judge", type=pathlib.Path, nargs="*", default=[])
    args = parser.parse_args()
    train = tomllib.loads((args.folder / "train.toml").read_text())["train"]
    settings, batch = train["optimizer"], train["batch"]
    rows = numpy.concatenate([numpy.load(file) for file in sorted((args.folder / "rows").glob("rows-*.npy"))])
    unseen = rows[args.steps * batch :]
    torch.manual_seed(train["seed"])
    model = base_model(args.folder)
    if args.lora:
        from peft import LoraConfig, get_peft_model

        rank, alpha = int(args.lora[0]), args.lora[1]
        model = get_peft_model(
            model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS, task_type="CAUSAL_LM")
        )
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim == 2], "weight_decay": settings["weight_decay"]},
        {"params": [p for p in trained if p.ndim != 2], "weight_decay": 0.0},
    ]
    betas = tuple(settings.get("betas", (0.9, 0.95)))
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=settings["learning_rate"], betas=betas)
    decay = max(int(train["decay"] * args.steps), 1)
    losses, seconds = [], []
    for step in range(args.steps):
        began = time.perf_counter()
        scale = min((step + 1) / max(train["warmup"], 1), 1.0, (args.steps - step) / decay)
        for group in optimizer.param_groups:
            group["lr"] = settings["learning_rate"] * scale
        loss = loss_of(model, rows[step * batch : (step + 1) * batch])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, settings["clip"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss))
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    answer = {
        "tokens_per_step": batch * (rows.shape[1] - 1), "losses": losses, "seconds": seconds, "peak": peak,
        "trained": sum(p.numel() for p in trained), "unseen": judged(model, unseen, batch), "judged": [],
    }
    for folder in args.judge:
        if (folder / "adapter_config.json").exists():
            from peft import PeftModel

            other = PeftModel.from_pretrained(base_model(args.folder), folder)
        else:
            other = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        answer["judged"].append(judged(other, unseen, batch))
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
