// Merkle trees of RFC 6962: hashes are 32 raw bytes, sizes and indices BigInt, a root hexadecimal.

import { bytes, hex, join, sha256 } from "./encoding.mjs";

/** RFC 9162, section 2.1.3.2. */
export async function isIncluded(leaf, index, { size, root }, proof) {
  if (index >= size) return false;
  let [place, last, computed] = [index, size - 1n, leaf];
  for (const sibling of proof) {
    if (last === 0n) return false;
    if (place & 1n || place === last) {
      computed = await nodeHash(sibling, computed);
      while (place && !(place & 1n)) [place, last] = [place >> 1n, last >> 1n];
    } else {
      computed = await nodeHash(computed, sibling);
    }
    [place, last] = [place >> 1n, last >> 1n];
  }
  return last === 0n && hex(computed) === root;
}

/** RFC 9162, section 2.1.4.2, for two sizes that differ. */
export async function isConsistent(older, newer, proof) {
  if (older.size > newer.size) return false;
  if (older.size === 0n) return proof.length === 0 && older.root === hex(await sha256(new Uint8Array()));
  const path = older.size & (older.size - 1n) ? proof : [bytes(older.root), ...proof];
  if (path.length === 0) return false;
  let [place, last] = [older.size - 1n, newer.size - 1n];
  while (place & 1n) [place, last] = [place >> 1n, last >> 1n];
  let [old, grown] = [path[0], path[0]];
  for (const sibling of path.slice(1)) {
    if (last === 0n) return false;
    if (place & 1n || place === last) {
      [old, grown] = [await nodeHash(sibling, old), await nodeHash(sibling, grown)];
      while (place && !(place & 1n)) [place, last] = [place >> 1n, last >> 1n];
    } else {
      grown = await nodeHash(grown, sibling);
    }
    [place, last] = [place >> 1n, last >> 1n];
  }
  return last === 0n && hex(old) === older.root && hex(grown) === newer.root;
}

/** The hash of a leaf's bytes. */
export const leafNode = (data) => sha256(join(Uint8Array.of(0), data));
const nodeHash = (left, right) => sha256(join(Uint8Array.of(1), left, right));
