// An extension for tests: takes the text of a function over a loopback port, calls it with the `vscode` module, and
// answers with its result. The port is written to the file in PROBE_FILE.

const { renameSync, writeFileSync } = require('fs');
const { createServer } = require('http');
const vscode = require('vscode');

/** What happened to texts, in order. */
const changes = [];

exports.activate = () => {
  vscode.workspace.onDidChangeTextDocument(({ document, contentChanges }) => {
    for (const { text, rangeOffset, rangeLength } of contentChanges) {
      changes.push({ uri: document.uri.toString(), text, rangeOffset, rangeLength });
    }
  });
  const server = createServer(async (request, response) => {
    // A connection that is kept may end just when the next question goes out on it.
    response.setHeader('connection', 'close');
    let body = '';
    for await (const part of request) {
      body += part;
    }
    try {
      const { source, args } = JSON.parse(body);
      const result = await eval(`(${source})`)(vscode, ...args);
      response.end(JSON.stringify({ result: result ?? null }));
    } catch (error) {
      response.end(JSON.stringify({ error: String(error?.stack ?? error) }));
    }
  });
  globalThis.probe = { changes };
  server.listen(0, '127.0.0.1', () => {
    // Who waits for the file must not find it empty.
    const file = process.env.PROBE_FILE;
    writeFileSync(`${file}.new`, String(server.address().port));
    renameSync(`${file}.new`, file);
  });
};
