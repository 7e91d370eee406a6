"""An input for a program that reads lines: each line is made up when it is asked for, in the form that the code around the
question seems to want, and what the program then complains of corrects the form."""

import ast
import io
import re
import sys

SPLIT = re.compile(r"\.split\(")
NUMBERS = re.compile(r"\b(int|float|Integer|eval)\b")
# What is evaluated may be a text as well.
ANYTHING = re.compile(r"(?<!int\()(?<!float\()\beval\(")
RANGES = ["small", "upto", "digit", "wide"]
LETTERS = ["ab", "abcdefghijklmnopqrstuvwxyz", "01", "#.", "0123456789", ""]
MOST_LINES = 200_000


class Source:
    """What a program says of its input: the statement of each line, the loops that may end with a line of their own, its words."""

    def __init__(self, text):
        self.statements, self.open_loops, self.words = {}, set(), []
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) < 20:
                if node.value.isprintable() and " " not in node.value:
                    self.words.append(node.value)
            if isinstance(node, (ast.While, ast.Try)):
                self.open_loops.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
            if not isinstance(node, ast.stmt):
                continue
            if isinstance(node, (ast.For, ast.While, ast.If)):
                self.statements.setdefault(node.lineno, lines[node.lineno - 1])
            elif not isinstance(node, (ast.FunctionDef, ast.With, ast.Try)):
                part = ast.get_source_segment(text, node) or ""
                for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                    self.statements[number] = part


class Form:
    """What the lines read at one place look like."""

    def __init__(self, rng, numbers, split, count, ranges):
        self.numbers = numbers
        # None: one item that fills the line; else how many: a number, or which of the numbers read before says so.
        self.count = count if count is not None or not split else (
            ("fixed", rng.randint(1, 4)) if rng.random() < 0.4 else ("announced", rng.randrange(-2, 4)))
        # Of short lines each item has a range of its own, or all have one.
        self.ranges = [rng.choice(ranges) for _ in range(4)] if rng.random() < 0.3 else [rng.choice(ranges)] * 4
        self.length = ("fixed", rng.randint(1, 6)) if rng.random() < 0.5 else ("announced", rng.randrange(-2, 4))
        self.is_size = rng.random() < 0.9
        self.letters = rng.choice(LETTERS)
        # Lines until the one that ends a loop without a bound, and what that holds.
        self.rounds = rng.randint(1, 6)
        self.end = rng.choice(["zero", "zero", "file", "minus", "word"])


class Lines:
    """A standard input that is made up as it is read, and remembered. `plan` holds a form for each place that reads."""

    def __init__(self, source, size, plan, rng, ranges=RANGES):
        self.source, self.size, self.plan, self.rng, self.ranges = source, size, plan, rng, ranges
        self.text, self.announced, self.read_at, self.rounds = [], [], [], {}
        self.is_over = False

    def readline(self, *_):
        if self.is_over:
            return ""
        frame, place = sys._getframe(1), []
        while frame:
            if frame.f_code.co_filename == "subject" and len(place) < 4:
                place.append(frame.f_lineno)
            frame = frame.f_back
        line = self.line(tuple(place))
        if line is None or len(self.text) > MOST_LINES:
            self.is_over = True
            return ""
        self.text.append(line + "\n")
        return line + "\n"

    def form(self, place):
        if place in self.plan:
            return self.plan[place]
        statements = [self.source.statements.get(number, "") for number in place]
        whole = " ".join(statements)
        count = None
        # The statement that takes the answer apart says how many it wants; that may be a caller's.
        for statement in statements if SPLIT.search(whole) else []:
            head = statement.removeprefix("for ")
            targets = head.split(" in ")[0] if statement.startswith("for ") else head.split("=")[0] if "=" in head.split("(")[0] else ""
            names = [name for name in targets.split(",") if name.strip()]
            if len(names) > 1 and "*" not in targets:
                count = ("fixed", len(names))
                break
        form = Form(self.rng, bool(NUMBERS.search(whole)), bool(SPLIT.search(whole)), count, self.ranges)
        form.may_be_quoted = bool(ANYTHING.search(whole))
        form.is_quoted = form.may_be_quoted and self.rng.random() < 0.2
        return self.plan.setdefault(place, form)

    def line(self, place):
        form = self.form(place)
        self.rounds[place] = self.rounds.get(place, 0) + 1
        ends = form.rounds if self.size <= 20 else form.rounds * self.size // 8
        if self.rounds[place] > ends and any(number in self.source.open_loops for number in place):
            if form.end == "file":
                return None
            last = {"zero": "0", "minus": "-1"}.get(form.end) or self.a_word()
            items = [last] * (self.count(form) if form.count else 1)
        elif form.count is None:
            items = [repr(self.word(form)) if form.is_quoted else str(self.value(form)) if form.numbers else self.word(form)]
        elif form.numbers:
            count = self.count(form)
            items = [str(self.number(form.ranges[i] if count <= 4 else form.ranges[0])) for i in range(count)]
            if count <= 4 and len(self.announced) < 64:
                self.announced += map(int, items)
        else:
            items = [self.word(form) for _ in range(self.count(form))]
        if len(self.read_at) < 1000:
            self.read_at.append((place, items))
        return " ".join(items)

    def value(self, form):
        # A number that has a line of its own is most often how much of something follows.
        value = max(1, self.number("size" if form.is_size else form.ranges[0]))
        if len(self.announced) < 64:
            self.announced.append(value)
        return value

    def told(self, how):
        kind, value = how
        if kind == "fixed":
            return value
        known = self.announced or [self.size]
        return max(0, min(known[min(value, len(known) - 1) if value >= 0 else max(value, -len(known))], 100_000))

    def count(self, form):
        return self.told(form.count)

    def number(self, kind):
        rng, size = self.rng, self.size
        if kind == "size":
            return rng.randint(max(1, size * 3 // 4), max(1, size))
        if kind == "small":
            return rng.randint(1, 3 + min(size, 20))
        if kind == "upto":
            return rng.randint(1, max(1, self.announced[0] if self.announced else size))
        if kind == "digit":
            return rng.randint(0, 9)
        return rng.randint(1, 1000) if kind == "wide" else rng.randint(10_000, 99_999)

    def a_word(self):
        return self.rng.choice(self.source.words or ["a"])

    def word(self, form):
        if not form.letters:
            return "".join(self.a_word() for _ in range(self.rng.randint(1, 3))) if form.count is None else self.a_word()
        word = "".join(self.rng.choice(form.letters) for _ in range(max(1, self.told(form.length))))
        return word.lstrip("0") or word

    def correct(self, error):
        """Makes the plan fit what a run complained of; else one of its forms is thought up anew."""
        said = str(error)
        if isinstance(error, ValueError) and (found := re.search(r"(?:base \d+|to float): '(.*)'$", said)):
            for place, items in reversed(self.read_at):
                if found[1] in items or found[1] == " ".join(items):
                    form = self.plan[place]
                    if not form.numbers:
                        form.numbers = True
                    elif len(items) > 1:
                        form.count = None
                    else:
                        break
                    return
        if isinstance(error, ValueError) and (found := re.search(r"\(expected (?:at least )?(\d+)(?:, got (\d+))?\)", said)):
            for place, items in reversed(self.read_at):
                if found[2] is None or len(items) == int(found[2]):
                    self.plan[place].count = ("fixed", int(found[1]))
                    return
        if isinstance(error, (TypeError, AttributeError)) and "'int'" in said:
            for place, _ in reversed(self.read_at):
                if self.plan[place].may_be_quoted and not self.plan[place].is_quoted:
                    self.plan[place].is_quoted = True
                    return
        if self.plan:
            del self.plan[self.rng.choice(list(self.plan))]

    # What reads all at once gets a head of numbers and rows below it.
    def read(self, *_):
        return "".join(self)

    def readlines(self, *_):
        return list(self)

    def __iter__(self):
        """Lines until the end: a first one as it is asked for, then as many alike as it says."""
        if head := self.readline():
            yield head
        rows = self.announced[0] if self.announced else self.size
        for _ in range(min(rows, MOST_LINES)):
            if not (line := self.readline()):
                break
            yield line
        self.is_over = True

    def __next__(self):
        if line := self.readline():
            return line
        raise StopIteration

    @property
    def buffer(self):
        return Bytes(self)

    def fileno(self):
        raise io.UnsupportedOperation("fileno")

    def isatty(self):
        return False


class Bytes:
    """The same as bytes."""

    def __init__(self, lines):
        self.lines = lines

    def readline(self, *_):
        return self.lines.readline().encode()

    def read(self, *_):
        return self.lines.read().encode()

    def readlines(self, *_):
        return [line.encode() for line in self.lines]

    def __iter__(self):
        return (line.encode() for line in self.lines)
