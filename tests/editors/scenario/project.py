"""Makes the project of the scenario: a git repository of Python, a dozen commits in which one convention repeats.

Every module holds a record with the same four methods and a ledger with the same five; what differs are the fields. So
there is something to remember and something to learn, and the same text comes out each time."""

import os
import subprocess
from pathlib import Path

COMMITS = 12
# A record and its fields beside `name`: whole numbers, amounts, words, yes or no.
RECORDS = {
    "Loaf": "weight:float crust:str slices:int sliced:bool", "Oven": "heat:float trays:int lit:bool",
    "Flour": "grain:str amount:float sieved:bool", "Order": "customer:str loaves:int price:float paid:bool",
    "Baker": "shift:str hours:float loaves:int", "Shelf": "length:float places:int dusty:bool",
    "Tray": "width:float depth:float loaves:int", "Yeast": "strain:str age:int amount:float awake:bool",
    "Recipe": "author:str minutes:int salt:float tested:bool", "Batch": "recipe:str loaves:int started:float done:bool",
    "Basket": "wood:str volume:float full:bool", "Window": "street:str panes:int clean:bool",
    "Customer": "street:str visits:int credit:float", "Van": "driver:str crates:int fuel:float",
    "Crate": "colour:str loaves:int weight:float closed:bool", "Mill": "river:str stones:int speed:float turning:bool",
    "Sack": "grain:str weight:float torn:bool", "Knife": "maker:str length:float sharp:bool",
    "Scale": "maker:str limit:float error:float", "Timer": "minutes:int sound:str running:bool",
    "Bowl": "glaze:str volume:float cracked:bool", "Apron": "owner:str pockets:int washed:bool",
    "Invoice": "customer:str lines:int total:float settled:bool", "Market": "square:str stalls:int distance:float",
}

RECORD = '''"""{Plural} of the bakery, and the ledger in which they are kept."""

from dataclasses import dataclass, field


@dataclass
class {Name}:
    """One {name} as the ledger knows it."""

    name: str
{fields}

    @classmethod
    def from_row(cls, row: dict[str, str]) -> "{Name}":
        """The {name} that a row of the table tells of."""
        return cls(
            name=row["name"].strip(),
{reads}
        )

    def to_row(self) -> dict[str, str]:
        """The row of the table that tells of this {name}."""
        return {{
            "name": self.name,
{writes}
        }}

    def check(self) -> None:
        """Complains about a {name} that cannot be."""
        if not self.name:
            raise ValueError("a {name} without a name")
{checks}

    def describe(self) -> str:
        """One line for people."""
        parts = [self.name]
{parts}
        return ", ".join(parts)


@dataclass
class {Name}Ledger:
    """All {plural}, by their names."""

    entries: dict[str, {Name}] = field(default_factory=dict)

    def add(self, {name}: {Name}) -> None:
        {name}.check()
        if {name}.name in self.entries:
            raise KeyError(f"the {name} {{{name}.name}} is there already")
        self.entries[{name}.name] = {name}

    def take(self, name: str) -> {Name}:
        known = self.entries.get(name)
        if known is None:
            raise KeyError(f"no {name} is called {{name}}")
        del self.entries[name]
        return known

    def rows(self) -> list[dict[str, str]]:
        return [{name}.to_row() for {name} in self.entries.values()]
{sums}
'''

BY_TYPE = {
    "str": ('{f}=row["{f}"].strip(),', '"{f}": self.{f},', 'if not self.{f}:\n            raise ValueError("a {n} without a {f}")',
            'parts.append(f"{f} {{self.{f}}}")',
            '''    def of_{f}(self, {f}: str) -> list[{N}]:
        return [{n} for {n} in self.entries.values() if {n}.{f} == {f}]
'''),
    "int": ('{f}=int(row["{f}"]),', '"{f}": str(self.{f}),', 'if self.{f} < 0:\n            raise ValueError("a {n} with less than no {f}")',
            'parts.append(f"{{self.{f}}} {f}")',
            '''    def all_{f}(self) -> int:
        return sum({n}.{f} for {n} in self.entries.values())
'''),
    "float": ('{f}=float(row["{f}"]),', '"{f}": f"{{self.{f}:.2f}}",', 'if self.{f} < 0.0:\n            raise ValueError("a {n} of negative {f}")',
              'parts.append(f"{f} {{self.{f}:.1f}}")',
              '''    def mean_{f}(self) -> float:
        if not self.entries:
            return 0.0
        return sum({n}.{f} for {n} in self.entries.values()) / len(self.entries)
'''),
    "bool": ('{f}=row["{f}"] == "yes",', '"{f}": "yes" if self.{f} else "no",', None,
             'if self.{f}:\n            parts.append("{f}")',
             '''    def only_{f}(self) -> list[{N}]:
        return [{n} for {n} in self.entries.values() if {n}.{f}]
'''),
}


def module(record):
    """The text of one record's module."""
    fields = [field.split(":") for field in RECORDS[record].split()]
    name, plural = record.lower(), {"Loaf": "loaves", "Shelf": "shelves", "Knife": "knives", "Batch": "batches"}.get(record, record.lower() + "s")

    def each(column, indent, separator="\n"):
        lines = (BY_TYPE[kind][column] and BY_TYPE[kind][column].format(f=field, n=name, N=record) for field, kind in fields)
        return separator.join(indent + line for line in lines if line)

    return RECORD.format(
        Name=record, name=name, plural=plural, Plural=plural.capitalize(), fields="\n".join(f"    {field}: {kind}" for field, kind in fields),
        reads=each(0, " " * 12), writes=each(1, " " * 12), checks=each(2, " " * 8), parts=each(3, " " * 8),
        sums="\n" + each(4, "").rstrip())


def make(folder, files):
    """Makes the repository in `folder`; `files` are further texts by path, part of the last commit."""
    folder = Path(folder)
    package = folder / "bakery"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('"""The books of a bakery."""\n')
    git(folder, 0, "init", "-q", "-b", "main")
    records = list(RECORDS)
    share = len(records) // COMMITS
    for number in range(COMMITS):
        for record in records[number * share:(number + 1) * share]:
            (package / f"{record.lower()}.py").write_text(module(record))
        if number == COMMITS - 1:
            for path, text in files.items():
                (folder / path).write_text(text)
        git(folder, number, "add", "-A")
        git(folder, number, "commit", "-q", "-m", "Keep " + " and ".join(records[number * share:(number + 1) * share]).lower())


def git(folder, number, *arguments):
    day = f"2024-03-{number + 1:02}T12:00:00Z"
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
           for what, value in (("NAME", "A"), ("EMAIL", "a@b.example"), ("DATE", day))}
    # Neither the user's settings nor hooks have a say.
    environment = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, env=environment, capture_output=True)
