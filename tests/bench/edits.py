"""What to type: the hunks of a repository's commits, or lines of a folder's files."""

import random
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = {
    ".rs": "rust", ".py": "python", ".js": "javascript", ".mjs": "javascript",
    ".ts": "typescript", ".tsx": "typescriptreact", ".go": "go", ".c": "c", ".h": "c",
    ".cc": "cpp", ".cpp": "cpp", ".hpp": "cpp", ".java": "java",
}  # fmt: skip
SKIPPED_FOLDERS = {".git", "target", "node_modules", "vendor", "third_party"}
MOST_BYTES = 200_000
# Characters of a hunk: shorter ones hardly begin, longer ones are pasted or generated.
LEAST_TYPED, MOST_TYPED = 8, 300
COMMITS = 400


@dataclass
class Edit:
    """Something a person typed: `removed` characters at `start` go, then `typed` is typed."""

    path: str
    before: str
    start: int
    removed: int
    typed: str

    @property
    def language(self):
        return LANGUAGES[Path(self.path).suffix]

    def begun(self):
        """The text with the first third typed, and the cursor behind that."""
        typed = self.typed[: len(self.typed) // 3]
        text = self.before[: self.start] + typed + self.before[self.start + self.removed :]
        return text, self.start + len(typed)


def edits(source, count, seed):
    """`count` edits, and in a word where they come from."""
    chooser = random.Random(seed)
    found = from_history(source, count, chooser)
    if found:
        return found, "commits"
    return from_folder(source, count, chooser), "lines"


def from_history(source, count, chooser):
    """Hunks of ordinary commits in random order; none if this is no repository with a history."""
    if not is_repository(source):
        return []
    wanted = [f"*{suffix}" for suffix in LANGUAGES]
    log = git(source, "log", f"-{COMMITS}", "--no-merges", "--min-parents=1",
              "--diff-filter=M", "--format=%H", "--", *wanted)  # fmt: skip
    commits = log.split()
    chooser.shuffle(commits)
    found = []
    for commit in commits:
        hunks = of_commit(source, commit)
        # Not all of one commit: a large one would rule the figures.
        found += chooser.sample(hunks, min(3, len(hunks)))
        if len(found) >= count:
            break
    return found[:count]


def of_commit(source, commit):
    patch = git(source, "diff-tree", "-p", "-U0", "--no-color", "--no-ext-diff", "--no-renames",
                "--diff-filter=M", "--no-commit-id", commit)  # fmt: skip
    found = []
    for part in re.split(r"^diff --git ", patch, flags=re.M)[1:]:
        path = re.search(r"^--- a/(.+)$", part, flags=re.M)
        if not path or Path(path[1]).suffix not in LANGUAGES:
            continue
        before = git(source, "show", f"{commit}^:{path[1]}")
        if not is_usable(before):
            continue
        lines = rows(before)
        for hunk in re.split(r"^@@ ", part, flags=re.M)[1:]:
            found += of_hunk(path[1], before, lines, hunk)
    return found


def of_hunk(path, before, lines, hunk):
    header, _, body = hunk.partition("\n")
    at = re.match(r"-(\d+)(?:,(\d+))? ", header)
    if not at or "\\ No newline" in body:
        return []
    first, gone = int(at[1]), int(at[2] or 1)
    typed = "".join(line[1:] for line in rows(body) if line[0] == "+")
    # A hunk that only adds names the line before it.
    row = first - 1 if gone else first
    start = sum(map(len, lines[:row]))
    removed = sum(map(len, lines[row : row + gone]))
    # What stays at both ends was not typed: people change words, not lines.
    old = before[start : start + removed]
    head = common_prefix(old, typed)
    tail = common_prefix(old[head:][::-1], typed[head:][::-1])
    typed = typed[head : len(typed) - tail]
    if not LEAST_TYPED <= len(typed.strip()) or len(typed) > MOST_TYPED:
        return []
    return [Edit(path, before, start + head, removed - head - tail, typed)]


def from_folder(source, count, chooser):
    """Lines that are deleted and typed again."""
    found = []
    files = [
        path for path in sorted(source.rglob("*"))
        if path.suffix in LANGUAGES and path.is_file() and not SKIPPED_FOLDERS & set(path.parts)
    ]  # fmt: skip
    texts = [(path, path.read_text(errors="replace")) for path in files]
    texts = [(path, text) for path, text in texts if is_usable(text)]
    for _ in range(count * 20 if texts else 0):
        path, text = chooser.choice(texts)
        lines = rows(text)
        row = chooser.randrange(len(lines))
        if len(lines[row].strip()) >= LEAST_TYPED and len(lines[row]) <= MOST_TYPED:
            start = sum(map(len, lines[:row]))
            line = lines[row].rstrip("\n")
            found.append(Edit(str(path), text, start, len(line), line))
        if len(found) == count:
            break
    return found


def large_text(found, lines):
    """About this many lines of real code in one language, and the path of one of its files."""
    most = max(found, key=lambda edit: len(edit.before))
    parts, have = [], 0
    same = {e.path: e.before for e in found if e.language == most.language}
    while have < lines:
        for text in same.values():
            parts.append(text if text.endswith("\n") else text + "\n")
            have += parts[-1].count("\n")
    return most, "".join(rows("".join(parts))[:lines])


def is_usable(text):
    return 0 < len(text) <= MOST_BYTES and "\r" not in text and "\0" not in text


def rows(text):
    """Lines with their ends; str.splitlines would also split at form feeds and the like."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def is_repository(source):
    command = ["git", "-C", str(source), "rev-parse", "--is-inside-git-dir", "--show-toplevel"]
    done = subprocess.run(command, capture_output=True, text=True)
    first, _, top = done.stdout.strip().partition("\n")
    # A folder inside some other repository is a folder.
    return first == "true" or (done.returncode == 0 and Path(top) == source.resolve())


def git(source, *arguments):
    command = ["git", "-C", str(source), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    return done.stdout if done.returncode == 0 else ""


def common_prefix(a, b):
    length = 0
    while length < min(len(a), len(b)) and a[length] == b[length]:
        length += 1
    return length
