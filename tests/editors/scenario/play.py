"""The steps of the scenario, for any editor: what is done, and what must be there afterwards.

A driver has `abilities`, a set of words that tests/editors/scenario.json explains, and these methods:

    start(), stop()            the editor on the project, with the file open and the server running; and its end
    close()                    gives everything back that it holds; after stop() or instead of it
    model()                    the name of the model that the server reports; None if the editor cannot ask for it
    place(row, column)         the file as it is on disk, and the cursor in a row (from 1), at its end without a column
    type(text)                 keys
    shown()                    what is suggested at the cursor now, '' after some time without anything
    take_word(), take()        the keys that accept a word of it, or all of it
    text()                     the text in the editor
    choose(kind, pattern)      opens the menu of code actions at the cursor and takes the entry that matches
    execute(command, argument) asks the server to execute a command, with an argument or None
    said(), progress()         messages and news of progress that the user has seen since the start
"""

import ast
import json
import os
import re
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TINY = ROOT / "models" / "tiny"
# What a fine-tune comes to, in the words that the user sees.
ENDS = {"learnt this repository": "installed", "the model stays as it is": "not better, nothing is installed",
        "budget is too small": "refused, the budget is too small here", "was stopped and can go on": "stopped, it took too long"}


class Failure(AssertionError):
    """Something is not as it must be."""


def until(condition, what, limit=20.0):
    """Waits for something that is not falsy and returns it."""
    end = time.monotonic() + limit
    while True:
        if value := condition():
            return value
        if time.monotonic() > end:
            raise Failure(f"not within {limit:.0f} s: {what}")
        time.sleep(0.05)


def demand(condition, message):
    if not condition:
        raise Failure(message)


class Play:
    """One editor on its way through the scenario."""

    def __init__(self, scenario, driver, project, binary, environment):
        self.scenario, self.driver, self.project = scenario, driver, Path(project)
        self.binary, self.environment = binary, {**os.environ, **environment}
        self.file = self.project / scenario["project"]["file"]
        self.original = "\n".join(scenario["project"]["text"])
        self.suggested = self.model = None
        self.answers = {}
        self.hindrance = ""

    def run(self, tell):
        """Does all steps and tells of each: its name, 'ok', 'not supported', 'FAILED' or 'not reached', and a remark."""
        for step in self.scenario["steps"]:
            missing = [need for need in step["needs"] if need not in self.driver.abilities]
            begin, remark = time.monotonic(), ""
            if missing:
                result = "not supported"
            elif self.hindrance:
                result, remark = "FAILED", self.hindrance
            else:
                try:
                    remark = getattr(self, step["do"].replace(" ", "_"))(step) or ""
                    result = "ok"
                except Exception as error:  # whatever it is, it is reported and the next step has its chance
                    result, remark = "FAILED", f"{type(error).__name__}: {error}".replace("Failure: ", "")
                    if step["do"] in ("open", "restart"):
                        self.hindrance = "the editor did not start"
            tell(step["name"], result, remark, time.monotonic() - begin)
        self.driver.stop()

    # The steps, by what scenario.json says of them.

    def open(self, _):
        self.driver.start()
        self.model = self.driver.model()
        demand(self.model in (None, self.in_use()), f"the server names {self.model}, the workspace {self.in_use()}")
        self.model = self.in_use()
        return f"model {self.model}"

    def suggest(self, step):
        self.suggested = self.ask(step) or self.ask(step)
        demand(self.suggested, "nothing is suggested")
        return f"{step['type'].strip()}▸{self.suggested}"

    def take_a_word(self, _):
        inserted = self.inserted(self.driver.take_word)
        demand(self.suggested.startswith(inserted) and len(inserted) < len(self.suggested),
               f"inserted {inserted!r} of {self.suggested!r}")
        return inserted

    def take(self, _):
        shown = self.driver.shown()
        demand(shown, "nothing is suggested any more")
        inserted = self.inserted(self.driver.take)
        # A list shows the first line of what is inserted.
        whole = inserted if "ghost" in self.driver.abilities else inserted.strip().split("\n")[0]
        # Where lines end is not always to be seen on a screen.
        whole, all_shown = "".join(whole.split()), "".join(shown.split())
        if "ghost" in self.driver.abilities:
            fits = whole == all_shown
        else:
            # An entry of a list begins with the word that is typed already.
            lines = ["".join(line.split()) for line in self.driver.text().split("\n")]
            fits = whole and all_shown.endswith(whole) and any(all_shown in line for line in lines)
        demand(fits, f"inserted {inserted!r}, shown was {shown!r}")
        return inserted

    def choose(self, step):
        if "type" in step:
            self.place(step)
            self.driver.type(step["type"])
        else:
            row = self.row(step["at"])
            line = self.original.split("\n")[row - 1]
            self.driver.place(row, len(line) - len(line.lstrip()) + 1)
        self.driver.choose(step["kind"], step["entry"])
        wanted = step.get("lines", [])

        def applied():
            text = self.driver.text()
            return parses(text) and all(line in text.split("\n") for line in wanted)

        try:
            until(applied, f"a text that parses, with {wanted}", 20)
        except Failure as failure:
            raise Failure(f"{failure}; there is\n{self.driver.text()}") from None

    def learn(self, step):
        self.answers["before"] = self.probe()
        demand(self.probe() == self.answers["before"], "the same question is answered in two ways by one model")
        heard = len(self.driver.said())
        self.driver.execute("nestling.finetune", {"budget": self.scenario.get("budget") or step["budget"], "fresh": True})

        def end():
            said = " ".join(self.driver.said()[heard:])
            return next((outcome for words, outcome in ENDS.items() if words in said), None)

        # It has the lowest priority: beside other work it may get nowhere.
        try:
            outcome = until(end, "the end of the fine-tune", self.scenario.get("patience") or step["patience"])
        except Failure:
            self.driver.execute("nestling.cancelFinetune", None)
            outcome = until(end, f"the end of the fine-tune; said: {self.driver.said()[heard:]}", 120)
        if "progress" in self.driver.abilities:
            seen = [news for news in self.driver.progress() if "fine-tuning" in news]
            demand(any(not news.endswith("starting") for news in seen), f"no progress was shown: {seen}")
            outcome += f"; {len(seen)} news of progress"
        if not outcome.startswith("installed"):
            self.nestling("model", "import", str(TINY), str(self.project), "--name", "tiny", "--use")
            outcome += "; instead the model tiny is imported"
        self.model = self.in_use()
        demand(self.model != "default", "the default model is still in use")
        self.follows()
        return outcome

    def compare(self, _):
        self.answers["after"] = after = self.probe()
        before = self.answers["before"]
        changed = [(old, new) for old, new in zip(before, after) if old != new]
        demand(changed, f"no answer has changed: {after}")
        return f"{len(changed)} of {len(after)}, such as {changed[0][0]!r} → {changed[0][1]!r}"

    def restart(self, _):
        self.driver.stop()
        self.driver.start()

    def compare_again(self, _):
        self.follows()
        demand(self.in_use() == self.model, f"{self.in_use()} is in use, {self.model} was")
        again, after = self.probe(), self.answers["after"]
        demand(again == after, f"the answers were {after}, now they are {again}")
        return f"model {self.model}, and the same answers"

    # What they share.

    def row(self, text, further=0):
        lines = self.original.split("\n")
        return next(number for number, line in enumerate(lines, 1) if text in line) + further

    def place(self, step):
        self.driver.place(self.row(step["below"], 1), None)

    def ask(self, step):
        """What is suggested behind a text that is typed."""
        self.place(step)
        self.driver.type(step["type"])
        return self.driver.shown()

    def probe(self):
        return [self.ask(step) for step in self.scenario["probes"]]

    def inserted(self, accept):
        """What a key puts in: the text before and after it differ there, and nowhere else."""
        before = self.driver.text()
        accept()
        until(lambda: self.driver.text() != before, "the text changes")
        after = self.driver.text()
        at = len(os.path.commonprefix([before, after]))
        rest = len(before) - at
        demand(after.endswith(before[at:]) or rest == 0, f"more has changed than an insertion:\n{after}")
        return after[at:len(after) - rest]

    def follows(self):
        """The server reports the model that is in use, where the editor can ask it."""
        if self.driver.model() is not None:
            until(lambda: self.driver.model() == self.model, f"the server names {self.model}")
        elif self.model != "default":
            # It looks once a second.
            time.sleep(3)

    def in_use(self):
        return json.loads(self.nestling("model", "list", str(self.project), "--json"))["in_use"]

    def nestling(self, *arguments):
        done = subprocess.run([self.binary, *arguments], env=self.environment, capture_output=True, text=True, check=False)
        demand(done.returncode == 0, f"nestling {' '.join(arguments)}: {done.stderr}")
        return done.stdout


def parses(text):
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def matches(pattern, title):
    return re.search(pattern, title) is not None
