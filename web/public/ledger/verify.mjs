// Verifies receipts and consistency proofs of the credit ledger, with WebCrypto and nothing else: no network, no
// library. An independent implementation of docs/receipts.md, which has the steps; tests/fixtures/receipts has vectors.
//
//   const keys = await trustedKeys(await (await fetch("/api/v1/ledger/keys")).json());
//   const result = await verifyReceipt(JSON.parse(text), keys);
//   result = {state: "verified" | "pending" | "invalid", checks: [{name, passed, fault}], fields, checkpoint}

import { Fault, base64, bytes, digestText, field, hex, join, list, number, object, sha256, text } from "./encoding.mjs";
import { isConsistent, isIncluded, leafNode } from "./trees.mjs";

const RECEIPT_FORMAT = "concierge.receipt.v1";
const CONSISTENCY_FORMAT = "concierge.consistency.v1";
const NOTE_BYTES_MAX = 1_000_000;
const SIGNATURES_MAX = 100;
const encoder = new TextEncoder();

// Keys.

/** The keys in the answer to GET /api/v1/ledger/keys. Throws an Error if it is something else. */
export async function trustedKeys(published) {
  object(published);
  return keyring(text(field(published, "ledger")), field(published, "keys"), field(published, "checkpointKeys"));
}

/** The keys that a receipt names itself. They prove no more than that it agrees with itself. */
export async function ownKeys(receipt) {
  const keys = object(field(object(receipt), "keys"));
  return keyring(null, field(keys, "ledger"), field(keys, "checkpoint"));
}

async function keyring(ledger, ledgerKeys, vkeys) {
  const entries = new Map();
  for (const encoded of Object.values(object(ledgerKeys))) {
    const raw = publicKey(base64(encoded));
    entries.set(hex((await sha256(raw)).slice(0, 8)), await importKey(raw));
  }
  const notes = new Map();
  for (const vkey of list(vkeys)) {
    const parts = /^([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})$/u.exec(text(vkey));
    if (!parts) throw new Fault("a vkey is <name>+<hash>+<key>");
    const typed = base64(parts[3]);
    if (typed[0] !== 1) throw new Fault("the vkey holds no Ed25519 key");
    const raw = publicKey(typed.slice(1));
    const hash = hex((await sha256(join(encoder.encode(`${parts[1]}\n`), typed))).slice(0, 4));
    if (hash !== parts[2]) throw new Fault("the vkey's hash is not that of its key");
    notes.set(`${parts[1]} ${hash}`, { name: parts[1], key: await importKey(raw) });
  }
  return { ledger, entries, notes };
}

function publicKey(raw) {
  if (raw.length !== 32) throw new Fault("a key has 32 bytes");
  return raw;
}

const importKey = (raw) => crypto.subtle.importKey("raw", raw, { name: "Ed25519" }, false, ["verify"]);
const isSignature = (key, signature, data) => crypto.subtle.verify({ name: "Ed25519" }, key, signature, data);

// Receipts.

/** Checks a parsed receipt against keys. Never throws for what is wrong with the receipt. */
export async function verifyReceipt(receipt, keys) {
  const result = { state: "invalid", checks: [], fields: null, checkpoint: null };
  return inSteps(result, () => receiptSteps(receipt, keys, result));
}

async function receiptSteps(receipt, keys, result) {
  const parts = await check(result, "the receipt is well formed", () => parse(receipt));
  const { ledger, entries, leaf, inclusion, note } = parts;
  if (keys.ledger !== null) {
    await check(result, "the ledger is the one whose keys are trusted", () => {
      if (ledger !== keys.ledger) throw new Fault(`the trusted keys are those of ${keys.ledger}`);
    });
  }
  await check(result, "the entry is signed by the ledger", async () => {
    result.fields = await sealed(entries[0], ledger, keys);
  });
  if (note === null) {
    result.state = "pending";
    return;
  }
  let last = result.fields;
  await check(result, `${entries.length - 1} later entries follow it`, async () => {
    for (let place = 1; place < entries.length; place += 1) {
      const next = await sealed(entries[place], ledger, keys);
      if (next.uid !== last.uid || next.seq !== last.seq + 1 || next.prev !== entries[place - 1].hash) {
        throw new Fault(`entry ${next.seq} does not follow entry ${last.seq}`);
      }
      last = next;
    }
  });
  await check(result, "the leaf is the account as it was then", () => {
    if (leaf.uid !== last.uid || leaf.seq !== last.seq || leaf.hash !== entries.at(-1).hash) {
      throw new Fault("it is not the entry at which the chain ends");
    }
  });
  const checkpoint = await check(result, "the checkpoint is signed by the log", async () => {
    const opened = await openCheckpoint(note, keys);
    if (opened.origin !== originOf(ledger)) throw new Fault("it is a checkpoint of another ledger");
    return opened;
  });
  result.checkpoint = checkpoint;
  await check(result, "the leaf is in the tree of the checkpoint", async () => {
    if (BigInt(inclusion.treeSize) !== checkpoint.size) {
      throw new Fault(`the proof is for a tree of ${inclusion.treeSize} leaves, not ${checkpoint.size}`);
    }
    const digest = await leafHash(ledger, leaf);
    if (!(await isIncluded(digest, BigInt(leaf.index), checkpoint, inclusion.hashes))) {
      throw new Fault("the proof does not lead from the leaf to the signed root");
    }
  });
  result.state = "verified";
}

function parse(receipt) {
  if (field(object(receipt), "format") !== RECEIPT_FORMAT) throw new Fault(`the format is not ${RECEIPT_FORMAT}`);
  const ledger = text(field(receipt, "ledger"));
  const entries = [field(receipt, "entry"), ...list(field(receipt, "chain"))].map((entry) => ({
    content: base64(field(object(entry), "content")),
    hash: digestText(field(entry, "hash")),
    keyId: text(field(entry, "keyId")),
    signature: base64(field(entry, "signature")),
  }));
  const [leaf, inclusion, note] = ["leaf", "inclusion", "checkpoint"].map((name) => field(receipt, name));
  if (leaf === null && inclusion === null && note === null) {
    if (entries.length > 1) throw new Fault("there is a chain, and no checkpoint to which it leads");
    return { ledger, entries, leaf, inclusion, note };
  }
  return {
    ledger,
    entries,
    leaf: {
      uid: text(field(object(leaf), "uid")),
      seq: number(field(leaf, "seq")),
      hash: digestText(field(leaf, "hash")),
      index: number(field(leaf, "index")),
    },
    inclusion: {
      treeSize: number(field(object(inclusion), "treeSize")),
      hashes: list(field(inclusion, "hashes")).map((hash) => bytes(digestText(hash))),
    },
    note: text(note),
  };
}

/** The fields of an entry whose bytes, hash and signature are right. */
async function sealed(entry, ledger, keys) {
  const digest = await sha256(join(encoder.encode("concierge.ledger.entry.v1\0"), entry.content));
  if (hex(digest) !== entry.hash) throw new Fault("the hash is not that of the bytes");
  const key = keys.entries.get(entry.keyId);
  if (!key) throw new Fault(`it is signed with key ${entry.keyId}, which is none of the known ones`);
  if (!(await isSignature(key, entry.signature, digest))) throw new Fault(`it is not signed by key ${entry.keyId}`);
  const fields = object(JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(entry.content)));
  if (number(field(fields, "v")) !== 1 || field(fields, "ledger") !== ledger) {
    throw new Fault("it is of another ledger, or of a version that is not known");
  }
  text(field(fields, "uid"));
  number(field(fields, "seq"));
  digestText(field(fields, "prev"));
  return fields;
}

/** The RFC 6962 hash of a leaf: over the RFC 8785 JSON of its fields, whose names are in their order here. */
async function leafHash(ledger, { uid, seq, hash }) {
  // JSON.stringify writes strings and whole numbers as RFC 8785 does; what is no Unicode has no canonical form.
  encodeURIComponent(uid + ledger);
  const canonical = JSON.stringify({ hash, ledger, seq, uid, v: 1 });
  return leafNode(encoder.encode(canonical));
}

function originOf(ledger) {
  const quoted = encodeURIComponent(ledger).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  return `concierge.ledger/${quoted}`;
}

// Checkpoints and trees.

/** {origin, size, root} of a signed note (C2SP signed-note and tlog-checkpoint). Throws an Error if it is not sound. */
export async function openCheckpoint(note, keys) {
  if (encoder.encode(note).length > NOTE_BYTES_MAX) throw new Fault("the note is too long");
  const end = note.lastIndexOf("\n\n");
  const body = note.slice(0, end + 1);
  if (end < 0 || !note.endsWith("\n")) throw new Fault("a note is text, an empty line and signatures");
  if (/[\0-\x09\x0b-\x1f]/.test(body)) throw new Fault("the text of a note holds no control characters");
  const lines = note.slice(end + 2, -1).split("\n");
  if (lines.length > SIGNATURES_MAX) throw new Fault("the note has too many signatures");
  const names = new Set();
  for (const line of lines) {
    const parts = /^— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})$/u.exec(line);
    if (!parts) throw new Fault("a signature of the note is malformed");
    const raw = base64(parts[2]);
    const signer = keys.notes.get(`${parts[1]} ${hex(raw.slice(0, 4))}`);
    if (!signer) continue;
    if (!(await isSignature(signer.key, raw.slice(4), encoder.encode(body)))) {
      throw new Fault(`the note is not signed by ${signer.name}, although it says so`);
    }
    names.add(signer.name);
  }
  if (names.size === 0) throw new Fault("the note is not signed by any of the known keys");
  const [origin, size, root, ...rest] = body.split("\n");
  if (!origin || !root || rest.pop() !== "" || rest.includes("")) throw new Fault("a checkpoint has three lines");
  if (!/^(0|[1-9][0-9]{0,18})$/.test(size)) throw new Fault("the size of a checkpoint is a whole number");
  const hash = base64(root);
  if (hash.length !== 32) throw new Fault("the root of a checkpoint has 32 bytes");
  if (names.size !== 1 || !names.has(origin)) throw new Fault("it is not signed by the log that it is of");
  return { origin, size: BigInt(size), root: hex(hash) };
}

/** Checks a concierge.consistency.v1 by itself: the signatures of its notes, and the proof between them. */
export async function verifyConsistency(document, keys) {
  const result = { state: "invalid", checks: [], fields: null, checkpoint: null };
  return inSteps(result, async () => {
    await check(result, "the consistency proof is well formed", () => {
      if (field(object(document), "format") !== CONSISTENCY_FORMAT) throw new Fault(`the format is not ${CONSISTENCY_FORMAT}`);
      for (const side of ["from", "to"]) number(field(object(field(document, side)), "size"));
      for (const side of ["from", "to"]) text(field(document[side], "note"));
    });
    const opened = [];
    for (const [name, side] of [["older", document.from], ["newer", document.to]]) {
      opened.push(await check(result, `the ${name} checkpoint is signed by the log`, async () => {
        const checkpoint = await openCheckpoint(side.note, keys);
        if (checkpoint.size !== BigInt(side.size)) throw new Fault(`it is of ${checkpoint.size} leaves, not ${side.size}`);
        return checkpoint;
      }));
    }
    await checkContinues(result, document, opened[0], opened[1]);
    [result.checkpoint, result.state] = [opened[1], "verified"];
  });
}

/** Whether a verified receipt's log is the one of a checkpoint that was trusted before: adds its checks to `result`. */
export async function verifyAgainst(result, note, consistency, keys) {
  if (result.state !== "verified") return result;
  const state = result.state;
  result.state = "invalid";
  return inSteps(result, async () => {
    const trusted = await check(result, "the trusted checkpoint is signed by the log", () => openCheckpoint(note, keys));
    const inOrder = trusted.size <= result.checkpoint.size;
    const [older, newer] = inOrder ? [trusted, result.checkpoint] : [result.checkpoint, trusted];
    await checkContinues(result, consistency, older, newer);
    result.state = state;
  });
}

const checkContinues = (result, document, older, newer) =>
  check(result, `the checkpoint of ${newer.size} leaves continues the one of ${older.size}`, async () => {
    if (older.origin !== newer.origin) throw new Fault("they are of different logs");
    if (older.size === newer.size) {
      if (older.root !== newer.root) throw new Fault("two roots were signed for one size: the log has forked");
      return;
    }
    const proof = list(field(object(document), "hashes")).map((hash) => bytes(digestText(hash)));
    if (!(await isConsistent(older, newer, proof))) {
      throw new Fault("the proof does not lead from the one root to the other: the log has forked");
    }
  });

// Steps.

async function inSteps(result, steps) {
  try {
    await steps();
  } catch (error) {
    if (!result.checks.some((step) => !step.passed)) throw error;
    result.state = "invalid";
  }
  return result;
}

async function check(result, name, step) {
  try {
    const value = await step();
    result.checks.push({ name, passed: true, fault: "" });
    return value;
  } catch (error) {
    result.checks.push({ name, passed: false, fault: error.message });
    throw error;
  }
}
