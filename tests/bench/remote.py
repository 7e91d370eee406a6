"""What a remote model costs the one who types: the time of an answer without one, with one that stalls, and with one
that answers.

    python3 tests/bench/remote.py NESTLING [--rounds 60]

The servers are in this program, on loopback: one takes a question and says nothing, the other answers after 20 ms.
Each keystroke asks at another place, so that no answer is used twice. Prints p50 and p95 of each in milliseconds.
"""

import argparse
import json
import socket
import threading
import time

from lsp import AUTOMATIC, Client, Document

CODE = "def area_{0}(width, height):\n    return width * height\n\n\nprint(area_{0}(\n"


def listen(answer):
    """A server that gives each request this, and keeps the connection; its address."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve(connection):
        while request := connection.recv(1 << 16):
            if answer and request.endswith(b"}"):
                time.sleep(0.02)
                connection.sendall(answer)

    def accept():
        while True:
            threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}"


def times(command, remote, rounds):
    client = Client(command)
    client.start({"debounce": 0, **({"remote": {"url": remote}} if remote else {})})
    client.wait_for_model()
    document = Document(client, "file:///project/shapes.py", "python", "")
    taken = []
    for number in range(rounds):
        document.replace(0, len(document.text), CODE.format(number))
        taken.append(client.wait(document.ask(len(document.text) - 1, AUTOMATIC)).milliseconds)
    state = (client.status()["remote"] or {}).get("state")
    client.stop()
    taken = sorted(taken[5:])  # the first ones warm the caches
    return taken[len(taken) // 2], taken[len(taken) * 95 // 100], state


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("nestling")
    parser.add_argument("--rounds", type=int, default=60)
    args = parser.parse_args()
    body = "data: " + json.dumps({"choices": [{"text": "2, 3))\n"}]}) + "\n\n"
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    for name, remote in (("none", None), ("stalls", listen(b"")), ("answers", listen(answer))):
        p50, p95, state = times([args.nestling, "serve"], remote, args.rounds)
        print(f"{name:8} p50 {p50:7.1f} ms   p95 {p95:7.1f} ms   {state or ''}", flush=True)


if __name__ == "__main__":
    main()
