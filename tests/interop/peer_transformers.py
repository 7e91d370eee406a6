"""Answers with Hugging Face Transformers: JSON {model, texts: [{prompt, tokens}], text} in, JSON out.

`likeliest` are the best tokens at every step of the given continuation, `margins` by how much the logits
of the best exceed those of the given token; `greedy` is Transformers' own generation, and `ids` is how
its tokenizer reads the text.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    asked = json.load(sys.stdin)
    model = AutoModelForCausalLM.from_pretrained(asked["model"], dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(asked["model"])
    answers = []
    for text, given in zip(asked["prompts"], asked["texts"]):
        prompt, tokens = given["prompt"], given["tokens"]
        with torch.no_grad():
            logits = model(torch.tensor([prompt + tokens[:-1]])).logits[0, len(prompt) - 1 :]
            greedy = model.generate(
                torch.tensor([prompt]), max_new_tokens=len(tokens), do_sample=False, pad_token_id=0
            )
        best = logits.max(dim=-1)
        given_logits = logits.gather(1, torch.tensor(tokens)[:, None])[:, 0]
        answers.append({
            "ids": tokenizer(text, add_special_tokens=False)["input_ids"],
            "likeliest": best.indices.tolist(),
            "margins": (best.values - given_logits).tolist(),
            "greedy": greedy[0, len(prompt) :].tolist(),
        })
    json.dump(answers, sys.stdout)


main()
