// The page: takes a file, verifies it with verify.mjs, shows every check.

import { ownKeys, trustedKeys, verifyConsistency, verifyReceipt } from "./verify.mjs";

const HEADLINES = {
  verified: "Verified",
  pending: "Sound, and not in the public log yet",
  invalid: "Not valid",
  unusable: "This cannot be checked",
};
const PENDING = "No checkpoint covers the entry yet. Ask for the receipt again in some minutes.";
const OWN = "Checked against the keys in the receipt itself: that proves only that it agrees with itself.";

const element = (id) => document.getElementById(id);

async function keysFor(receipt) {
  const source = document.querySelector("input[name=keys]:checked").value;
  if (source === "own") return ownKeys(receipt);
  if (source === "file") {
    const [file] = element("keys").files;
    if (!file) throw new Error("No file with keys was chosen.");
    return trustedKeys(JSON.parse(await file.text()));
  }
  const answer = await fetch("/api/v1/ledger/keys");
  if (!answer.ok) throw new Error("This host does not publish its keys at the moment.");
  return trustedKeys(await answer.json());
}

async function check(file) {
  try {
    const receipt = JSON.parse(await file.text());
    const keys = await keysFor(receipt);
    const isProof = receipt?.format === "concierge.consistency.v1";
    const result = isProof ? await verifyConsistency(receipt, keys) : await verifyReceipt(receipt, keys);
    const remarks = [result.state === "pending" ? PENDING : "", keys.ledger === null ? OWN : ""];
    show(result, remarks.join(" ").trim());
  } catch (error) {
    show({ state: "unusable", checks: [] }, error.message);
  }
}

function show({ state, checks, fields, checkpoint }, remark) {
  element("result").hidden = false;
  element("state").textContent = HEADLINES[state];
  element("state").className = state;
  element("remark").textContent = remark;
  element("checks").replaceChildren(
    ...checks.map(({ name, passed, fault }) => row("li", passed ? name : `${name}: ${fault}`, passed ? "passed" : "failed")),
  );
  const facts = state === "verified" || state === "pending" ? factsOf(fields, checkpoint) : [];
  element("facts").replaceChildren(...facts.flatMap(([name, value]) => [row("dt", name), row("dd", String(value))]));
}

function factsOf(fields, checkpoint) {
  const facts = [];
  if (fields) {
    facts.push(["Account", fields.uid], ["Entry", `${fields.seq}, at ${fields.at}`]);
    facts.push(["What", `${fields.kind} of ${credits(fields.amount)} credits, operation ${fields.opId}`]);
    facts.push(["Balance behind it", `${credits(fields.postedAfter)} credits, ${credits(fields.heldAfter)} of them held`]);
  }
  if (checkpoint) facts.push(["Log", `${checkpoint.origin}, ${checkpoint.size} leaves`], ["Root", checkpoint.root]);
  return facts;
}

const credits = (amount) => (amount / 1_000_000).toLocaleString("en", { maximumFractionDigits: 6 });

function row(tag, content, className = "") {
  const made = document.createElement(tag);
  made.textContent = content;
  made.className = className;
  return made;
}

element("file").addEventListener("change", () => element("file").files[0] && check(element("file").files[0]));
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  element("drop").addEventListener(name, (event) => {
    event.preventDefault();
    element("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop" && event.dataTransfer.files[0]) check(event.dataTransfer.files[0]);
  });
}
