// Requests to the server, each signed by the phone's key over a nonce of the server's (docs/api.md, phone apps).
const DEADLINE = 15_000;
const SIGNATURE = { name: "ECDSA", hash: "SHA-256" };
const encoder = new TextEncoder();

export class Problem extends Error {
  constructor(told) {
    super(told?.message || "The server can't be reached.");
    this.code = told?.code || "offline";
    this.step = told?.next_step || "Check your network. The app tries again by itself.";
  }
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

async function ask(path, options = {}) {
  let answer;
  try {
    const signal = AbortSignal.timeout(DEADLINE);
    answer = await fetch(path, { headers: { "content-type": "application/json" }, redirect: "error", cache: "no-store", signal, ...options });
  } catch {
    throw new Problem();
  }
  const found = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Problem(found.error);
  return found;
}

async function jws(pair, header, payload) {
  const parts = [{ alg: "ES256", typ: "phone+jwt", ...header }, payload];
  const text = parts.map((part) => base64url(encoder.encode(JSON.stringify(part)))).join(".");
  return `${text}.${base64url(await crypto.subtle.sign(SIGNATURE, pair.privateKey, encoder.encode(text)))}`;
}

export async function send(path, act, pair, header, content = {}) {
  const { nonce } = await ask("/api/phone/nonce");
  const signed = await jws(pair, header, { aud: location.origin, nonce, act, ...content });
  return ask(path, { method: "POST", body: JSON.stringify({ signed }) });
}

// Where the development outbox is on, its own push service stands in for the browser's.
export async function localSubscription(path) {
  return ask(path, { method: "POST" });
}
