"""Runs two versions of a function or program on the same generated inputs, compares what they do, and times them in
turn. Reads spec.json in its folder; prints one JSON object. Runs in a sandbox: the code is not trusted."""

import builtins
import contextlib
import copy
import gc
import io
import json
import os
import random
import re
import signal
import sys
import time

from lines import RANGES, Lines, Source

REAL_OUT = sys.stdout
spec = json.load(open("spec.json"))
# Libraries of the user's; one thread, as the rest.
sys.path.extend(spec.get("paths", []))
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
rng = random.Random(spec["seed"])
WANTED, PAIRS = spec["inputs"], spec["pairs"]
END = time.monotonic() + spec["seconds"]
LONGEST_CALL = 2.0
sys.setrecursionlimit(20000)
# Programs expect them; Python gives them only with its start-up files, which are left out here.
builtins.exit = builtins.quit = sys.exit


class TooLong(BaseException):
    pass


rang = False


def ring(*_):
    global rang
    rang = True
    raise TooLong()


signal.signal(signal.SIGALRM, ring)


def say(**answer):
    REAL_OUT.write(json.dumps(answer))
    REAL_OUT.flush()
    sys.exit(0)


class Doubt(Exception):
    """A value whose equality cannot be told."""


def shape(value, depth=0):
    """A value as something that can be compared, types and order included."""
    if depth > 12:
        raise Doubt("a value is nested too deeply")
    kind = type(value).__name__
    if value is None or isinstance(value, (bool, int, str, bytes, complex)):
        return (kind, value)
    if isinstance(value, float):
        return (kind, repr(value))
    if isinstance(value, (list, tuple)) or kind == "deque":
        return (kind, [shape(item, depth + 1) for item in value])
    if isinstance(value, (set, frozenset)):
        return (kind, sorted(repr(shape(item, depth + 1)) for item in value))
    if isinstance(value, dict):
        return (kind, [(shape(k, depth + 1), shape(v, depth + 1)) for k, v in value.items()])
    if type(value).__module__ == "numpy":
        # Arrays by their shape and values, numbers by their type.
        shown = value.tolist()
        return (kind, str(getattr(value, "dtype", "")), repr(getattr(value, "shape", ())), repr(shown))
    if isinstance(value, (range, slice)) or kind in ("Fraction", "Decimal"):
        return (kind, repr(value))
    if kind in ("generator", "map", "filter", "zip", "enumerate", "reversed"):
        items = []
        for item in value:
            items.append(shape(item, depth + 1))
            if len(items) > 10000:
                break
        return ("iterator", items)
    raise Doubt(f"a result of type {kind} cannot be compared")


# Values.

LITERALS = spec.get("literals", {})


def an_int(size):
    pick = rng.random()
    if pick < 0.15 and LITERALS.get("int"):
        return rng.choice(LITERALS["int"]) + rng.choice([-1, 0, 0, 0, 1])
    if pick < 0.3:
        return rng.randint(-3, 3)
    return rng.randint(0, max(1, size)) if pick < 0.85 else rng.randint(-2 * size - 1, 2 * size + 1)


def a_str(size):
    pick = rng.random()
    if pick < 0.2 and LITERALS.get("str"):
        return rng.choice(LITERALS["str"])
    letters = rng.choice(["ab", "abcdef", "abcdefghijklmnopqrstuvwxyz ", "0123456789", "aB3 _-.,"])
    return "".join(rng.choice(letters) for _ in range(rng.randint(0, size)))


def make(kind, size):
    outer, _, inner = kind.partition("[")
    inner = inner[:-1] or "int"
    if outer == "int":
        return an_int(size)
    if outer == "str":
        return a_str(size)
    if outer == "float":
        return rng.choice([0.0, 1.0, -1.5, rng.uniform(-size, size)])
    if outer == "bool":
        return rng.random() < 0.5
    if outer == "bytes":
        return a_str(size).encode()
    if outer == "none":
        return None
    # Sizes of what is nested shrink.
    count = size if size > 40 else rng.randint(0, size)
    if outer in ("list", "tuple", "set", "frozenset", "deque", "sequence"):
        items = [make(inner, max(1, min(size, 12)) if "[" in inner else size) for _ in range(count)]
        if outer == "list" or outer == "sequence":
            return items
        if outer == "deque":
            from collections import deque

            return deque(items)
        return {"tuple": tuple, "set": set, "frozenset": frozenset}[outer](items)
    if outer == "dict":
        key, _, value = inner.partition(",")
        value = value or "int"
        return {make(key, size): make(value, max(1, min(size, 12)) if "[" in value else size) for _ in range(count)}
    raise ValueError(kind)


# What a parameter may be whose type nobody said, likeliest first.
GUESSES = ["int", "list[int]", "str", "list[str]", "list[list[int]]", "dict[str,int]", "float", "set[int]",
           "list[tuple[int]]", "dict[int,int]", "tuple[int]", "bool"]


@contextlib.contextmanager
def limit(seconds):
    global rang
    rang = False
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def load(path):
    space = {"__name__": "subject", "__builtins__": builtins}
    with open(path, encoding="utf-8") as file:
        exec(compile(file.read(), path, "exec"), space)
    return space


def call(function, arguments):
    """What a call does: its result or exception, its arguments afterwards, what it printed."""
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), limit(LONGEST_CALL):
            result = ("value", shape(function(*arguments)))
    except Doubt:
        raise
    except TooLong:
        return None
    except Exception as error:
        result = ("error", type(error).__name__)
    # Code that catches everything catches the end of its time, too.
    if rang:
        return None
    return result, shape(list(arguments)), out.getvalue()


def fits(did):
    return did is not None and did[0][0] == "value"


WRONG_TYPE = ("TypeError", "AttributeError")


def of_function():
    try:
        with limit(10):
            before = load("before.py")[spec["name"]]
            after = load("after.py")[spec["name"]]
    except BaseException as error:
        say(why=f"the code around it does not run alone: {type(error).__name__}: {error}")
    kinds = spec["parameters"]
    unknown = [i for i, kind in enumerate(kinds) if kind is None]
    chosen = None
    # Types that nobody said are tried until one lets most calls succeed.
    tries = 1 if not unknown else min(len(GUESSES) ** len(unknown), 240)
    best = 0.0
    for attempt in range(tries):
        guess = list(kinds)
        rest = attempt
        for place in unknown:
            guess[place] = GUESSES[rest % len(GUESSES)]
            rest //= len(GUESSES)
        good = wrong = 0
        for _ in range(12):
            did = call(before, [make(kind, 6) for kind in guess])
            good += fits(did)
            wrong += did is None or (did[0][0] == "error" and did[0][1] in WRONG_TYPE)
        score = good - 2 * wrong
        if chosen is None or score > best:
            chosen, best = guess, score
        if score >= 9 or time.monotonic() > END:
            break
    if best <= 0:
        say(why="no inputs were found on which it works: say the types of its parameters")
    seen, worked = 0, 0
    keys = set()
    tried, cap = 0, 30
    while seen < WANTED and tried < 20 * WANTED and time.monotonic() < END:
        tried += 1
        size = min(cap, rng.choice([0, 1, 2, 3, 5, 8, 13, 30]))
        arguments = [make(kind, size) for kind in chosen]
        text = repr(arguments)
        # The same input twice proves nothing; where there are few, some repeat.
        if text in keys and tried < 10 * WANTED:
            continue
        keys.add(text)
        one, two = copy.deepcopy(arguments), copy.deepcopy(arguments)
        state = random.getstate()
        start = time.perf_counter()
        was = call(before, one)
        # What grows so fast is compared on small inputs.
        if time.perf_counter() - start > 0.05:
            cap = max(2, min(cap, size) * 3 // 4)
        if was is None or (was[0][0] == "error" and was[0][1] in WRONG_TYPE):
            continue
        random.setstate(state)
        now = call(after, two)
        if was != now:
            say(inputs=seen, different={"input": text[:400], "before": repr(was)[:400], "after": repr(now)[:400]})
        seen += 1
        worked += fits(was)
    if worked * 2 < WANTED:
        say(why=f"only {worked} of {WANTED} inputs were found on which it works", inputs=seen)
    say(inputs=seen, types=chosen, **times(lambda size: [make(kind, size) for kind in chosen], before, after))


def times(inputs, before, after):
    """Times of both, in turn and in both orders, on inputs large enough to be measured."""
    if not PAIRS:
        return {}
    size, sample = 8, None
    while time.monotonic() < END:
        arguments = inputs(size)
        took = once(before, [copy.deepcopy(arguments)])
        if took is None:
            break
        sample = arguments
        if took > 0.002 or size > 200_000:
            break
        size *= 2
    if sample is None:
        return {"unmeasured": "it takes too long, or fails, on every input"}
    took = max(once(before, [copy.deepcopy(sample)]) or 1e-6, 1e-7)
    rounds = max(1, min(2000, int(0.004 / took)))
    pairs = []
    gc.disable()
    for index in range(2 * PAIRS):
        if time.monotonic() > END and index >= PAIRS:
            break
        copies = [[copy.deepcopy(sample) for _ in range(rounds)] for _ in range(2)]
        order = [0, 1] if index % 2 == 0 else [1, 0]
        pair = [0.0, 0.0]
        for which in order:
            took = once((before, after)[which], copies[which])
            if took is None:
                gc.enable()
                return {"unmeasured": "it fails on the input that is measured"}
            pair[which] = took
        pairs.append(pair)
    gc.enable()
    return {"pairs": pairs, "size": size, "rounds": rounds}


def once(function, calls):
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), limit(10 * LONGEST_CALL):
            start = time.perf_counter()
            for arguments in calls:
                # What was remembered in an earlier run is no merit of this one.
                getattr(function, "cache_clear", int)()
                result = function(*arguments)
                if hasattr(result, "__next__"):
                    for _ in result:
                        pass
            return time.perf_counter() - start
    except (Exception, TooLong):
        return None


# Programs that read lines.


class Out(io.StringIO):
    @property
    def buffer(self):
        raise Doubt("it writes bytes")


def typed(text):
    """A standard input of that text."""
    return io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8")


def play(code, lines, seconds):
    """What a program does with an input: how it ended, what it printed, and the exception if there was one."""
    space = {"__name__": "__main__", "__builtins__": builtins}
    out, old = Out(), (sys.stdin, sys.stdout, sys.argv, sys.getrecursionlimit())
    sys.stdin, sys.stdout, sys.argv = lines, out, ["subject"]
    try:
        with limit(seconds):
            exec(code, space)
        end, fault = "end", None
    except SystemExit as error:
        end, fault = f"exit {error.code}", None
    except TooLong:
        return None
    except Doubt:
        raise
    except BaseException as error:
        # A name without a value is one in a function, too.
        name = "NameError" if isinstance(error, NameError) else type(error).__name__
        end, fault = f"error {name}", error
    finally:
        sys.stdin, sys.stdout, sys.argv = old[:3]
        sys.setrecursionlimit(old[3])
    return None if rang else (end, out.getvalue(), fault)


def of_program():
    texts = [open(name, encoding="utf-8").read() for name in ("before.py", "after.py")]
    if re.search(r"\b(open\(|subprocess|socket|threading|multiprocessing|random|os\b|time\.|datetime)", texts[0]):
        say(why="it does more than read lines and print")
    try:
        codes = [compile(text, "subject", "exec") for text in texts]
    except SyntaxError as error:
        say(why=f"it does not compile: {error}")
    source = Source(texts[0])
    seen = worked = tried = failed = 0
    good, plans, plan, longest = set(), [], {}, LONGEST_CALL / 8
    while seen < WANTED and tried < 20 * WANTED and time.monotonic() < END:
        tried += 1
        if not plan and plans and rng.random() < 0.8:
            plan = copy.deepcopy(rng.choice(plans))
        if tried % 30 == 0:
            plan = {}
        # Large numbers are for programs that take nothing else: most would only run longer.
        ranges = RANGES if plans or tried < 2 * WANTED else [*RANGES, "large"]
        lines = Lines(source, rng.choice([1, 2, 3, 4, 5, 7, 10, 20]), plan, rng, ranges)
        start = time.perf_counter()
        was = play(codes[0], lines, longest)
        took = time.perf_counter() - start
        if was is None:
            plan = {}
            # It may never end on this input, or be slow on every one.
            if not plans:
                longest = min(LONGEST_CALL, 1.2 * longest)
            continue
        if was[2] is not None:
            failed += 1
            lines.correct(was[2])
            # Most that fail say only that the input was none; some are compared, too.
            if failed % 10 or seen - worked > WANTED // 4:
                continue
        text = "".join(lines.text)
        if text in good and tried < 6 * WANTED:
            plan = {}
            continue
        good.add(text)
        now = play(codes[1], typed(text), 2 * LONGEST_CALL)
        if now is None:
            say(why=f"it took more than {2 * LONGEST_CALL:.0f} s on an input that took {took:.2f} s before", inputs=seen)
        if now[:2] != was[:2]:
            say(inputs=seen, different={"input": text[:400], "before": repr(was)[:400], "after": repr(now)[:400]})
        seen += 1
        if was[2] is None:
            worked += 1
            if len(plans) < 50 and (took < 0.02 or not plans):
                plans.append(plan)
            plan = {}
    if worked * 2 < WANTED:
        say(why=f"only {worked} of {WANTED} inputs were found on which it works", inputs=seen)
    say(inputs=seen, **program_times(codes, source, plans))


def program_times(codes, source, plans):
    if not PAIRS:
        return {}
    # The sizes grow until a run takes long enough to be measured.
    best, size, begin = None, 20, time.monotonic()
    while time.monotonic() < begin + spec["seconds"] / 2 and size < 3_000_000:
        found = None
        for plan in plans[:8]:
            lines = Lines(source, size, copy.deepcopy(plan), rng)
            start = time.perf_counter()
            was = play(codes[0], lines, 4 * LONGEST_CALL)
            took = time.perf_counter() - start
            if was and was[2] is None:
                found = max(found or (0, None), (took, "".join(lines.text)))
        if found is None:
            break
        if best is None or found[0] > best[0]:
            best = found
        if found[0] > 0.03:
            break
        size *= 3
    if best is None:
        return {"unmeasured": "no larger input was found on which it works"}
    (took, text), pairs = best, []
    # What is over at once is run several times, so that the clock does not decide.
    rounds = max(1, min(200, int(0.01 / max(took, 1e-6))))
    gc.disable()
    for index in range(PAIRS):
        order = [0, 1] if index % 2 == 0 else [1, 0]
        pair = [0.0, 0.0]
        for which in order:
            for _ in range(rounds):
                stdin = typed(text)
                start = time.perf_counter()
                did = play(codes[which], stdin, 10 * LONGEST_CALL)
                pair[which] += time.perf_counter() - start
                if did is None:
                    return {"unmeasured": "it takes too long on the input that is measured"}
        pairs.append(pair)
        if time.monotonic() > begin + 1.5 * spec["seconds"]:
            break
    gc.enable()
    return {"pairs": pairs, "size": size, "rounds": rounds}


try:
    of_function() if spec["kind"] == "function" else of_program()
except Doubt as doubt:
    say(why=str(doubt))
