"""Writes the model file that the engine benchmark runs: random weights, real shapes.

A qwen3 decoder of 54M parameters (d=512, 16 layers, 8 heads on 4 KV heads of 64,
ffn 1536, 8192 tied tokens), every matrix Q8_0, every norm F32. Speed does not depend
on what the weights say, so nothing is downloaded and the same seed gives the same bytes.

    python3 -m venv tests/bench/.cache/venv && tests/bench/.cache/venv/bin/pip install gguf numpy
    tests/bench/.cache/venv/bin/python tests/bench/make_gguf.py

The file goes to tests/bench/.cache/qwen3-54m-q8_0.gguf unless --out says otherwise.
"""

import argparse
from pathlib import Path

import gguf
import numpy as np

LAYERS, WIDTH, HEADS, KV_HEADS, HEAD, FFN = 16, 512, 8, 4, 64, 1536
VOCAB, CONTEXT = 8192, 2048
SPECIAL = [
    "<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
    "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
]
DEFAULT_OUT = Path(__file__).resolve().parent / ".cache" / "qwen3-54m-q8_0.gguf"


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


def vocabulary():
    """Tokens, their types and merges: bytes, all pairs of small letters, specials, unused slots."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    merges = [f"{a} {b}" for a in letters for b in letters]
    merges += [f"\u0120 {a}" for a in letters]
    tokens = byte_symbols() + [merge.replace(" ", "") for merge in merges]
    types = [gguf.TokenType.NORMAL] * len(tokens)
    first_special = len(tokens)
    tokens += SPECIAL
    types += [gguf.TokenType.CONTROL] * len(SPECIAL)
    unused = VOCAB - len(tokens)
    tokens += [f"<|unused_{index}|>" for index in range(unused)]
    types += [gguf.TokenType.UNUSED] * unused
    return tokens, types, merges, first_special


def write_metadata(writer):
    writer.add_name("bench-54m")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(VOCAB)

    tokens, types, merges, special = vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(special)
    for index, name in enumerate(("pre", "mid", "suf", "pad", "rep", "sep"), start=1):
        writer.add_uint32(f"tokenizer.ggml.fim_{name}_token_id", special + index)
    writer.add_add_bos_token(False)


def write_tensors(writer, seed):
    """Adds all tensors and returns how many parameters they hold."""
    rng = np.random.default_rng(seed)
    total = 0

    def matrix(name, rows, columns):
        nonlocal total
        total += rows * columns
        values = rng.normal(0.0, columns**-0.5, (rows, columns)).astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    def norm(name, size):
        nonlocal total
        total += size
        writer.add_tensor(name, rng.uniform(0.5, 1.5, size).astype(np.float32))

    matrix("token_embd.weight", VOCAB, WIDTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        norm(block + "attn_norm.weight", WIDTH)
        matrix(block + "attn_q.weight", HEADS * HEAD, WIDTH)
        matrix(block + "attn_k.weight", KV_HEADS * HEAD, WIDTH)
        matrix(block + "attn_v.weight", KV_HEADS * HEAD, WIDTH)
        norm(block + "attn_q_norm.weight", HEAD)
        norm(block + "attn_k_norm.weight", HEAD)
        matrix(block + "attn_output.weight", WIDTH, HEADS * HEAD)
        norm(block + "ffn_norm.weight", WIDTH)
        matrix(block + "ffn_gate.weight", FFN, WIDTH)
        matrix(block + "ffn_up.weight", FFN, WIDTH)
        matrix(block + "ffn_down.weight", WIDTH, FFN)
    norm("output_norm.weight", WIDTH)
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(arguments.out, "qwen3")
    write_metadata(writer)
    parameters = write_tensors(writer, arguments.seed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    size = arguments.out.stat().st_size
    print(f"{arguments.out}: {parameters / 1e6:.1f}M parameters, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
