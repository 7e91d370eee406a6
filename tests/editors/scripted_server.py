#!/usr/bin/env python3
"""A language server without a model: it answers like `nestling serve`, always the same, so that the tests of the
Neovim plugin can say which text must appear. Run as `scripted_server.py serve [--model PATH]`.

SCRIPTED_ENCODING picks the position encoding (utf-16), SCRIPTED_MODEL the state of the model (ready),
SCRIPTED_VERSION what it says of itself (0.1.0).
"""

import json
import os
import sys

ENCODING = os.environ.get("SCRIPTED_ENCODING", "utf-16")
STATE = os.environ.get("SCRIPTED_MODEL", "ready")
VERSION = os.environ.get("SCRIPTED_VERSION", "0.1.0")

# what the line ends with, what follows, where the item's range starts, what after the cursor it replaces
SCRIPT = [
    ("def add(", "a, b):\n    return a + b", "line", ""),
    ("print(", "total, count)", "cursor", ")"),
    ("mean = ", "total / count", "cursor", ""),
    ("for shelf in", " shelves:\n        for item in shelf.items.values():\n            print(item)", "cursor", ""),
    ("let mut", " minutes = 0;", "cursor", ""),
    ("amounts = ", "available(shelves)", "cursor", ""),
    ("chick = ", '"🐣🐥" + name', "word", ""),
]
COUNTS = dict.fromkeys(("requests", "answered", "cancelled", "shown", "accepted"), 0)
documents, silence = {}, None


def width(text):
    """The length of a text in units of the encoding."""
    return len(text.encode("utf-8")) if ENCODING == "utf-8" else len(text.encode("utf-16-le")) // 2


def split(line, units):
    """A line before and after a column in units of the encoding."""
    for i in range(len(line) + 1):
        if width(line[:i]) >= units:
            return line[:i], line[i:]
    return line, ""


def follow(before):
    """The script that the text before the cursor is in the middle of, and what is left of it."""
    for head, tail, start, covers in SCRIPT:
        at = before.rfind(head)
        if at >= 0 and (head + tail).startswith(before[at:]) and before[at:] != head + tail:
            return at, (head + tail)[len(before) - at:], start, covers
    return None


def inline(params):
    global silence
    COUNTS["requests"] += 1
    COUNTS["answered"] += 1
    row = params["position"]["line"]
    lines = documents[params["textDocument"]["uri"]].split("\n")
    before, after = split(lines[row], params["position"]["character"])
    found = follow(before)
    if not found:
        silence = {"reason": "the script has nothing here"}
        return {"items": []}
    at, rest, start, covers = found
    first = {"line": 0, "word": at, "cursor": len(before)}[start]
    last = before + (covers if covers and after.startswith(covers) else "")
    silence, COUNTS["shown"] = None, COUNTS["shown"] + 1
    return {"items": [{
        "insertText": before[first:] + rest,
        "filterText": before[first:],
        "range": {"start": {"line": row, "character": width(before[:first])}, "end": {"line": row, "character": width(last)}},
        "command": {"title": "accepted", "command": "nestling.accepted", "arguments": [1]},
    }]}


def execute(params):
    COUNTS["accepted"] += params["command"] == "nestling.accepted"


def status(_):
    reason = "the file is broken" if STATE == "failed" else None
    model = {"state": STATE, "name": "scripted", "reason": reason}
    return {"model": model, "openDocuments": len(documents), "lastSilence": silence, "counts": COUNTS,
            "latencyMs": {"p50": 1.0, "p95": 2.0}}


def initialize(_):
    return {"serverInfo": {"name": "nestling", "version": VERSION},
            "capabilities": {"positionEncoding": ENCODING, "textDocumentSync": 1, "inlineCompletionProvider": True,
                             "executeCommandProvider": {"commands": ["nestling.accepted"]}}}


ANSWERS = {"initialize": initialize, "textDocument/inlineCompletion": inline, "nestling/status": status,
           "workspace/executeCommand": execute, "shutdown": lambda _: None}


def messages():
    stream = sys.stdin.buffer
    while True:
        length = 0
        while (header := stream.readline()).strip():
            if header.lower().startswith(b"content-length:"):
                length = int(header.split(b":")[1])
        if not header:
            return
        yield json.loads(stream.read(length))


def send(message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    sys.stdout.buffer.flush()


def serve():
    for message in messages():
        method, params = message.get("method"), message.get("params") or {}
        if method == "exit":
            return
        if method == "textDocument/didOpen":
            documents[params["textDocument"]["uri"]] = params["textDocument"]["text"]
        elif method == "textDocument/didChange":
            documents[params["textDocument"]["uri"]] = params["contentChanges"][-1]["text"]
        elif method == "textDocument/didClose":
            documents.pop(params["textDocument"]["uri"], None)
        elif method in ANSWERS and "id" in message:
            send({"id": message["id"], "result": ANSWERS[method](params)})
        elif method and "id" in message:
            send({"id": message["id"], "error": {"code": -32601, "message": f"no method {method}"}})


if __name__ == "__main__":
    if sys.argv[1:] == ["--version"]:
        print(f"nestling {VERSION} (scripted)")
    elif sys.argv[1:2] == ["serve"]:
        serve()
    else:
        sys.exit(2)
