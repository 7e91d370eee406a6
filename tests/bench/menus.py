"""From the key that opens the quick-fix menu to the menu: broken files of a repository, and the engine at work.

    python3 tests/bench/menus.py --repo DIR [--nestling PROGRAM] [--count 200]

In each file a bracket near a changed line is taken out. Then a completion is asked for, so that the engine has something else to
do, and right behind it the menu of that line with a diagnostic of another server on a line far off, twice: as a user opens it
for the first time, and again. Files of 5,000 lines and of 5 MB follow. No menu may take longer than 100 ms.
"""

import argparse
import random
import statistics
from pathlib import Path

from edits import edits, large_text
from lsp import INVOKED, Client, Document

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 100
BRACKETS = "()[]{}"
REPORTED = {"severity": 1, "source": "another", "message": "cannot find value `count` in this scope"}


def menu(client, document, at, reported):
    place, far = document.position(at), document.position(reported)
    diagnostic = {**REPORTED, "range": {"start": far, "end": far}}
    params = {
        "textDocument": {"uri": document.uri},
        "range": {"start": place, "end": place},
        "context": {"diagnostics": [diagnostic]},
    }
    return client.call("textDocument/codeAction", params)


def broken(text, start):
    """The text without the bracket that is nearest to a place, and where it stood."""
    near = min((at for at, c in enumerate(text) if c in BRACKETS), key=lambda at: abs(at - start), default=None)
    return None if near is None else (text[:near] + text[near + 1 :], near)


def ask(client, uri, language, text, start, samples):
    found = broken(text, start)
    if found is None:
        return
    text, at = found
    document = Document(client, uri, language, text)
    busy = document.ask(min(at, len(text)), INVOKED)
    for number in range(2):
        reply = menu(client, document, at, len(text) // 2)
        samples.setdefault(number, []).append(reply.milliseconds)
        samples.setdefault("entries", []).append(len(reply.result or []))
    client.wait(busy)
    document.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repo", type=Path, required=True)
    parser.add_argument("--nestling", type=Path, default=ROOT / "target/release/nestling")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    found, _ = edits(options.repo, options.count, options.seed)
    random.Random(options.seed).shuffle(found)
    client = Client([str(options.nestling.resolve()), "serve"])
    client.start({})
    client.wait_for_model()
    files, large = {}, {}
    for number, edit in enumerate(found):
        ask(client, f"file:///menus/{number}/{edit.path}", edit.language, edit.before, edit.start, files)
    edit, text = large_text(found, 5000)
    for number in range(10):
        ask(client, f"file:///menus/large-{number}", edit.language, text, len(text) // 2, large)
    for number in range(3):
        ask(client, f"file:///menus/huge-{number}.py", "python", "x = f(1)\n" * 560_000, 100, large)
    client.stop()
    print(f"{len(files[0])} files, {statistics.mean(files['entries']):.1f} entries each; milliseconds: p50, p95, longest")
    longest = 0
    for name, samples in [("first", files[0]), ("again", files[1]), ("large", large[0] + large[1])]:
        ordered = sorted(samples)
        p95 = ordered[int(0.95 * (len(ordered) - 1))]
        print(f"{name:>6} {statistics.median(ordered):6.0f} {p95:6.0f} {ordered[-1]:6.0f}")
        longest = max(longest, ordered[-1])
    print("within" if longest <= LIMIT else "OVER", f"{LIMIT} ms")


if __name__ == "__main__":
    main()
