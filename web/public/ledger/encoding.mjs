// What is expected where in a document, and bytes as text. Each function throws a Fault for anything else.

export class Fault extends Error {}

function expect(holds, value, fault) {
  if (!holds) throw new Fault(fault);
  return value;
}

export const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
export const object = (value) => expect(isObject(value), value, "an object is expected where there is none");
export const list = (value) => expect(Array.isArray(value), value, "a list is expected where there is none");
export const text = (value) => expect(typeof value === "string", value, "a text is expected where there is none");
export const number = (value) =>
  expect(Number.isSafeInteger(value) && value >= 0, value, "a whole number is expected where there is none");
export const digestText = (value) =>
  expect(/^[0-9a-f]{64}$/.test(text(value)), value, "a hash has 64 hexadecimal digits in lower case");
export const field = (value, name) => expect(Object.hasOwn(value, name), value[name], `${name} is missing`);

export function base64(value) {
  const sound = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text(value));
  return Uint8Array.from(atob(expect(sound, value, "base64 is malformed")), (character) => character.charCodeAt(0));
}

export const sha256 = async (data) => new Uint8Array(await crypto.subtle.digest("SHA-256", data));
export const hex = (data) => Array.from(data, (byte) => byte.toString(16).padStart(2, "0")).join("");
export const bytes = (digits) => Uint8Array.from(digits.match(/../g), (pair) => parseInt(pair, 16));

export function join(...parts) {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
