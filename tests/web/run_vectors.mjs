// Runs every vector of a folder through web/public/ledger/verify.mjs; one JSON object on standard output.
import { readFile } from "node:fs/promises";
import { ownKeys, trustedKeys, verifyAgainst, verifyConsistency, verifyReceipt } from "../../web/public/ledger/verify.mjs";

const folder = process.argv[2];
const read = (name) => readFile(`${folder}/${name}`, "utf8");
const json = async (name) => JSON.parse(await read(name));
const keys = await trustedKeys(await json("keys.json"));
const outcomes = {};
for (const vector of (await json("index.json")).vectors) {
  const document = await json(vector.file);
  const verify = vector.kind === "consistency" ? verifyConsistency : verifyReceipt;
  const result = await verify(document, keys);
  if (vector.checkpoint) await verifyAgainst(result, await read(vector.checkpoint), await json(vector.consistency), keys);
  const checks = result.checks.map(({ name, passed }) => [name, passed]);
  outcomes[vector.name] = { state: result.state, checks };
  if (vector.name === "verified") outcomes.own = (await verifyReceipt(document, await ownKeys(document))).state;
}
console.log(JSON.stringify(outcomes));
