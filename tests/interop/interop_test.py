#!/usr/bin/env python3
"""The files that nestling writes, read by other programs: do they answer the same?

    tests/interop/setup.sh
    NESTLING_BIN=target/release/nestling tests/interop/.cache/venv/bin/python tests/interop/interop_test.py

GGUF goes to llama.cpp, a model directory (safetensors) to Hugging Face Transformers, an adapter to PEFT and back. Each continues the same
prompts greedily, token ids are compared. Both sides of GGUF round activations to 8 bits, in blocks and
with kernels of their own, so two tokens that are nearly as likely may change places: at such a place the
logits of both must lie within TIE of the largest where nestling computes with the file's weights and no
rounding. After it, the comparison goes on from nestling's token. llama.cpp keeps keys and values in
16 bits, so its f32 has ties, too. With Transformers, f32 on both sides, nothing may differ.
"""

import array
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = HERE / ".cache"
NESTLING = os.path.abspath(os.environ.get("NESTLING_BIN", ROOT / "target/release/nestling"))
TINY, BASE = ROOT / "models/tiny", ROOT / "models/base/model.gguf"
FAMILIES = ROOT / "tests/data/parity"
TIE = 0.15  # logits; seen: up to 0.06 where tokens differ
TOKENS = 24
PROMPTS = [
    "fn main() {\n    let mut total = 0;\n    for ",
    "use std::collections::HashMap;\n\npub struct Cache {\n",
    "def read_lines(path):\n    with open(path) as file:\n        ",
    "import os\nimport sys\n\n\nclass Parser:\n    def __init__(self, ",
    "// größer: naïve café 数\nconst x = [1, 2, 3].map((value) => ",
    "#[test]\nfn it_works() {\n    assert_eq!(",
]


def nestling(*arguments):
    run = subprocess.run([NESTLING, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{arguments}: exit code {run.returncode}: {run.stderr}"
    return run.stdout


def tokens_of(model, *options):
    command = ["eval", "tokens", "--model", model, "--json", "--max-tokens", TOKENS, *options]
    return json.loads(nestling(*command, *PROMPTS))["texts"]


class LlamaCpp:
    """One model in llama.cpp."""

    def __init__(self, file, is_random=False):
        import xllamacpp

        self.has_end = not is_random
        params = xllamacpp.CommonParams()
        params.model.path = str(file)
        params.n_ctx, params.n_parallel, params.n_gpu_layers = 512, 1, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
        params.warmup, params.verbosity = False, 0
        if is_random:
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        self.server = xllamacpp.Server(params)

    def greedy(self, prompt, count):
        """The ids of the likeliest tokens after the prompt: ids, or a text that it tokenizes itself."""
        answer = self.server.handle_completions({
            "prompt": prompt, "max_tokens": count, "temperature": 0, "top_k": 1, "logprobs": 1,
            "cache_prompt": False, "ignore_eos": not self.has_end,
        })
        assert "choices" in answer, answer
        content = (answer["choices"][0]["logprobs"] or {}).get("content") or []
        return [token["id"] for token in content], answer["usage"]["prompt_tokens"]


def without_rounding(file, prompt, tokens):
    """By how much the likeliest token leads over the last of those after the prompt."""
    follow = ["--follow", ",".join(map(str, tokens)), "--max-tokens", len(tokens)]
    return json.loads(nestling("--float", "--model", file, "eval", "tokens", "--json", *follow, prompt))["texts"][0]["lags"][-1]


def compare_llama_cpp(file, silent=None):
    """Every step of every prompt; returns (steps, steps that differ). `silent`, of a random model: tokens that llama.cpp
    does not name, its end and parts of characters. Rounded, such a small model says something else, so both compute
    with 32 bits."""
    is_random = silent is not None
    peer, steps, differ = LlamaCpp(file, is_random), 0, 0
    for prompt, ours in zip(PROMPTS, tokens_of(file, *(["--float"] if is_random else []))):
        if is_random and not prompt.isascii():
            continue
        at = 0
        while at < len(ours["tokens"]):
            # Its own reading of the text the first time, nestling's ids from there.
            text = prompt if at == 0 else ours["prompt"] + ours["tokens"][:at]
            wanted = ours["tokens"][at:]
            theirs, read = peer.greedy(text, len(wanted))
            assert read == len(ours["prompt"]) + at, f"{prompt!r}: {read} tokens, not {len(ours['prompt'])}"
            same = next((i for i, (a, b) in enumerate(zip(theirs, wanted)) if a != b), min(len(theirs), len(wanted)))
            steps, at = steps + same, at + same
            if at == len(ours["tokens"]):
                break
            if same == len(theirs) and at + 1 == len(ours["tokens"]):
                break  # It does not name the token that ends the text.
            if is_random and ours["tokens"][at] in silent:
                at += 1
                continue
            steps, differ = steps + 1, differ + 1
            other = theirs[same : same + 1] or [ours["runners_up"][at]]  # The end of a text has no name.
            what = f"{file.name}, {prompt!r}, step {at}: {ours['tokens'][at]}, llama.cpp says {other}"
            for token in (ours["tokens"][at], *other):
                lag = without_rounding(file, prompt, [*ours["tokens"][:at], token])
                assert lag <= TIE, f"{what}; without rounding {token} is {lag:.3f} behind the likeliest"
            at += 1
    return steps, differ


def check_llama_cpp(source, *options, silent=None):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.gguf"
        nestling("quantize", source, "--out", file, *options)
        steps, differ = compare_llama_cpp(file, silent)
    assert steps >= len(PROMPTS) * TOKENS / 3, f"only {steps} steps"
    assert differ <= steps * 0.05, f"{differ} of {steps} steps differ"
    return f"{steps} steps, {differ} ties"


def llama_cpp_reads_f32():
    return check_llama_cpp(TINY, "--type", "f32")


def llama_cpp_reads_q8_0():
    return check_llama_cpp(TINY, "--type", "q8_0")


def llama_cpp_reads_the_default_model():
    steps, differ = compare_llama_cpp(BASE)
    assert differ <= steps * 0.05, f"{differ} of {steps} steps differ"
    return f"{steps} steps, {differ} ties"


# K-quants are fitted to a text, by default to the program's own sources: every change there made another file to compare,
# and one in four of them has a place where llama.cpp or nestling, which round in blocks of 256 here, is wrong by 0.2.
FIXED_TEXT = ["--repo", ROOT / "tests/data/projects", "--places", 1, "--rounds", 1]


def llama_cpp_reads_q6_k():
    return check_llama_cpp(BASE, "--type", "q6_k", *FIXED_TEXT)


def llama_cpp_reads_q4_k_and_q6_k():
    return check_llama_cpp(BASE, "--type", "q4_k", *FIXED_TEXT)


def llama_cpp_reads_q4_k_where_rows_do_not_fit():
    return check_llama_cpp(TINY, "--type", "q4_k")


END, END_ID = "<end>", 255


def plain_vocabulary():
    """A tokenizer.json of 256 tokens, all of ASCII: llama.cpp tells no token that ends within a character."""
    stand_ins = {"\n": "Ċ", "\t": "ĉ", " ": "Ġ"}
    letters = [*map(chr, range(33, 127)), *stand_ins.values()]
    pairs = [a + b for a in "zyxwv" for b in "zabcdefghijklmnopqrstuvwxyABCDEFGH"]
    vocabulary = {token: id for id, token in enumerate([*(letters + pairs)[:END_ID], END])}
    splitter = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return json.dumps({
        "version": "1.0", "pre_tokenizer": splitter, "decoder": splitter,
        "added_tokens": [{
            "id": END_ID, "content": END, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False,
        }],
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [["z", "z"]]},
    })


def llama_cpp_reads_every_family():
    told = []
    for family in sorted(FAMILIES.iterdir()):
        if not family.is_dir():
            continue
        with tempfile.TemporaryDirectory() as folder:
            for file in [*family.glob("config.json"), *family.glob("*.safetensors")]:
                shutil.copy(file, folder)
            Path(folder, "tokenizer.json").write_text(plain_vocabulary())
            Path(folder, "tokenizer_config.json").write_text(json.dumps({"eos_token": END}))
            told.append(f"{family.name}: {check_llama_cpp(folder, '--type', 'f32', silent={END_ID})}")
    assert len(told) >= 10, told
    return ", ".join(told)


def random_gemma(folder):
    """A model directory with random weights and the SentencePiece vocabulary of the tests."""
    vocabulary = ROOT / "tests/data/sentencepiece/tokenizer.json"
    tokens = len(json.loads(vocabulary.read_text())["model"]["vocab"]) + 4  # The last rows have no token.
    hidden, heads, head_dim, ffn, layers = 64, 4, 16, 128, 2
    config = {
        "model_type": "gemma", "vocab_size": tokens, "hidden_size": hidden, "intermediate_size": ffn,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": 1, "head_dim": head_dim,
        "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh",
    }
    shapes = {"model.embed_tokens.weight": [tokens, hidden], "model.norm.weight": [hidden]}
    for layer in range(layers):
        parts = {
            "input_layernorm": [hidden], "post_attention_layernorm": [hidden],
            "self_attn.q_proj": [heads * head_dim, hidden], "self_attn.k_proj": [head_dim, hidden],
            "self_attn.v_proj": [head_dim, hidden], "self_attn.o_proj": [hidden, heads * head_dim],
            "mlp.gate_proj": [ffn, hidden], "mlp.up_proj": [ffn, hidden], "mlp.down_proj": [hidden, ffn],
        }
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in parts.items()}
    draw, head, data = random.Random(1), {}, b""
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = array.array("f", (draw.gauss(0, 0.2) for _ in range(count))).tobytes()
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(head).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes(vocabulary.read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<bos>", "eos_token": "<eos>"}))


def llama_cpp_reads_a_vocabulary_of_sentencepiece():
    with tempfile.TemporaryDirectory() as folder:
        random_gemma(Path(folder))
        ids = json.loads((Path(folder) / "tokenizer.json").read_text())["model"]["vocab"]
        silent = {ids[f"<0x{byte:02X}>"] for byte in range(128, 256)} | {ids["<eos>"]}
        return check_llama_cpp(Path(folder), "--type", "f32", silent=silent)


def ask_transformers(model, ours, **more):
    asked = {"model": str(model), "prompts": PROMPTS[: len(ours)], "texts": ours, **more}
    peer = CACHE / "bin/transformers-python"
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONPATH": str(CACHE / "peft"),
    }
    run = subprocess.run(
        [peer, HERE / "peer_transformers.py"], input=json.dumps(asked), capture_output=True, text=True,
        env=environment, check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


def check_transformers(model, adapter=None):
    """The model under an adapter is what nestling makes of the folder of the adapter."""
    ours = tokens_of(adapter or model, "--float")
    more = {"adapter": str(adapter)} if adapter else {}
    for prompt, given, theirs in zip(PROMPTS, ours, ask_transformers(model, ours, **more)):
        assert theirs["ids"] == given["prompt"], f"{prompt!r} is read as other tokens"
        assert max(theirs["margins"]) < 1e-3, f"{prompt!r}: {given['tokens']} and {theirs['likeliest']}"
        assert theirs["greedy"] == given["tokens"], f"{prompt!r}: {given['tokens']} and {theirs['greedy']}"
        apart = max(abs(a - b) for a, b in zip(given["margins"], theirs["leads"]))
        assert apart < 1e-3, f"{prompt!r}: the logits of the first two are {apart} further apart"
    return f"{sum(len(given['tokens']) for given in ours)} steps"


def transformers_reads_the_test_model():
    return check_transformers(TINY)


def transformers_reads_what_training_writes():
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        # Enough folders that one can be held out.
        corpus = [ROOT / "src" / name for name in ("model", "server", "suggest", "syntax", "text", "train")]
        nestling("train", *corpus, "--out", out, "--size", "tiny", "--steps", 12, "--any-licence")
        return check_transformers(out)


LORA = """\
[train]
batch = 2
[train.method.lora]
rank = 4
alpha = 8.0
[train.optimizer]
learning_rate = 0.01
[examples]
sequence = 256
"""


def peft_reads_what_training_writes():
    with tempfile.TemporaryDirectory() as folder:
        out, recipe = Path(folder) / "model", Path(folder) / "recipe.toml"
        recipe.write_text(LORA)
        corpus = [ROOT / "src" / name for name in ("model", "server", "suggest", "syntax", "text", "train")]
        nestling("--model", TINY, "train", *corpus, "--out", out, "--config", recipe, "--steps", 24, "--any-licence")
        before, after = tokens_of(TINY, "--float"), tokens_of(out / "adapter", "--float")
        assert before != after, "the adapter changes nothing"
        told = check_transformers(TINY, out / "adapter")
        # The merged model beside it is the same model.
        assert [t["tokens"] for t in tokens_of(out, "--float")] == [t["tokens"] for t in after]
        return told


def peft_writes_what_is_read():
    variants = {
        "all": {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
        "some, each with its rank": {
            "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], "use_rslora": True,
            "rank_pattern": {"down_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 3},
        },
    }
    told = []
    for name, options in variants.items():
        with tempfile.TemporaryDirectory() as folder:
            ask_transformers(TINY, [], save=folder, options=options)
            assert tokens_of(folder, "--float") != tokens_of(TINY, "--float"), f"{name}: nothing changed"
            told.append(f"{name}: {check_transformers(TINY, Path(folder))}")
    return ", ".join(told)


def peft_adapters_of_another_kind_are_refused():
    with tempfile.TemporaryDirectory() as folder:
        options = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "use_dora": True}
        ask_transformers(TINY, [], save=folder, options=options)
        run = subprocess.run([NESTLING, "--model", folder, "model", "info"], capture_output=True, text=True, check=False)
        assert run.returncode == 3 and "use_dora" in run.stderr, run.stderr
    return "DoRA"


def run_tests(tests, beginnings):
    """Runs those of the tests whose name begins so and has the word of the command line in it; the exit code."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    tests = {name: test for name, test in tests.items() if name.startswith(beginnings) and wanted in name}
    passed = 0
    for name, test in tests.items():
        began = time.monotonic()
        try:
            told = test()
        except Exception as error:  # every failure is reported, whatever its kind
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"FAIL {name}: {type(error).__name__} {error} ({Path(where.filename).name}:{where.lineno})", flush=True)
        else:
            passed += 1
            print(f"ok   {name} ({told}, {time.monotonic() - began:.1f} s)", flush=True)
    print(f"{passed} passed, {len(tests) - passed} failed")
    return 0 if tests and passed == len(tests) else 1


if __name__ == "__main__":
    sys.exit(run_tests(dict(globals()), ("llama_cpp_", "transformers_", "peft_")))
