"""A language client that notes when each message leaves and when its answer arrives."""

import json
import queue
import subprocess
import threading
import time
from dataclasses import dataclass

PATIENCE = 30.0
INVOKED, AUTOMATIC = 1, 2


class Broken(Exception):
    """The server did something that no server may do."""


@dataclass
class Sent:
    """A request and what became of it; times are in seconds of time.perf_counter()."""

    number: int
    method: str
    sent: float
    cancelled: float | None = None  # when its cancellation was sent
    answered: float | None = None
    result: object = None
    error: dict | None = None

    @property
    def milliseconds(self):
        return (self.answered - self.sent) * 1000

    @property
    def was_withdrawn(self):
        """Answered as cancelled, not with a result."""
        return self.error is not None and self.error.get("code") == -32800


class Client:
    """One server process. A thread reads, so that the time of an answer is that of its arrival."""

    def __init__(self, command):
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.requests = {}
        self.faults = []  # answers that no request waits for
        self.messages = []  # what the server wants its user to read
        self.arrivals = queue.SimpleQueue()
        self.lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def notify(self, method, params):
        self._write({"method": method, "params": params})

    def request(self, method, params):
        number = len(self.requests) + 1
        # The clock runs from before the message is even put into JSON.
        sent = self.requests[number] = Sent(number, method, time.perf_counter())
        self._write({"id": number, "method": method, "params": params})
        return sent

    def cancel(self, sent):
        sent.cancelled = time.perf_counter()
        self.notify("$/cancelRequest", {"id": sent.number})

    def call(self, method, params=None):
        return self.wait(self.request(method, params))

    def wait(self, sent, timeout=PATIENCE):
        """Waits for an answer; an error is one too."""
        if not self.wait_until(lambda: sent.answered is not None, timeout):
            raise Broken(f"no answer to {sent.method} (id {sent.number}) within {timeout:.0f} s")
        return sent

    def wait_until(self, is_reached, timeout):
        """Sleeps until something that an answer brings about is true; False at the time limit."""
        deadline = time.perf_counter() + timeout
        while not is_reached():
            left = deadline - time.perf_counter()
            if left <= 0:
                return False
            try:
                if self.arrivals.get(timeout=left) is None:
                    raise Broken("the server closed its output")
            except queue.Empty:
                return False
        return True

    def start(self, options):
        """The handshake of an editor that shows ghost text."""
        params = {"processId": None, "rootUri": None, "capabilities": {}}
        actions = {"resolveSupport": {"properties": ["edit"]}}
        params["capabilities"]["textDocument"] = {"inlineCompletion": {}, "codeAction": actions}
        params["capabilities"]["workspace"] = {"workspaceEdit": {"documentChanges": True}}
        params["capabilities"]["general"] = {"positionEncodings": ["utf-16"]}
        if options:
            params["initializationOptions"] = {"nestling": options}
        reply = self.call("initialize", params)
        if reply.error:
            raise Broken(f"initialize failed: {reply.error}")
        self.notify("initialized", {})

    def status(self):
        return self.call("nestling/status").result

    def wait_for_model(self):
        while True:
            model = self.status()["model"]
            if model["state"] == "ready":
                return
            if model["state"] != "loading":
                raise Broken(f"the model is {model['state']}: {model.get('reason')}")
            time.sleep(0.005)

    def stop(self):
        """Ends the server by the protocol; returns its exit code."""
        try:
            self.call("shutdown")
            self.notify("exit", None)
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()

    def unanswered(self):
        return [sent for sent in self.requests.values() if sent.answered is None]

    def processor_seconds(self):
        """Processor time of the server so far; None where /proc is missing."""
        try:
            with open(f"/proc/{self.process.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / 100

    def memory(self):
        """Resident bytes, now and at most; None where /proc is missing."""
        try:
            with open(f"/proc/{self.process.pid}/status") as file:
                lines = dict(line.split(":", 1) for line in file)
        except OSError:
            return None
        return {key: int(lines[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM")}

    def _write(self, message):
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        with self.lock:
            self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
            self.process.stdin.flush()

    def _read(self):
        stream = self.process.stdout
        while line := stream.readline():
            length = None
            while line.strip():
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
                line = stream.readline()
            body = stream.read(length)
            self._take(json.loads(body), time.perf_counter())
        self.arrivals.put(None)

    def _take(self, message, now):
        if "method" in message:
            if "id" in message:
                self._write({"id": message["id"], "result": None})
            elif message["method"] in ("window/showMessage", "window/logMessage"):
                self.messages.append(message["params"]["message"])
            return
        sent = self.requests.get(message.get("id"))
        if sent is None or sent.answered is not None:
            self.faults.append(message)
            return
        sent.result, sent.error = message.get("result"), message.get("error")
        sent.answered = now
        self.arrivals.put(sent)


class Document:
    """A text that the server holds too. Offsets are characters; the server hears UTF-16."""

    def __init__(self, client, uri, language, text):
        self.client, self.uri, self.text, self.version = client, uri, text, 1
        document = {"uri": uri, "languageId": language, "version": 1, "text": text}
        client.notify("textDocument/didOpen", {"textDocument": document})

    def position(self, offset):
        start = self.text.rfind("\n", 0, offset) + 1
        line = self.text.count("\n", 0, start)
        return {"line": line, "character": utf16_length(self.text[start:offset])}

    def offset(self, position):
        start = 0
        for _ in range(position["line"]):
            start = self.text.index("\n", start) + 1
        end, units = start, 0
        while units < position["character"]:
            units += utf16_length(self.text[end])
            end += 1
        return end

    def replace(self, start, end, new):
        """Edits both sides."""
        place = {"start": self.position(start), "end": self.position(end)}
        self.version += 1
        self.client.notify(
            "textDocument/didChange",
            {
                "textDocument": {"uri": self.uri, "version": self.version},
                "contentChanges": [{"range": place, "text": new}],
            },
        )
        self.text = self.text[:start] + new + self.text[end:]

    def ask(self, offset, trigger):
        params = {
            "textDocument": {"uri": self.uri},
            "position": self.position(offset),
            "context": {"triggerKind": trigger},
        }
        return self.client.request("textDocument/inlineCompletion", params)

    def is_same_on_server(self):
        reply = self.client.call("nestling/text", {"uri": self.uri})
        return not reply.error and reply.result["text"] == self.text

    def close(self):
        self.client.notify("textDocument/didClose", {"textDocument": {"uri": self.uri}})


def utf16_length(text):
    return len(text.encode("utf-16-le")) // 2


def items(sent):
    """The items of an answer; none for an error."""
    result = sent.result
    return (result.get("items", []) if isinstance(result, dict) else result) or []
