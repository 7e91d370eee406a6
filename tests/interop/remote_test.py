#!/usr/bin/env python3
"""Other machines: a real llama.cpp server answers, a certificate that nobody vouches for is refused, and an exported
fine-tune is the same in one process and in two.

    tests/interop/setup.sh
    NESTLING_BIN=target/release/nestling tests/interop/.cache/venv/bin/python tests/interop/remote_test.py [WORD]

The server listens on loopback and has our own GGUF. The fine-tune is one of the test model, at toy size.
"""

import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from interop_test import BASE, CACHE, NESTLING, ROOT, TINY, run_tests

CODE = "def area(width, height):\n    return width * height\n\n\ndef volume(width, height, depth):\n    \"\"\""
# Nobody knows what a comment will say: the local model is unsure and the other one is waited for.
PLACE = "shapes.py:6:8"
STEPS = 16


def run(*arguments, folder=None, code=0, **environment):
    done = subprocess.run(
        [NESTLING, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=folder,
        env={**os.environ, **environment},
    )
    assert done.returncode in (code if isinstance(code, tuple) else (code,)), f"{arguments}: {done}"
    return done


class LlamaCpp:
    """A server as `llama-server` starts one."""

    def __enter__(self):
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path, params.port = str(BASE), 0
        params.n_ctx, params.n_parallel, params.n_gpu_layers = 2048, 1, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.warmup, params.verbosity = False, 0
        self.server = xllamacpp.Server(params)
        return self.server.listening_address

    def __exit__(self, *_):
        del self.server


def remote_llama_cpp_answers_in_its_protocols():
    told = []
    with LlamaCpp() as url, tempfile.TemporaryDirectory() as folder:
        Path(folder, "shapes.py").write_text(CODE + "\n")
        for protocol in ("llama.cpp", "openai", "chat"):
            done = run("complete", PLACE, "--json", "--remote", url, "--protocol", protocol, folder=folder, code=(0, 1))
            remote = json.loads(done.stdout)["remote"]
            assert remote["answered"] and remote["reason"] is None, done
            told.append(f"{protocol} {remote['milliseconds']:.0f} ms")
        done = run("complete", PLACE, "--remote", url, "--protocol", "ollama", folder=folder, code=(0, 1))
        assert "has no /api/generate (404): is the protocol right" in done.stderr, done
    return ", ".join(told)


def remote_overhead_beside_a_bare_socket():
    with LlamaCpp() as url:
        done = run("eval", "remote", "--remote", url, "--protocol", "llama.cpp", "--rounds", 60)
    return done.stdout.strip()


class Refuses(BaseHTTPRequestHandler):
    def do_POST(self):  # noqa: N802, the name is that of the library
        raise AssertionError("a request came through")


def remote_certificate_is_not_accepted():
    if shutil.which("openssl") is None:
        return "skipped: no openssl to make one with"
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder, "key.pem"), Path(folder, "certificate.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days",
             "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
            check=True, capture_output=True,
        )
        server = HTTPServer(("127.0.0.1", 0), Refuses)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Path(folder, "shapes.py").write_text(CODE + "\n")
        url = f"https://127.0.0.1:{server.server_port}"
        done = run("complete", PLACE, "--remote", url, folder=folder, code=(0, 1), NESTLING_REMOTE_KEY="sk-secret")
        server.shutdown()
    line = done.stderr.strip()
    assert "\n" not in line and "certificate that is not accepted" in line and "SSL_CERT_FILE" in line, done
    assert "sk-secret" not in done.stderr, done
    return line


def torch(job, processes):
    """Runs an exported job as torchrun starts its processes; what it wrote."""
    environment = {
        **os.environ, "PYTHONPATH": str(CACHE / "peft"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
        "USE_LIBUV": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29519", "WORLD_SIZE": str(processes),
    }
    command = [CACHE / "bin/transformers-python", job / "train.py"]
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)] if processes > 1 else [{}]
    started = [
        subprocess.Popen(command, env={**environment, **rank}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in ranks
    ]
    for process in started:
        _, errors = process.communicate(timeout=500)
        assert process.returncode == 0, errors[-2000:]
    result = json.loads((job / "result.json").read_text())
    assert result["processes"] == processes, result["processes"]
    return result


def export_is_the_same_in_one_process_and_in_two():
    with tempfile.TemporaryDirectory() as folder:
        work, job, other = (Path(folder, name) for name in ("work", "job", "other"))
        shutil.copytree(ROOT / "src/suggest", work)
        data = {"NESTLING_DATA": str(Path(folder, "data"))}
        model = ("--model", TINY)
        run(*model, "finetune", work, "--no-wait", "--steps", 1, "--export", job, **data)
        settings = json.loads((job / "job.json").read_text())
        assert settings["steps"] == STEPS, settings
        shutil.copytree(job, other)
        one, two = torch(job, 1), torch(other, 2)
        apart = [abs(a / b - 1) for a, b in zip(one["losses"], two["losses"], strict=True)]
        assert max(apart) < 0.01, f"{one['losses']} and {two['losses']}"
        assert one["losses"][-1] < one["losses"][0] and one["validation"][1] < one["validation"][0], one
        # It comes back as what it is: an adapter of that model, which is let in only if it is better.
        info = run("--model", other / "adapter", "model", "info", **data)
        assert "qwen3" in info.stdout, info
        judged = run(*model, "model", "import", other / "adapter", work, "--judge", code=(0, 1), **data)
        installed = json.loads(run("model", "list", work, "--json", **data).stdout)
        assert ("adapter" in json.dumps(installed)) == (judged.returncode == 0), installed
        assert "newer lines" in judged.stdout, judged
    return f"{STEPS} steps, at most {100 * max(apart):.4f} % apart; {judged.stdout.splitlines()[0]}"


if __name__ == "__main__":
    sys.exit(run_tests(dict(globals()), ("remote_", "export_")))
