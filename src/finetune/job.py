"""Fine-tunes the model in base/ on the rows in data/, in any number of processes, and writes adapter/.

    torchrun --nproc-per-node 2 train.py        or        accelerate launch train.py

Needs torch 2.6 or later, transformers, peft and accelerate. All processes together take the rows of one step of job.json, whose
loss is divided by what its tokens count in all: the result does not depend on the number of processes, but for the
order in which floats are added. Each row of a step goes to one process, so more processes than rows (`batch`) are of
no use; a larger batch wants a new export or another learning rate.
"""

import json
import os
import pathlib

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, set_seed
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
JOB = json.loads((HERE / "job.json").read_text())


def nats(model, rows):
    """What the targets of some rows cost, each times what it counts."""
    logits = model(input_ids=rows["tokens"].long(), use_cache=False).logits.float()
    each = F.cross_entropy(logits.flatten(0, 1), rows["targets"].long().flatten(), reduction="none")
    return (each * rows["counts"].flatten()).sum()


def share(data, first, size, accelerator):
    """The rows of this process among `size` rows from `first`."""
    mine = list(range(first + accelerator.process_index, first + size, accelerator.num_processes))
    rows = {name: tensor[mine or [first]].to(accelerator.device) for name, tensor in data.items()}
    if not mine:
        rows["counts"] = torch.zeros_like(rows["counts"])
    return rows


def validate(model, data, accelerator):
    """Mean nats of the newer lines."""
    model.eval()
    total = torch.zeros((), device=accelerator.device)
    with torch.no_grad():
        for first in range(0, len(data["tokens"]), JOB["batch"]):
            size = min(JOB["batch"], len(data["tokens"]) - first)
            total += nats(model, share(data, first, size, accelerator))
    model.train()
    return float(accelerator.reduce(total, "sum")) / float(data["counts"].sum())


def rate_at(step):
    """Warm-up, the peak, and a linear fall, as a factor of the peak."""
    fall = max(int(JOB["decay"] * JOB["steps"]), 1)
    return min((step + 1) / max(JOB["warmup"], 1), 1.0, (JOB["steps"] - step) / fall)


def main():
    # On processors alone the processes find each other only if they are told how.
    on_cpu = not torch.accelerator.is_available()
    together = on_cpu and int(os.environ.get("WORLD_SIZE", 1)) > 1
    gloo = [InitProcessGroupKwargs(backend="gloo")] if together else []
    accelerator = Accelerator(cpu=on_cpu, kwargs_handlers=gloo)
    set_seed(JOB["seed"])
    model = AutoModelForCausalLM.from_pretrained(HERE / "base", dtype=torch.float32)
    lora = LoraConfig(
        r=JOB["rank"], lora_alpha=JOB["alpha"], target_modules=JOB["modules"], task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, lora)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=JOB["learning_rate"], betas=JOB["betas"], weight_decay=JOB["weight_decay"]
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    train, newer = (load_file(HERE / "data" / f"{name}.safetensors") for name in ("train", "validation"))
    result = {"processes": accelerator.num_processes, "losses": [], "validation": []}
    result["validation"].append(validate(model, newer, accelerator))
    for step in range(JOB["steps"]):
        first = step * JOB["batch"]
        counted = train["counts"][first : first + JOB["batch"]].sum().to(accelerator.device)
        cost = nats(model, share(train, first, JOB["batch"], accelerator))
        # The gradients of the processes are averaged, and this makes it their sum.
        accelerator.backward(cost / counted * accelerator.num_processes)
        accelerator.clip_grad_norm_(trained, JOB["clip"])
        for group in optimizer.param_groups:
            group["lr"] = JOB["learning_rate"] * rate_at(step)
        optimizer.step()
        optimizer.zero_grad()
        result["losses"].append(float(accelerator.reduce(cost.detach(), "sum") / counted))
        accelerator.print(f"step {step + 1}/{JOB['steps']}  loss {result['losses'][-1]:.4f}", flush=True)
    result["validation"].append(validate(model, newer, accelerator))
    accelerator.print(f"newer lines: {result['validation'][0]:.4f} nats before, {result['validation'][1]:.4f} after")
    if accelerator.is_main_process:
        write(accelerator.unwrap_model(model))
        (HERE / "result.json").write_text(json.dumps(result, indent=1))
    accelerator.end_training()


def write(model):
    """The adapter, with the name and the fingerprint of the model that it is for."""
    folder = HERE / "adapter"
    model.save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = JOB["base"]
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))
    tensors = load_file(folder / "adapter_model.safetensors")
    metadata = {"format": "pt", "nestling_base": JOB["fingerprint"]}
    save_file(tensors, folder / "adapter_model.safetensors", metadata=metadata)


if __name__ == "__main__":
    main()
