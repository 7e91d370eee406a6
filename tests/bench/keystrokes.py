"""From keystroke to answer: types real edits into `nestling serve` and measures what a user feels.

    python3 tests/bench/keystrokes.py --repo DIR          commits of a repository, or lines of a folder
    python3 tests/bench/keystrokes.py --repo DIR --model MODEL --json report.json --picture h.svg

Each hunk of a commit is typed into the file as it was before, character by character, line
breaks together with their indentation, at a human rhythm: fast within words, slower between
them, with pauses at line ends. After each key the client sends the change, cancels the request
that still waits, and asks again, as editors do. A suggestion that is the rest of the line (or
of several lines) is accepted once it has been visible for a human reaction time; until then,
and when it is right only in its first characters, typing goes on.

How the figures are taken:
- An answer's time runs from before its request is written to the moment its last byte is read,
  debounce included. While typing, slow answers are cancelled by the next key and fall out of
  the sample, so "at a pause" is the honest part: there the typist always waits for the answer.
- "Typed through" is an answer that is what remained of the suggestion shown before.
- A change in a 5,000-line file is timed by the server, from the start of its handler to the end
  (`changeMs` of `nestling/status`), and by the client, to the answer of a `nestling/status` request
  sent right behind it. Of that nothing is subtracted; the status request alone is printed beside it.
- Cancelled requests are measured from the cancellation to the answer: those of the typing, and
  invoked ones that are cancelled at a random moment of their run.
- A start is a new process up to its first answer with something in it, at a place where the
  model is known to have something to say; files are in the system's cache. Before the model is
  ready that answer may be the fallback's; both times are printed, and the later one is judged.

Python 3.11, nothing else. Exit code 1: the protocol was broken, or with --check a target missed.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

from edits import edits, large_text
from lsp import AUTOMATIC, INVOKED, PATIENCE, Broken, Client, Document, items
from picture import histogram

ROOT = Path(__file__).resolve().parents[2]
MEGABYTE = 1_000_000
LARGE_LINES = 5000
# Stands for a suggestion that removes what follows the cursor; nobody types this.
REPLACES = "\uffff"
# What must be reached, in milliseconds.
TARGETS = {
    "answer_p50": 80, "answer_p95": 200, "change_p95": 2, "cancelled_max": 20, "start_max": 1500,
}  # fmt: skip


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repo", type=Path, required=True, help="git repository or folder")
    parser.add_argument("--nestling", type=Path, default=ROOT / "target/release/nestling")
    parser.add_argument("--model", type=Path, help="instead of the model inside the program")
    parser.add_argument("--count", type=int, default=25, help="edits to type")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--interval-ms", type=float, default=60, help="mean time between keys")
    parser.add_argument("--reaction-ms", type=float, default=250)
    parser.add_argument("--debounce", help="auto or milliseconds; by default the server's default")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all figures and samples here")
    parser.add_argument("--picture", type=Path, help="write a histogram of the answers here (SVG)")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a target is missed")
    arguments = parser.parse_args()
    for path in (arguments.repo, arguments.nestling):
        if not path.exists():
            parser.error(f"{path} is missing")
    if arguments.interval_ms <= 0 or arguments.count < 1 or arguments.starts < 1:
        parser.error("--interval-ms, --count and --starts must be positive")
    return arguments


class Bench:
    def __init__(self, arguments, found):
        self.arguments, self.found = arguments, found
        self.random = random.Random(arguments.seed)
        self.command = [str(arguments.nestling.resolve()), "serve"]
        self.model = ["--model", str(arguments.model)] if arguments.model else []
        debounce = arguments.debounce
        self.options = {}
        if debounce:
            self.options["debounce"] = int(debounce) if debounce.isdigit() else debounce
        self.answers = []  # dictionaries of the replay's answers
        self.cancelled = {"typing": [], "running": []}
        self.counts = dict.fromkeys(["keys", "edits", "right", "exact", "accepted"], 0)
        self.different = []  # documents that ended different on the two sides

    def connect(self):
        return Client(self.command + self.model)

    def talkative(self, client):
        """The first edit at whose begun state the model has something to say when it is asked."""
        for edit in self.found:
            text, cursor = edit.begun()
            document = Document(client, "file:///talk", edit.language, text)
            found = items(client.wait(document.ask(cursor, INVOKED)))
            document.close()
            if found:
                return edit
        raise Broken("the model answered with nothing at every place; is it trained?")

    def starts(self, edit):
        """Milliseconds to the first answer with something in it, and to one by the model."""
        text, cursor = edit.begun()
        samples = []
        for _ in range(self.arguments.starts):
            client = self.connect()
            client.start(self.options)
            document = Document(client, "file:///start", edit.language, text)
            sample = {}
            while "model" not in sample:
                is_ready = client.status()["model"]["state"] == "ready"
                asked = client.wait(document.ask(cursor, INVOKED))
                elapsed = (asked.answered - client.started) * 1000
                if items(asked):
                    sample.setdefault("first", elapsed)
                    if is_ready:
                        sample["model"] = elapsed
                if elapsed > 1000 * PATIENCE:
                    raise Broken(f"no answer of the model within {PATIENCE:.0f} s of a start")
                time.sleep(0.005)
            client.stop()
            samples.append(sample)
        return samples

    def changes(self, client):
        """Milliseconds for a change of a large file and a status request behind it; and without."""
        edit, text = large_text(self.found, LARGE_LINES)
        document = Document(client, "file:///large", edit.language, text)
        client.status()
        samples, alone = [], []
        lines = [line for line in text.split("\n") if len(line) > 10]
        while len(samples) < 300:
            # A real line is typed again below itself.
            line = self.random.choice(lines)
            at = text.index(line)
            document.replace(at, at, "\n")
            for offset, character in enumerate(line, at):
                time.sleep(0.01)
                start = time.perf_counter()
                document.replace(offset, offset, character)
                samples.append((client.call("nestling/status").answered - start) * 1000)
                time.sleep(0.002)
                idle = client.call("nestling/status")
                alone.append(idle.milliseconds)
            document.replace(at, at + len(line) + 1, "")
        inside = client.status()["changeMs"]
        self.compare(document)
        return {"lines": text.count("\n"), "with_change": samples, "status_alone": alone,
                "inside": inside}  # fmt: skip

    def replay(self, client):
        for number, edit in enumerate(self.found):
            uri = f"file:///bench/{number}/{edit.path.lstrip('/')}"
            document = Document(client, uri, edit.language, edit.before)
            if edit.removed:
                document.replace(edit.start, edit.start + edit.removed, "")
            self.type(client, document, edit.start, edit.typed)
            self.compare(document)
            self.counts["edits"] += 1
            progress(f"typed {number + 1} of {len(self.found)} edits")

    def type(self, client, document, offset, rest):
        """Types `rest`, or accepts what saves typing it."""
        shown, visible_since, asked = None, None, None
        key = next_key(rest)
        while key:
            document.replace(offset, offset, key)
            offset, rest = offset + len(key), rest[len(key) :]
            if asked and asked.answered is None:
                client.cancel(asked)
            asked = document.ask(offset, AUTOMATIC)
            self.counts["keys"] += 1
            shown = shown[len(key) :] if shown and shown.startswith(key) else None

            gap, is_pause = self.gap(key, rest)
            next_at = asked.sent + gap
            if is_pause:
                client.wait(asked)
            else:
                client.wait_until(lambda sent=asked: sent.answered is not None, gap)
            if asked.answered is not None:
                new = suggested(asked, document, offset)
                kind = "nothing" if new is None else "new"
                if new and shown and shown == new:
                    kind = "typed through"
                is_right = bool(new) and rest.startswith(new)
                is_exact = is_right and (rest[len(new) :] or "\n").startswith("\n")
                self.note(asked, kind, is_pause, is_right, is_exact)
                if not is_exact:
                    visible_since = None
                elif kind == "new" or visible_since is None:
                    visible_since = asked.answered
                shown = new
            time.sleep(max(0.0, next_at - time.perf_counter()))

            key = next_key(rest)
            seen_for = time.perf_counter() - visible_since if visible_since else 0
            if shown and seen_for * 1000 >= self.arguments.reaction_ms:
                if (rest[len(shown) :] or "\n").startswith("\n") and rest.startswith(shown):
                    self.accept(client, asked)
                    key, visible_since = shown, None
        if asked and asked.answered is None:
            client.wait(asked)

    def accept(self, client, asked):
        self.counts["accepted"] += 1
        command = items(asked)[0]["command"] if items(asked) else None
        if command:
            name, values = command["command"], command["arguments"]
            client.call("workspace/executeCommand", {"command": name, "arguments": values})

    def note(self, asked, kind, is_pause, is_right, is_exact):
        self.counts["right"] += is_right
        self.counts["exact"] += is_exact
        sample = {"ms": round(asked.milliseconds, 3), "kind": kind, "pause": is_pause}
        self.answers.append(sample)

    def gap(self, key, rest):
        """Seconds to the next key, and whether it is a pause in which the typist looks up."""
        mean = self.arguments.interval_ms / 1000
        if not rest or rest.startswith("\n") or key.startswith("\n"):
            return mean * self.random.uniform(6, 12), True
        if not key[-1].isalnum() and key[-1] != "_":
            if self.random.random() < 0.15:
                return mean * self.random.uniform(5, 10), True
            return mean * self.random.uniform(1.0, 3.0), False
        return mean * self.random.uniform(0.4, 1.2), False

    def cancel_runs(self, client, count):
        """Requests that are cancelled while the model works for them."""
        for index in range(count):
            edit = self.random.choice(self.found)
            text, cursor = edit.begun()
            document = Document(client, f"file:///cancel/{index}", edit.language, text)
            asked = document.ask(cursor, INVOKED)
            time.sleep(self.random.uniform(0.001, 0.04))
            if asked.answered is None:
                client.cancel(asked)
            client.wait(asked)
            self.add_cancelled("running", asked)
            document.close()

    def add_cancelled(self, kind, sent):
        """Notes a cancelled request, unless its answer was under way already."""
        if sent.cancelled is not None and sent.was_withdrawn:
            self.cancelled[kind].append((sent.answered - sent.cancelled) * 1000)

    def compare(self, document):
        if not document.is_same_on_server():
            self.different.append(document.uri)
        document.close()


def next_key(rest):
    """What one key press brings: a character, or a line break with its indentation."""
    if not rest:
        return ""
    end = 1
    if rest[0] in " \t\n":
        while rest[0] == "\n" and end < len(rest) and rest[end] in " \t":
            end += 1
    return rest[:end]


def suggested(asked, document, offset):
    """The text that accepting would put at the cursor; None if nothing is shown."""
    found = items(asked)
    if not found:
        return None
    new, place = found[0]["insertText"], found[0].get("range")
    if place is None:
        return new
    start, end = document.offset(place["start"]), document.offset(place["end"])
    before, after = document.text[start:offset], document.text[offset:end]
    if not new.startswith(before):
        raise Broken(f"a suggestion changes text before the cursor: {found[0]}")
    if after.isspace():
        return new[len(before) :]
    return new[len(before) : len(new) - len(after)] if new.endswith(after) else REPLACES


def measure(arguments, found):
    bench = Bench(arguments, found)
    info = model_info(bench)
    client = bench.connect()
    client.start(bench.options)
    client.wait_for_model()
    progress("starting")
    starts = bench.starts(bench.talkative(client))
    progress("changing a large file")
    changes = bench.changes(client)
    (machine, own), begun = processor_seconds(client), time.perf_counter()
    bench.replay(client)
    for sent in client.requests.values():
        bench.add_cancelled("typing", sent)
    bench.cancel_runs(client, 100)
    (machine_after, own_after), wall = processor_seconds(client), time.perf_counter() - begun
    memory, status = client.memory(), client.status()
    others = max(0.0, machine_after - machine - (own_after - own)) / wall if machine else None
    exit_code = client.stop()
    progress("")

    answered = bench.answers
    shown = [sample for sample in answered if sample["kind"] != "nothing"]
    requests = list(client.requests.values())
    inline = [sent for sent in requests if sent.method == "textDocument/inlineCompletion"]
    limit = 3 * info["file_bytes"] + 100 * MEGABYTE
    report = {
        "model": info["name"], "model_bytes": info["file_bytes"], "memory_limit": limit,
        "memory": memory, "interval_ms": arguments.interval_ms, "debounce": arguments.debounce,
        "others_busy": others, "exit_code": exit_code,
        "answer": summary(sample["ms"] for sample in answered),
        "answer_at_a_pause": summary(s["ms"] for s in answered if s["pause"]),
        "answer_while_typing": summary(s["ms"] for s in answered if not s["pause"]),
        **{
            f"answer_{kind.replace(' ', '_')}": summary(
                s["ms"] for s in answered if s["kind"] == kind
            )
            for kind in ("new", "typed through", "nothing")
        },
        "change": {"lines": changes["lines"], **summary(changes["with_change"])},
        "change_inside": {**changes["inside"], "max": None, "count": len(changes["with_change"])},
        "status_alone": summary(changes["status_alone"]),
        "cancelled": summary(bench.cancelled["typing"] + bench.cancelled["running"]),
        "cancelled_running": summary(bench.cancelled["running"]),
        "start": summary(sample["first"] for sample in starts),
        "start_model": summary(sample["model"] for sample in starts),
        "counts": {
            **bench.counts,
            "answered": len(answered), "shown": len(shown),
            "requests": len(requests), "completions": len(inline),
            "withdrawn": sum(sent.was_withdrawn for sent in inline),
            "errors": sum(bool(sent.error) and not sent.was_withdrawn for sent in requests),
            "unanswered": len(client.unanswered()), "answered_twice": len(client.faults),
            "different_texts": len(bench.different),
        },
        "server": status, "samples": answered, "messages": client.messages,
    }  # fmt: skip
    return report


def model_info(bench):
    command = [bench.command[0], "model", "info", "--json", *bench.model]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr.strip())
    return json.loads(done.stdout)


def processor_seconds(client):
    """Processor time so far: of the whole machine (None off Linux), and of this benchmark."""
    own = sum(os.times()[:4])
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    except OSError:
        return None, own
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, fields)
    machine = (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
    return machine, own + (client.processor_seconds() or 0)


def summary(values):
    ordered = sorted(values)
    if not ordered:
        return {"count": 0, "p50": None, "p95": None, "max": None}
    rank = lambda percent: ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
    figures = {"p50": statistics.median(ordered), "p95": rank(95), "max": ordered[-1]}
    return {"count": len(ordered), **{name: round(value, 2) for name, value in figures.items()}}


def verdicts(report):
    """Each target with the figure reached; None where there is none."""
    found = {
        "answer_p50": report["answer"]["p50"], "answer_p95": report["answer"]["p95"],
        "change_p95": report["change_inside"]["p95"], "cancelled_max": report["cancelled"]["max"],
        "start_max": report["start_model"]["max"],
    }  # fmt: skip
    reached = {name: (found[name], limit) for name, limit in TARGETS.items()}
    if report["memory"]:
        reached["memory"] = (report["memory"]["VmHWM"], report["memory_limit"])
    return {name: value is not None and value <= limit for name, (value, limit) in reached.items()}


def print_table(report):
    reached = verdicts(report)
    word = lambda name: ("ok" if reached[name] else "MISSED") if name in reached else ""
    print(f"{'milliseconds':<34}{'p50':>9}{'p95':>9}{'max':>9}{'count':>8}  target")
    rows = [
        ("answer", "keystroke to answer",
         f"p50 <= 80 {word('answer_p50')}, p95 <= 200 {word('answer_p95')}"),
        ("answer_at_a_pause", "  at a pause", ""),
        ("answer_while_typing", "  while typing (slow ones cancelled)", ""),
        ("answer_new", "  new text", ""),
        ("answer_typed_through", "  typed through", ""),
        ("answer_nothing", "  nothing to show", ""),
        ("change_inside", f"didChange handled, {report['change']['lines']} lines",
         f"p95 <= 2 {word('change_p95')}"),
        ("change", "  to the answer of a status request", ""),
        ("status_alone", "  the status request alone", ""),
        ("cancelled", "cancelled request", f"max <= 20 {word('cancelled_max')}"),
        ("cancelled_running", "  while the model works", ""),
        ("start", "start to first answer", ""),
        ("start_model", "  of the model", f"max <= 1500 {word('start_max')}"),
    ]  # fmt: skip
    for key, title, target in rows:
        figures = report[key]
        numbers = (figures[name] for name in ("p50", "p95", "max"))
        line = "".join(f"{'-' if n is None else format(n, '.1f'):>9}" for n in numbers)
        print(f"{title:<34}{line}{figures['count']:>8}  {target}".rstrip())
    counts = report["counts"]
    print()
    if report["memory"]:
        now, most = (report["memory"][key] / MEGABYTE for key in ("VmRSS", "VmHWM"))
        size, limit = report["model_bytes"] / MEGABYTE, report["memory_limit"] / MEGABYTE
        print(f"memory: {now:.0f} MB now, {most:.0f} MB at most; model file {size:.1f} MB, "
              f"3x + 100 = {limit:.0f} MB: {word('memory')}")  # fmt: skip
    answered = max(1, counts["answered"])
    print(
        f"typing: {counts['edits']} edits, {counts['keys']} keys; {counts['answered']} answers: "
        f"{counts['shown'] / answered:.0%} shown, {counts['right'] / answered:.0%} right as far as "
        f"they go, {counts['exact'] / answered:.0%} exact to a line end, "
        f"{counts['accepted']} accepted"
    )
    print(
        f"protocol: {counts['requests']} requests ({counts['completions']} completions, "
        f"{counts['withdrawn']} of them withdrawn), {counts['unanswered']} unanswered, "
        f"{counts['answered_twice']} answered twice, {counts['errors']} errors, "
        f"{counts['different_texts']} texts that differ, exit code {report['exit_code']}"
    )
    if (report["others_busy"] or 0) > 0.1:
        print(f"Not a clean run: other programs kept {report['others_busy']:.1f} processors busy.",
              file=sys.stderr)  # fmt: skip


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def main():
    arguments = parse_arguments()
    found, kind = edits(arguments.repo, arguments.count, arguments.seed)
    if not found:
        sys.exit(f"{arguments.repo}: holds no code in a known language")
    try:
        report = measure(arguments, found)
    except Broken as error:
        sys.exit(f"the server: {error}")
    report["edits_from"] = kind
    print_table(report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    if arguments.picture:
        arguments.picture.write_text(histogram(report["samples"], report["answer"]))
    bad = ("unanswered", "answered_twice", "errors", "different_texts")
    if any(report["counts"][name] for name in bad) or report["exit_code"] != 0:
        return 1
    return int(arguments.check and not all(verdicts(report).values()))


if __name__ == "__main__":
    sys.exit(main())
