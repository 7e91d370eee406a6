"""Makes the tiny random models beside this file, and the answers of Hugging Face Transformers.

One folder per decoder family, each with config.json, safetensors and reference.json:

    llama           F32, untied head, two shards with an index
    qwen2           BF16, tied head, biases on q, k and v
    qwen3           F16, tied head, QK-norm, head_dim wider than hidden / heads
    deepseek-coder  F16, llama with linearly scaled positions
    granite-code    BF16, llama with a bias on every matrix and llama3's scaled positions
    granite         F16, the four multipliers
    starcoder2      F16, LayerNorm, biases, a plain feed-forward layer, a sliding window
    gpt_bigcode     F16, learned positions, one key/value head in a fused matrix
    santacoder      BF16, the same with a key/value head to each query head and the exact GELU
    gemma           F16, scaled embedding, norms of 1 + w, GeGLU, head_dim wider than hidden / heads
    stablelm        F16, LayerNorm, biases on q, k and v, a quarter of each head rotated
    phi3            BF16, q, k and v in one matrix, gate and up in another, a sliding window

Those that llama.cpp knows also lie there as model.gguf, in its names, its order of rows and its
metadata.

The reference holds prompts as token ids, the logits after the last prompt token, and 64
greedy tokens. It is computed in F32 from the stored weights, whatever type stores them.
Norm weights and biases are random too, and the epsilons large, so that a loader that drops
one is caught. Version 5 of the library writes config.json with other names than version 4;
most published models have the older ones, so most have them here.
A seed is taken only if every greedy step is decided by a clear margin.

    python3 -m venv /tmp/parity-venv && /tmp/parity-venv/bin/pip install torch transformers gguf
    /tmp/parity-venv/bin/python tests/data/parity/make.py [FAMILY…]
"""

import json
import shutil
import sys
from pathlib import Path

import gguf
import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPTBigCodeConfig,
    GraniteConfig,
    LlamaConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    StableLmConfig,
    Starcoder2Config,
)

HERE = Path(__file__).resolve().parent
PROMPT_LENGTHS = (5, 17, 40)
GREEDY_TOKENS = 64
MIN_MARGIN = 5e-3  # between the two best logits of a greedy step
MIN_DISTINCT = 12  # different tokens in one greedy continuation
MAX_SEEDS = 2000
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

SMALL = {**SHAPE, "hidden_size": 32}
BIGCODE = dict(
    vocab_size=VOCAB,
    n_embd=32,
    n_layer=2,
    n_head=4,
    n_inner=80,
    n_positions=256,
    layer_norm_epsilon=1e-3,
    tie_word_embeddings=True,
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
    "deepseek-coder": dict(
        config=lambda: LlamaConfig(
            **SMALL, intermediate_size=48, rms_norm_eps=1e-3, tie_word_embeddings=False
        ),
        rope_theta=100_000.0,
        rope=dict(rope_type="linear", factor=4.0),
        dtype=torch.float16,
        shard="10MB",
        config_layout=4,
    ),
    "granite-code": dict(
        config=lambda: LlamaConfig(
            **SMALL,
            intermediate_size=48,
            rms_norm_eps=1e-3,
            tie_word_embeddings=True,
            attention_bias=True,
            mlp_bias=True,
        ),
        rope_theta=10_000.0,
        rope=dict(
            rope_type="llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=64,
        ),
        dtype=torch.bfloat16,
        shard="10MB",
        config_layout=5,
    ),
    "granite": dict(
        config=lambda: GraniteConfig(
            **SMALL,
            intermediate_size=48,
            rms_norm_eps=1e-3,
            tie_word_embeddings=True,
            embedding_multiplier=0.6,
            attention_multiplier=0.25,
            residual_multiplier=1.3,
            logits_scaling=0.8,
        ),
        rope_theta=10_000.0,
        dtype=torch.float16,
        shard="10MB",
        config_layout=4,
    ),
    "starcoder2": dict(
        config=lambda: Starcoder2Config(
            **SMALL,
            intermediate_size=80,
            norm_epsilon=1e-3,
            tie_word_embeddings=True,
            sliding_window=128,
        ),
        rope_theta=100_000.0,
        dtype=torch.float16,
        shard="10MB",
        config_layout=4,
    ),
    "gpt_bigcode": dict(
        config=lambda: GPTBigCodeConfig(**BIGCODE, multi_query=True),
        dtype=torch.float16,
        shard="10MB",
        config_layout=4,
    ),
    "santacoder": dict(
        config=lambda: GPTBigCodeConfig(**BIGCODE, multi_query=False, activation_function="gelu"),
        dtype=torch.bfloat16,
        shard="10MB",
        config_layout=4,
    ),
    "gemma": dict(
        config=lambda: GemmaConfig(
            **SMALL, intermediate_size=48, head_dim=16, rms_norm_eps=1e-3, tie_word_embeddings=True
        ),
        rope_theta=10_000.0,
        dtype=torch.float16,
        shard="10MB",
        config_layout=4,
    ),
    "stablelm": dict(
        config=lambda: StableLmConfig(
            **{**SMALL, "hidden_size": 64},
            intermediate_size=48,
            layer_norm_eps=1e-3,
            tie_word_embeddings=False,
            use_qkv_bias=True,
        ),
        rope_theta=10_000.0,
        rope=dict(partial_rotary_factor=0.25),
        dtype=torch.float16,
        shard="10MB",
        config_layout=4,
    ),
    "phi3": dict(
        config=lambda: Phi3Config(
            **SMALL,
            intermediate_size=48,
            rms_norm_eps=1e-3,
            tie_word_embeddings=False,
            sliding_window=200,
            pad_token_id=0,
        ),
        rope_theta=10_000.0,
        rope=dict(partial_rotary_factor=0.75),
        dtype=torch.bfloat16,
        shard="10MB",
        config_layout=5,
    ),
}

# llama.cpp's architecture of a family's file; those that are not here have none.
ARCHITECTURES = {
    "deepseek-coder": "llama",
    "granite-code": "llama",
    "granite": "granite",
    "starcoder2": "starcoder2",
    "gpt_bigcode": "starcoder",
    "gemma": "gemma",
    "stablelm": "stablelm",
    "phi3": "phi3",
}
# Parts of a checkpoint's names and what llama.cpp calls them.
GGUF_NAMES = [
    ("model.embed_tokens", "token_embd"),
    ("transformer.wte", "token_embd"),
    ("transformer.wpe", "position_embd"),
    ("model.norm", "output_norm"),
    ("transformer.ln_f", "output_norm"),
    ("lm_head", "output"),
    ("model.layers", "blk"),
    ("transformer.h", "blk"),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("ln_1", "attn_norm"),
    ("ln_2", "ffn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("attn.c_attn", "attn_qkv"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("attn.c_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.c_fc", "ffn_up"),
    ("mlp.c_proj", "ffn_down"),
]


def set_rope(config, theta, scaling):
    """Sets base and scaling of the rotary embedding, if the family has one."""
    if theta is not None:
        config.rope_parameters = {"rope_type": "default", "rope_theta": theta, **scaling}


def random_model(family, seed):
    """A model whose every weight is random and exactly representable in the stored type."""
    config = family["config"]()
    set_rope(config, family.get("rope_theta"), family.get("rope", {}))
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            is_norm = ("norm" in name or "ln_" in name) and not name.endswith("bias")
            values = 1.0 + 0.3 * noise if is_norm else 0.2 * noise
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
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        kind = rope.pop("rope_type")
        if "partial_rotary_factor" in rope:
            config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
        config["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
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


def add_vocabulary(out):
    """The 256 bytes in GPT-2's letters, and one merge that never comes up: llama.cpp wants a list."""
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    others = [b for b in range(256) if b not in printable]
    letters = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list([letters[b] for b in range(254)] + [letters[255], letters[255] * 2])
    out.add_token_types([gguf.TokenType.NORMAL] * VOCAB)
    out.add_token_merges([f"{letters[255]} {letters[255]}"])


def write_gguf(name, model):
    """The model as llama.cpp's converter writes it."""
    architecture, config = ARCHITECTURES[name], model.config
    out = gguf.GGUFWriter(HERE / name / "model.gguf", architecture)
    kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    if architecture == "starcoder":
        kv_heads = 1 if config.multi_query else kv_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    feed_forward = getattr(config, "intermediate_size", None) or config.n_inner
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(feed_forward)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(kv_heads)
    if architecture == "starcoder":
        out.add_layer_norm_eps(config.layer_norm_epsilon)
    elif architecture == "starcoder2":
        out.add_layer_norm_eps(config.norm_epsilon)
    elif architecture == "stablelm":
        out.add_layer_norm_eps(config.layer_norm_eps)
        out.add_parallel_residual(config.use_parallel_residual)
    else:
        out.add_layer_norm_rms_eps(config.rms_norm_eps)
    if architecture == "gemma":
        out.add_key_length(head_dim)
        out.add_value_length(head_dim)
    rope = getattr(config, "rope_parameters", None)
    if rope:
        out.add_rope_freq_base(rope["rope_theta"])
        out.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1)))
    if rope and rope["rope_type"] == "linear":
        out.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        out.add_rope_scaling_factor(rope["factor"])
    if architecture == "granite":
        out.add_attention_scale(config.attention_multiplier)
        out.add_embedding_scale(config.embedding_multiplier)
        out.add_residual_scale(config.residual_multiplier)
        out.add_logit_scale(config.logits_scaling)
    add_vocabulary(out)
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        tensor = tensor.float()
        heads = {"q_proj": config.num_attention_heads, "k_proj": kv_heads}.get(key.split(".")[-2])
        if architecture in ("llama", "granite") and heads:
            # The two halves of a head become pairs.
            pairs = tensor.reshape(heads, 2, head_dim // 2, *tensor.shape[1:])
            tensor = pairs.transpose(1, 2).reshape(tensor.shape)
        if architecture == "gemma" and "norm" in key:
            tensor = tensor + 1
        for ours, theirs in GGUF_NAMES:
            key = key.replace(ours, theirs)
        is_matrix = tensor.dim() > 1 and "position" not in key
        out.add_tensor(key, tensor.to(torch.float16 if is_matrix else torch.float32).numpy())
    if rope and rope["rope_type"] == "llama3":
        frequencies = rope["rope_theta"] ** (-torch.arange(0, head_dim, 2).float() / head_dim)
        # Those of the model were rounded to its type.
        scaled = type(model.model.rotary_emb)(config).inv_freq
        out.add_tensor("rope_freqs.weight", (frequencies / scaled).numpy())
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


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
    wanted = sys.argv[1:] or FAMILIES
    for name, family in ((name, FAMILIES[name]) for name in wanted):
        for seed in range(MAX_SEEDS):
            model = random_model(family, seed)
            answer = reference(model, seed)
            if answer is not None:
                break
        else:
            raise SystemExit(f"{name}: no seed below {MAX_SEEDS} has a margin of {MIN_MARGIN}")
        write(name, family, model, answer)
        check_stored(name, answer)
        if name in ARCHITECTURES:
            write_gguf(name, model)
        size = sum(path.stat().st_size for path in (HERE / name).iterdir())
        print(f"{name}: seed {seed}, margin {answer['smallest_margin']}, {size // 1024} KiB")


if __name__ == "__main__":
    main()
