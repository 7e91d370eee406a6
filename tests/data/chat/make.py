#!/usr/bin/env python3
"""Writes expected.json: what Jinja makes of the templates in this folder, set up as Hugging Face Transformers does it
(apply_chat_template). The templates are our own, each in the manner of a family: turns between markers (chatml), headers
(headers), a system role that is refused (strict), and what else templates use of the language (named).

Needs the Python package jinja2: python3 tests/data/chat/make.py
"""

import json
from pathlib import Path

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = Path(__file__).parent
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  Why `a < b`?\n"},
    {"role": "assistant", "content": "Because."},
    {"role": "user", "content": "And \"c\" & 'd'?"},
]


class Generation(Extension):
    """What a model is trained on; nothing of the text."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("inside"), [], [], body).set_lineno(line)

    def inside(self, caller):
        return caller()


def refuse(message):
    raise TemplateError(message)


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation])
environment.filters["tojson"] = to_json
environment.globals.update(raise_exception=refuse, strftime_now=lambda form: form)
rendered = {}
for file in sorted(HERE.glob("*.jinja")):
    template = environment.from_string(file.read_text())
    for name, talk in [("with system", TALK), ("without system", TALK[1:])]:
        try:
            text = template.render(
                messages=talk, add_generation_prompt=True, bos_token="<s>", eos_token="</s>", tools=None, documents=None
            )
        except TemplateError as error:
            text = f"refused: {error}"
        rendered[f"{file.stem}, {name}"] = text
(HERE / "expected.json").write_text(json.dumps(rendered, indent=1) + "\n")
