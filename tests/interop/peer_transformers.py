"""Answers with Hugging Face Transformers: JSON {model, prompts, texts: [{prompt, tokens}]} in, JSON out.

With `adapter` the model is that under an adapter read by PEFT. With `save` such an adapter is made before, of
random numbers, and saved by PEFT to that folder.
`likeliest` are the best tokens at every step of the given continuation, `margins` by how much the logits
of the best exceed those of the given token, `leads` by how much those of the second; `greedy` is Transformers' own generation, and `ids` is how
its tokenizer reads the text.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def save_adapter(model, folder, options):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    made = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    made.save_pretrained(folder)


def main():
    asked = json.load(sys.stdin)
    model = AutoModelForCausalLM.from_pretrained(asked["model"], dtype=torch.float32).eval()
    if "save" in asked:
        save_adapter(model, asked["save"], asked["options"])
    elif "adapter" in asked:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, asked["adapter"]).eval()
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
        first_two = logits.topk(2).values
        given_logits = logits.gather(1, torch.tensor(tokens)[:, None])[:, 0]
        answers.append({
            "ids": tokenizer(text, add_special_tokens=False)["input_ids"],
            "likeliest": best.indices.tolist(),
            "leads": (first_two[:, 0] - first_two[:, 1]).tolist(),
            "margins": (best.values - given_logits).tolist(),
            "greedy": greedy[0, len(prompt) :].tolist(),
        })
    json.dump(answers, sys.stdout)


main()
