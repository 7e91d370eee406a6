#!/usr/bin/env python3
"""Stands between an editor and a language server and writes down what the editor sends, one JSON object a line.

RECORDER_PROGRAM is the program behind it, RECORDER_FILE the file. What it says about its version is 0.1.0 or what the
program says, so that a scripted server is taken for the real one."""

import os
import subprocess
import sys
import threading

program = os.environ["RECORDER_PROGRAM"]
if sys.argv[1:] == ["--version"]:
    print("nestling 0.1.0")
    sys.exit()
child = subprocess.Popen([program, *sys.argv[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def answers():
    while data := os.read(child.stdout.fileno(), 1 << 16):
        os.write(1, data)


threading.Thread(target=answers, daemon=True).start()
stream = sys.stdin.buffer
with open(os.environ["RECORDER_FILE"], "ab", buffering=0) as record:
    while True:
        header, length = b"", 0
        while (line := stream.readline()).strip():
            header += line
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if not line:
            break
        body = stream.read(length)
        record.write(body + b"\n")
        try:
            child.stdin.write(header + b"\r\n" + body)
            child.stdin.flush()
        except BrokenPipeError:
            break
child.stdin.close()
sys.exit(child.wait())
