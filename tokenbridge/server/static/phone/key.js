// The phone's key: made here, never readable by any script, kept in the browser's database.
const STORE = "keys";
const CURVE = { name: "ECDSA", namedCurve: "P-256" };

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function store(mode) {
  const opening = indexedDB.open("tokenbridge-phone", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
  return (await settled(opening)).transaction(STORE, mode).objectStore(STORE);
}

export async function newKey() {
  return crypto.subtle.generateKey(CURVE, false, ["sign", "verify"]);
}

export async function publicJwk(pair) {
  const { kty, crv, x, y } = await crypto.subtle.exportKey("jwk", pair.publicKey);
  return { kty, crv, x, y };
}

// `phone` is what the server calls this phone by: the key's thumbprint.
export async function load() {
  return settled((await store("readonly")).get("phone"));
}

export async function save(phone) {
  await settled((await store("readwrite")).put(phone, "phone"));
}

export async function forget() {
  await settled((await store("readwrite")).delete("phone"));
}
