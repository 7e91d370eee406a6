"""Makes tokenizer.json, a small vocabulary as Gemma's is built, and reference.json: what Hugging Face
tokenizers makes of some texts.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers
    /tmp/venv/bin/python tests/data/sentencepiece/make.py
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = Path(__file__).resolve().parent
SOURCES = sorted((HERE.parent / "projects").rglob("*.rs")) + sorted((HERE.parent / "projects").rglob("*.py"))
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
MARKERS = ["<pad>", "<eos>", "<bos>", "<unk>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_separator|>"]
WHOLE = ["\n\n", "\n\n\n", "<table>"]
TEXTS = [
    "fn main() {\n    let x = 1;\n\n\n\n    println!(\"{x}\");\n}\n",
    "def read(path):\n        return open(path).read()\n\n",
    " leading, trailing  ",
    "größer 数 \t<table> </table>",
    "",
]


def main():
    text = [path.read_text().replace("\n\n", "\n").replace(" ", "▁") for path in SOURCES]
    trained = Tokenizer(models.BPE())
    # As long as a text has line breaks, merges within a line are enough.
    trained.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    trained.train_from_iterator(text, trainers.BpeTrainer(vocab_size=420, show_progress=False))
    learnt = json.loads(trained.to_str())["model"]
    pieces = MARKERS + WHOLE + BYTES
    pieces += sorted((p for p in learnt["vocab"] if p not in pieces), key=learnt["vocab"].get)
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    merges = [tuple(merge) for merge in learnt["merges"]]
    model = models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in WHOLE])
    plain = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    tokenizer.add_special_tokens(MARKERS)
    tokenizer.save(str(HERE / "tokenizer.json"), pretty=False)
    cases = [{"text": text, "ids": ids} for text, ids in zip(TEXTS, plain)]
    (HERE / "reference.json").write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
