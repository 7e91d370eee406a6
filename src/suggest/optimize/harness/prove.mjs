// Runs two versions of a function on the same generated inputs, compares what they do, and times them in turn. Reads
// spec.json in its folder; prints one JSON object. Runs in a sandbox: the code is not trusted.

import { readFileSync, writeSync } from "node:fs";

const spec = JSON.parse(readFileSync("spec.json", "utf8"));
const end = Date.now() + 1000 * spec.seconds;

function say(answer) {
  writeSync(1, JSON.stringify(answer));
  process.exit(0);
}

// mulberry32: the same seed makes the same inputs.
let state = spec.seed >>> 0;
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const below = (n) => Math.floor(random() * n);
const choose = (list) => list[below(list.length)];

// A value as text that tells types, order, -0 and holes apart; an error for what has none.
function shape(value, depth = 0) {
  if (depth > 12) throw new RangeError("doubt: a value is nested too deeply");
  if (Object.is(value, -0)) return "-0";
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (value === null || ["number", "boolean", "undefined"].includes(typeof value)) return String(value);
  const inner = (v) => shape(v, depth + 1);
  if (Array.isArray(value)) {
    let text = "[";
    for (let i = 0; i < value.length; i++) text += (i in value ? inner(value[i]) : "hole") + ",";
    return text + "]";
  }
  if (value instanceof Map) return `Map{${[...value].map(([k, v]) => `${inner(k)}:${inner(v)}`)}}`;
  if (value instanceof Set) return `Set{${[...value].map(inner)}}`;
  if (ArrayBuffer.isView(value)) return `${value.constructor.name}[${[...value]}]`;
  if (value instanceof RegExp) return String(value);
  const prototype = Object.getPrototypeOf(value);
  if (typeof value === "object" && (prototype === Object.prototype || prototype === null)) {
    return `{${Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}:${inner(v)}`)}}`;
  }
  throw new RangeError(`doubt: a result of this kind cannot be compared: ${typeof value}`);
}

const { int: ints = [], str: strings = [] } = spec.literals ?? {};

function number(size) {
  const pick = random();
  if (pick < 0.15 && ints.length) return choose(ints) + choose([-1, 0, 0, 1]);
  if (pick < 0.3) return below(7) - 3;
  if (pick < 0.9) return below(size + 1);
  return choose([0.5, -1.25, -size, 2 * size + 1]);
}
function string(size) {
  if (random() < 0.2 && strings.length) return choose(strings);
  const letters = choose(["ab", "abcdef", "0123456789", "aB3 _-.,", "aäß☃"]);
  return Array.from({ length: below(size + 1) }, () => choose([...letters])).join("");
}
const list = (size, item) => Array.from({ length: size > 40 ? size : below(size + 1) }, item);
const MAKERS = {
  number,
  string,
  boolean: () => random() < 0.5,
  "number[]": (size) => list(size, () => number(size)),
  "string[]": (size) => list(size, () => string(6)),
  "number[][]": (size) => list(size, () => list(6, () => number(size))),
  object: (size) => Object.fromEntries(list(size, () => [string(3) || "k", number(size)])),
  "object[]": (size) => list(size, () => ({ id: number(size), name: string(5), value: number(9) })),
  "pair[]": (size) => list(size, () => [string(3), number(size)]),
};
const GUESSES = ["number[]", "number", "string", "string[]", "object[]", "number[][]", "object", "pair[]", "boolean"];

let subjects;
try {
  subjects = [(await import("./before.mjs")).subject, (await import("./after.mjs")).subject];
} catch (error) {
  say({ why: `the code around it does not run alone: ${error.message}` });
}

const copy = (value) => structuredClone(value);
function did(f, args) {
  let result;
  try {
    result = `value ${shape(f(...args))}`;
  } catch (error) {
    if (error instanceof RangeError && String(error.message).startsWith("doubt: ")) say({ why: error.message.slice(7) });
    result = `error ${error?.name}`;
  }
  return `${result} with ${shape(args)}`;
}
const make = (types, size) => types.map((type) => MAKERS[type](size));

const unknown = spec.parameters.flatMap((type, i) => (type ? [] : [i]));
let types = null;
let best = 0;
const tries = Math.min(GUESSES.length ** unknown.length, 240);
for (let attempt = 0; attempt < tries && best < 10 && Date.now() < end; attempt++) {
  const guess = [...spec.parameters];
  let rest = attempt;
  for (const place of unknown) {
    guess[place] = GUESSES[rest % GUESSES.length];
    rest = Math.floor(rest / GUESSES.length);
  }
  let score = 0;
  const results = new Set();
  for (let i = 0; i < 12; i++) {
    const was = did(subjects[0], make(guess, 6));
    score += was.startsWith("value ") ? 1 : was.startsWith("error TypeError") ? -2 : 0;
    results.add(was.split(" with ")[0]);
  }
  // JavaScript computes something of everything: NaN and undefined for all say that the types are wrong.
  const dull = [...results].every((text) => /^value (NaN|undefined|null)$/.test(text));
  if (!dull && score > best) [best, types] = [score, guess];
}
if (!types) say({ why: "no inputs were found on which it works" });

let seen = 0;
let worked = 0;
for (let tried = 0; seen < spec.inputs && tried < 20 * spec.inputs && Date.now() < end; tried++) {
  const args = make(types, choose([0, 1, 2, 3, 5, 8, 13, 30]));
  const [one, two] = [copy(args), copy(args)];
  const was = did(subjects[0], one);
  if (was.startsWith("error TypeError")) continue;
  const now = did(subjects[1], two);
  if (was !== now) {
    say({ inputs: seen, different: { input: shape(args).slice(0, 400), before: was.slice(0, 400), after: now.slice(0, 400) } });
  }
  seen++;
  worked += was.startsWith("value ");
}
if (worked * 2 < spec.inputs) say({ inputs: seen, why: `only ${worked} of ${spec.inputs} inputs were found on which it works` });

function time(f, calls) {
  const start = process.hrtime.bigint();
  for (const args of calls) f(...args);
  return Number(process.hrtime.bigint() - start) / 1e9;
}
const answer = { inputs: seen };
if (spec.pairs) {
  try {
    let size = 16;
    let args = make(types, size);
    // Compiled code is what is measured.
    for (let i = 0; i < 200; i++) subjects.forEach((f) => f(...copy(args)));
    while (time(subjects[0], [copy(args)]) < 0.002 && size < 100_000) args = make(types, (size *= 2));
    const took = Math.max(time(subjects[0], [copy(args)]), 1e-7);
    const rounds = Math.max(1, Math.min(2000, Math.floor(0.004 / took)));
    answer.pairs = [];
    for (let index = 0; index < 2 * spec.pairs; index++) {
      const pair = [0, 0];
      for (const which of index % 2 ? [1, 0] : [0, 1]) {
        pair[which] = time(subjects[which], Array.from({ length: rounds }, () => copy(args)));
      }
      answer.pairs.push(pair);
    }
  } catch (error) {
    delete answer.pairs;
    answer.unmeasured = `it fails on the input that is measured: ${error?.name}`;
  }
}
say(answer);
