"""Writes the model files that the engine benchmark runs: random weights, real shapes.

Every matrix is Q8_0, every vector F32; `SHAPES` has what there is: a qwen3 decoder of 54M parameters,
and qwen2 as its smallest coder has it, 0.5B. Speed does not depend on what the weights say, so nothing
is downloaded and the same seed gives the same bytes.

    python3 -m venv tests/bench/.cache/venv && tests/bench/.cache/venv/bin/pip install gguf numpy
    tests/bench/.cache/venv/bin/python tests/bench/make_gguf.py [--shape qwen2-0.5b]

The file goes to tests/bench/.cache/SHAPE-q8_0.gguf unless --out says otherwise.
"""

import argparse
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np

SHAPES = {
    "qwen3-54m": SimpleNamespace(
        family="qwen3", layers=16, width=512, heads=8, kv_heads=4, head=64, ffn=1536, vocab=8192, rope=1e4
    ),
    "qwen2-0.5b": SimpleNamespace(
        family="qwen2", layers=24, width=896, heads=14, kv_heads=2, head=64, ffn=4864, vocab=151_936, rope=1e6
    ),
}  # fmt: skip
CONTEXT = 2048
SPECIAL = [
    "<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
    "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
]
CACHE = Path(__file__).resolve().parent / ".cache"


def byte_symbols():
    """The 256 printable characters that byte-level BPE writes instead of bytes, in byte order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    symbols, spare = [], 0x100
    for byte in range(256):
        if byte in printable:
            symbols.append(chr(byte))
        else:
            symbols.append(chr(spare))
            spare += 1
    return symbols


def vocabulary(size):
    """Tokens, their types and merges: bytes, all pairs of small letters, specials, unused slots."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    merges = [f"{a} {b}" for a in letters for b in letters]
    merges += [f"\u0120 {a}" for a in letters]
    tokens = byte_symbols() + [merge.replace(" ", "") for merge in merges]
    types = [gguf.TokenType.NORMAL] * len(tokens)
    first_special = len(tokens)
    tokens += SPECIAL
    types += [gguf.TokenType.CONTROL] * len(SPECIAL)
    unused = size - len(tokens)
    tokens += [f"<|unused_{index}|>" for index in range(unused)]
    types += [gguf.TokenType.UNUSED] * unused
    return tokens, types, merges, first_special


def write_metadata(writer, name, shape):
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(shape.layers)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head)
    writer.add_value_length(shape.head)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(shape.rope)
    writer.add_vocab_size(shape.vocab)

    tokens, types, merges, special = vocabulary(shape.vocab)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(special)
    for index, name in enumerate(("pre", "mid", "suf", "pad", "rep", "sep"), start=1):
        writer.add_uint32(f"tokenizer.ggml.fim_{name}_token_id", special + index)
    writer.add_add_bos_token(False)


def write_tensors(writer, shape, seed):
    """Adds all tensors and returns how many parameters they hold."""
    rng = np.random.default_rng(seed)
    total = 0

    def matrix(name, rows, columns):
        nonlocal total
        total += rows * columns
        values = rng.normal(0.0, columns**-0.5, (rows, columns)).astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    def vector(name, size, low=0.5, high=1.5):
        nonlocal total
        total += size
        writer.add_tensor(name, rng.uniform(low, high, size).astype(np.float32))

    width, heads, kv_heads = shape.width, shape.heads * shape.head, shape.kv_heads * shape.head
    matrix("token_embd.weight", shape.vocab, width)
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        vector(block + "attn_norm.weight", width)
        for part, rows in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            matrix(f"{block}attn_{part}.weight", rows, width)
            if shape.family == "qwen2":
                vector(f"{block}attn_{part}.bias", rows, -0.1, 0.1)
        if shape.family == "qwen3":
            vector(block + "attn_q_norm.weight", shape.head)
            vector(block + "attn_k_norm.weight", shape.head)
        matrix(block + "attn_output.weight", width, heads)
        vector(block + "ffn_norm.weight", width)
        matrix(block + "ffn_gate.weight", shape.ffn, width)
        matrix(block + "ffn_up.weight", shape.ffn, width)
        matrix(block + "ffn_down.weight", width, shape.ffn)
    vector("output_norm.weight", width)
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="qwen3-54m")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    shape = SHAPES[arguments.shape]
    out = arguments.out or CACHE / f"{arguments.shape}-q8_0.gguf"
    out.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(out, shape.family)
    write_metadata(writer, arguments.shape, shape)
    parameters = write_tensors(writer, shape, arguments.seed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{out}: {parameters / 1e6:.1f}M parameters, {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
