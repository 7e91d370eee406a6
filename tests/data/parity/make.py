"""Makes the tiny random models beside this file, and the answers of Hugging Face Transformers.

One folder per decoder family, each with config.json, safetensors and reference.json:

    llama   F32, untied head, two shards with an index
    qwen2   BF16, tied head, biases on q, k and v
    qwen3   F16, tied head, QK-norm, head_dim wider than hidden / heads

The reference holds prompts as token ids, the logits after the last prompt token, and 32
greedy tokens. It is computed in F32 from the stored weights, whatever type stores them.
Norm weights and biases are random too, and the epsilons large, so that a loader that drops
one is caught. Version 5 of the library writes config.json with other names than version 4;
most published models have the older ones, so llama and qwen2 have them here.
A seed is taken only if every greedy step is decided by a clear margin.

    python3 -m venv /tmp/parity-venv && /tmp/parity-venv/bin/pip install torch transformers
    /tmp/parity-venv/bin/python tests/data/parity/make.py
"""

import json
import shutil
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

HERE = Path(__file__).resolve().parent
PROMPT_LENGTHS = (5, 17, 40)
GREEDY_TOKENS = 32
MIN_MARGIN = 5e-3  # between the two best logits of a greedy step
MIN_DISTINCT = 12  # different tokens in one greedy continuation
MAX_SEEDS = 500
VOCAB = 256

SHAPE = dict(
    vocab_size=VOCAB,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    initializer_range=0.2,
    bos_token_id=None,
    eos_token_id=None,
)

FAMILIES = {
    "llama": dict(
        config=lambda: LlamaConfig(
            **SHAPE, intermediate_size=96, rms_norm_eps=1e-3, tie_word_embeddings=False
        ),
        rope_theta=10_000.0,
        dtype=torch.float32,
        shard="220KB",
        config_layout=4,
    ),
    "qwen2": dict(
        config=lambda: Qwen2Config(
            **SHAPE, intermediate_size=128, rms_norm_eps=1e-2, tie_word_embeddings=True
        ),
        rope_theta=1_000_000.0,
        dtype=torch.bfloat16,
        shard="10MB",
        config_layout=4,
    ),
    "qwen3": dict(
        config=lambda: Qwen3Config(
            **SHAPE, intermediate_size=128, head_dim=32, rms_norm_eps=3e-3, tie_word_embeddings=True
        ),
        rope_theta=500_000.0,
        dtype=torch.float16,
        shard="10MB",
        config_layout=5,
    ),
}


def set_rope_theta(config, theta):
    """Sets the rotary base in whichever place this version of the library reads it from."""
    if hasattr(config, "rope_parameters"):
        config.rope_parameters = {"rope_type": "default", "rope_theta": theta}
    else:
        config.rope_theta = theta


def random_model(family, seed):
    """A model whose every weight is random and exactly representable in the stored type."""
    config = family["config"]()
    set_rope_theta(config, family["rope_theta"])
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            values = 1.0 + 0.3 * noise if "norm" in name else 0.2 * noise
            weight.copy_(values.to(family["dtype"]).float())
    return model


@torch.no_grad()
def greedy(model, prompt):
    """Last-position logits of the prompt, the greedy tokens after it, and the smallest margin."""
    ids, tokens, margin, first = list(prompt), [], float("inf"), None
    for _ in range(GREEDY_TOKENS):
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        first = logits if first is None else first
        best = logits.topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        tokens.append(best.indices[0].item())
        ids.append(tokens[-1])
    return first, tokens, margin


def reference(model, seed):
    """The cases of one model, or None where a step is too close or the text is monotonous."""
    generator = torch.Generator().manual_seed(seed + 1_000_000)
    cases, smallest = [], float("inf")
    for length in PROMPT_LENGTHS:
        prompt = torch.randint(0, VOCAB, (length,), generator=generator).tolist()
        logits, tokens, margin = greedy(model, prompt)
        if margin < MIN_MARGIN or len(set(tokens)) < MIN_DISTINCT:
            return None
        smallest = min(smallest, margin)
        rounded = [round(value, 6) for value in logits.tolist()]
        cases.append({"prompt": prompt, "last_logits": rounded, "greedy": tokens})
    return {"seed": seed, "smallest_margin": round(smallest, 6), "cases": cases}


def use_old_names(path):
    """Rewrites config.json as version 4 of the library had it."""
    config = json.loads(path.read_text())
    if "rope_parameters" in config:
        config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
        config["rope_scaling"] = None
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write(name, family, model, answer):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.to(family["dtype"]).save_pretrained(folder, max_shard_size=family["shard"])
    (folder / "generation_config.json").unlink(missing_ok=True)
    if family["config_layout"] == 4:
        use_old_names(folder / "config.json")
    answer = {"transformers": transformers.__version__, **answer}
    # One line per list keeps the file small and its diffs readable.
    cases = ",\n".join(
        "    {\n"
        + ",\n".join(f"      {json.dumps(key)}: {json.dumps(value)}" for key, value in case.items())
        + "\n    }"
        for case in answer.pop("cases")
    )
    head = "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in answer.items())
    (folder / "reference.json").write_text("{\n" + head + '  "cases": [\n' + cases + "\n  ]\n}\n")


def check_stored(name, answer):
    """The files, loaded again, must give the same answer as the model that was measured."""
    model = AutoModelForCausalLM.from_pretrained(
        HERE / name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    for case in answer["cases"]:
        logits, tokens, _ = greedy(model, case["prompt"])
        assert tokens == case["greedy"], name
        assert (logits - torch.tensor(case["last_logits"])).abs().max() < 1e-5, name


def main():
    torch.set_num_threads(1)
    for name, family in FAMILIES.items():
        for seed in range(MAX_SEEDS):
            model = random_model(family, seed)
            answer = reference(model, seed)
            if answer is not None:
                break
        else:
            raise SystemExit(f"{name}: no seed below {MAX_SEEDS} has a margin of {MIN_MARGIN}")
        write(name, family, model, answer)
        check_stored(name, answer)
        size = sum(path.stat().st_size for path in (HERE / name).iterdir())
        print(f"{name}: seed {seed}, margin {answer['smallest_margin']}, {size // 1024} KiB")


if __name__ == "__main__":
    main()
