"""Runs the scenario in the named editors, one after the other, each with a project, a profile and models of its own.

scenario.sh calls it. At the end stands a table, and the exit code is 1 if anything in it failed."""

import argparse
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import project
from play import Play

HERE = Path(__file__).resolve().parent
WIDTH = 110


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    options.add_argument("--budget", help="time for each fine-tune, as in 20m, in place of the scenario's")
    options.add_argument("--keep", action="store_true", help="leave the folders")
    options.add_argument("editors", nargs="+")
    arguments = options.parse_args()
    # Whoever ends this ends the editors, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    scenario = json.loads((HERE.parent / "scenario.json").read_text())
    if arguments.budget:
        # Then it is waited for.
        scenario |= {"budget": arguments.budget, "patience": 7200}
    begin = time.monotonic()
    results = {editor: run(editor, scenario, arguments.keep) for editor in arguments.editors}
    print()
    steps = [step["name"] for step in scenario["steps"]]
    wide = max(map(len, steps))
    print(f"{'':{wide}}  " + "  ".join(f"{editor:13}" for editor in results))
    for step in steps:
        print(f"{step:{wide}}  " + "  ".join(f"{results[editor].get(step, 'FAILED'):13}" for editor in results).rstrip())
    failed = sum(result.get(step, "FAILED") == "FAILED" for result in results.values() for step in steps)
    print(f"\n{time.monotonic() - begin:.0f} s, {failed} failed")
    return 1 if failed else 0


def run(editor, scenario, keep):
    """What came of each step in one editor."""
    folder = Path(tempfile.mkdtemp(prefix=f"nestling-scenario-{editor}-"))
    # Nothing of the user's is read or written.
    environment = {"NESTLING_DATA": str(folder / "data"), "XDG_CACHE_HOME": str(folder / "cache"),
                   "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for name in ("NESTLING_MODEL", "NESTLING_LOG"):
        os.environ.pop(name, None)
    file = scenario["project"]["file"]
    project.make(folder / "bakery", {file: "\n".join(scenario["project"]["text"])})
    binary = str(Path(os.environ["NESTLING_BIN"]).resolve())
    results, began = {}, time.monotonic()
    print(f"{editor}:", flush=True)

    def tell(step, result, remark, seconds):
        results[step] = result
        remark = " ".join(remark.split())
        if result != "FAILED" and len(remark) > WIDTH:
            remark = remark[:WIDTH - 1] + "…"
        if result != "not supported":
            print(f"  {result:6} {step} ({seconds:.1f} s)" + (f": {remark}" if remark else ""), flush=True)

    driver = None
    try:
        (folder / "editor").mkdir()
        driver = importlib.import_module(editor).Driver(folder / "bakery", file, scenario["settings"], binary, folder / "editor", environment)
        Play(scenario, driver, folder / "bakery", binary, environment).run(tell)
    except Exception as error:  # a driver that breaks leaves the steps that it did not reach
        print(f"  FAILED {type(error).__name__}: {error}", flush=True)
    finally:
        if driver is not None:
            driver.close()
        if keep:
            print(f"  left in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    return results


if __name__ == "__main__":
    sys.exit(main())
