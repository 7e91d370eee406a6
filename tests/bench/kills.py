"""A fine-tune that is killed at random moments: does it come to the same end, and is what is installed ever half-written?

    python3 tests/bench/kills.py NESTLING [REPO] [--kills 20] [--model models/tiny] [--steps 1] [--places 60] [--seed 1]
                                   [--last SECONDS] [--folder FOLDER]

Runs it once to its end. Then, as often as asked, anew: killed (SIGKILL) after a random part of that time, looked at,
and gone on with by --resume. Without REPO, a repository is made in which what a function is called decides what stands
at the end of its lines: a rule that a model learns and a memory of texts does not, so that there is something to
install; it wants --steps 2 and --places 200, is given the model inside the program and takes about 8 minutes unbroken.
With --last, each begins where one that was killed so many seconds before its end stood, so that they are killed while it
is decided what to install, and while that happens. The number of steps is given, so that the speed of the machine
decides nothing. The same end is the same report, without what differs from run to run, and the same bytes of what is
installed. With --folder, that is worked in and left there; what an earlier run with it did before the first kill is not
done again. Exit code 1: it was not.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHANGING = ("seconds", "waited", "curve")


WORDS = "amber bark cliff dune ember fjord grove heath inlet jetty knoll ledge marsh notch oasis plain quay ridge shoal tarn".split()
VERBS = {"load": ("r", "plain"), "store": ("w", "sealed"), "append": ("a", "joined"), "inspect": ("x", "listed"), "revise": ("r+", "merged")}


def make(folder):
    """A repository of twelve commits; names of functions do not repeat."""
    draw = random.Random(7)
    names = [(a, b) for a in WORDS for b in WORDS if a != b]
    draw.shuffle(names)

    def git(*words):
        own = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
        subprocess.run(["git", "-C", folder, *own, *words], check=True, stdout=subprocess.DEVNULL)

    folder.mkdir()
    git("init", "-q")
    for number in range(12):
        for part in range(3):
            text = "from shelves import finish, open_shelf\n"
            for _ in range(9):
                (a, b), verb = names.pop(), draw.choice(sorted(VERBS))
                mode, kind = VERBS[verb]
                text += f"\n\ndef {verb}_{a}_{b}({a}, limit=None):\n    {b} = open_shelf({a}, mode=\"{mode}\")\n"
                text += f"    if {b}.size > limit:\n        return None\n    return finish({b}, kind=\"{kind}\")\n"
            Path(folder, f"shelf_{number}_{part}.py").write_text(text)
        git("add", "-A")
        git("commit", "-q", "-m", f"More shelves {number}")


def installed(data):
    """Names and bytes of the models that are installed for the repository."""
    files = sorted(path for path in data.rglob("*") if path.is_file() and ".finetune" not in path.parts)
    models = [path for path in files if path.suffix in (".gguf", ".safetensors")]
    return {str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest() for path in models}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nestling", type=Path)
    parser.add_argument("repo", type=Path, nargs="?")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--places", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--last", type=float)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    command = [options.nestling.resolve(), "finetune", "--json", "--no-wait"]
    model = options.model or (options.repo and ROOT / "models/tiny")
    command += ["--model", model.resolve()] if model else []
    command += ["--steps", str(options.steps), "--places", str(options.places)]
    draw = random.Random(options.seed)

    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        work, known = folder / "work", folder / "unbroken.json"
        asked = [str(word) for word in [*command, options.repo, options.last]]
        earlier = json.loads(known.read_text()) if known.exists() else None
        if earlier and earlier["asked"] != asked:
            sys.exit(f"{folder} has the work of another run: {earlier['asked']}")
        if not earlier:
            for path in [work, folder / "unbroken", folder / "begun"]:
                shutil.rmtree(path, ignore_errors=True)
            if options.repo:
                subprocess.run(["git", "clone", "-q", options.repo, work], check=True)
            else:
                make(work)

        def start(data, *more):
            environment = os.environ | {"NESTLING_DATA": str(data), "XDG_CACHE_HOME": str(folder / "cache")}
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            return subprocess.Popen([*command, *more], cwd=work, env=environment, **pipes)

        def end(data, *more):
            process = start(data, *more)
            out, err = process.communicate()
            if process.returncode not in (0, 1):
                sys.exit(f"code {process.returncode}: {err[-2000:]}")
            report = json.loads(out)
            return {key: value for key, value in report.items() if key not in CHANGING}, installed(data)

        if not earlier:
            begin = time.monotonic()
            report, files = end(folder / "unbroken")
            whole = time.monotonic() - begin
            earlier = {"asked": asked, "report": report, "files": files, "seconds": whole}
            known.write_text(json.dumps(earlier))
        # As it is read again.
        wanted, whole = (earlier["report"], earlier["files"]), earlier["seconds"]
        print(f"unbroken: {whole:.1f} s, {wanted[0]['verdict']}, {len(wanted[1])} file(s) installed", flush=True)
        begun, wrong = folder / "begun", 0

        def kill(process, after):
            time.sleep(after)
            process.send_signal(signal.SIGKILL)
            process.communicate()

        def begin_anew(name):
            data = folder / name
            shutil.rmtree(data, ignore_errors=True)
            if begun.exists():
                shutil.copytree(begun, data)
            return data, ["--resume"] if begun.exists() else []

        if options.last:
            if not begun.exists():
                half = folder / "half"
                shutil.rmtree(half, ignore_errors=True)
                kill(start(half), max(whole - options.last, 0))
                half.rename(begun)
            begin = time.monotonic()
            data, more = begin_anew("rest")
            wrong += end(data, *more) != wanted
            whole = time.monotonic() - begin
            print(f"the rest of it: {whole:.1f} s, {'ANOTHER END' if wrong else 'the same end'}", flush=True)
        for number in range(options.kills):
            data, more = begin_anew(f"killed-{number}")
            after = draw.uniform(0, whole)
            kill(start(data, *more), after)
            # Whole, or not there.
            there = installed(data)
            is_whole = all(wanted[1].get(name) == value for name, value in there.items())
            is_same = end(data, "--resume") == wanted
            wrong += not (is_whole and is_same)
            told = "the same end" if is_same else "ANOTHER END"
            print(f"killed after {after:4.1f} s: {told}, {'whole' if is_whole else 'HALF-WRITTEN'}", flush=True)
    print(f"{options.kills} kills, {wrong} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
