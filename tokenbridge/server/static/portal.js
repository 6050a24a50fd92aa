// What needs a script: security keys, and saving recovery codes. Everything else works without.
import { initAll } from "./nhsuk/nhsuk-frontend.min.js";
import "./approval.js";
import "./door.js";
import "./message.js";

document.body.classList.add("js-enabled", "nhsuk-frontend-supported");
initAll();

const FAILURES = {
  NotAllowedError:
    "The browser did not get an answer from a security key. It was cancelled, took too long, or the key is not registered here. Plug the key in, try again and touch it when it blinks.",
  InvalidStateError: "This security key is registered for your account already. Use another key.",
  NotSupportedError: "This security key can't do what is needed here. Use another key.",
  SecurityError: "The browser does not allow security keys at this address. Check that the address is right, and tell your IT service desk.",
  ConstraintError: "The key has no PIN or fingerprint set up, which is needed here. Set one up in the browser's settings, then try again.",
  AbortError: "It was stopped. Try again when you are ready.",
  UnknownError: "The security key gave no useful answer. Take it out, plug it in again and try once more.",
  Refused: "The server did not agree. You may have been signed out, or tried too often: wait a minute and load the page again.",
  Offline: "The server can't be reached. Check your network and try again.",
};

class Failure extends Error {
  constructor(name) { super(name); this.name = name; }
}

async function post(form, address) {
  const fields = new URLSearchParams();
  for (const name of ["form_token"]) fields.set(name, form.elements[name].value);
  const username = document.getElementById("username");
  if (username && username.value.trim() && address === "/sign-in/key-options") fields.set("username", username.value.trim());
  let answer;
  try {
    answer = await fetch(address, { method: "POST", body: fields, headers: { accept: "application/json" }, redirect: "error" });
  } catch {
    throw new Failure("Offline");
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Failure("Refused"), { told: found.error });
  return found;
}

function tell(area, error) {
  const told = error.told ? `${error.told.message} ${error.told.next_step}` : FAILURES[error.name] || FAILURES.UnknownError;
  area.querySelector("[data-key-message]").textContent = told;
}

function send(form, credential) {
  form.elements.credential.value = JSON.stringify(credential.toJSON());
  form.submit();
}

let quiet = null; // the request that waits for the browser's own list of passkeys

async function get(options, more = {}) {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  return navigator.credentials.get({ publicKey, ...more });
}

// Offer passkeys in the list of the user name's field, for as long as the page is open.
async function offer(area, form) {
  if (!(await PublicKeyCredential.isConditionalMediationAvailable?.())) return;
  while (document.visibilityState === "visible") {
    const mine = (quiet = new AbortController());
    const timer = setTimeout(() => mine.abort("stale"), 240_000);
    try {
      const { options, sign_in } = await post(form, "/sign-in/key-options");
      if (mine.signal.aborted) return;
      const credential = await get(options, { mediation: "conditional", signal: mine.signal });
      form.elements.sign_in.value = sign_in;
      send(form, credential);
      return;
    } catch {
      if (mine.signal.reason !== "stale") return;
    } finally {
      clearTimeout(timer);
    }
  }
}

const START = {
  async "sign-in"(area, form) {
    const { options, sign_in } = await post(form, area.dataset.begin);
    form.elements.sign_in.value = sign_in;
    return get(options);
  },
  async step(area) {
    return get(JSON.parse(area.dataset.options));
  },
  async register(area, form) {
    const { registration, options } = await post(form, area.dataset.begin);
    form.elements.registration.value = registration;
    return navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) });
  },
};

for (const area of document.querySelectorAll("[data-key]")) {
  const form = area.querySelector("form");
  const button = area.querySelector("[data-key-start]");
  const able = window.PublicKeyCredential && PublicKeyCredential.parseRequestOptionsFromJSON;
  if (!able) {
    if (!area.hidden) tell(area, new Failure("NotSupportedError"));
    button.disabled = true;
    continue;
  }
  area.hidden = false;
  const start = async () => {
    quiet?.abort("button");
    area.querySelector("[data-key-message]").textContent = "";
    button.disabled = true;
    try {
      send(form, await START[area.dataset.key](area, form));
    } catch (error) {
      button.disabled = false;
      tell(area, error);
      button.focus();
    }
  };
  button.addEventListener("click", start);
  form.addEventListener("submit", (event) => { event.preventDefault(); start(); });
  if (area.dataset.key === "sign-in") offer(area, form);
}

// The bridge shows the user name that was typed, so that people see whose sign-in it is.
for (const form of document.querySelectorAll("form[data-card]")) {
  form.addEventListener("submit", () => { form.elements.username.value = document.getElementById("username").value.trim(); });
}

for (const area of document.querySelectorAll("[data-codes]")) {
  const text = [...document.querySelectorAll("#codes li")].map((item) => item.textContent).join("\n");
  const told = area.querySelector("[data-codes-message]");
  area.hidden = false;
  area.querySelector("[data-codes-print]").addEventListener("click", () => window.print());
  area.querySelector("[data-codes-copy]").addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    told.textContent = "Copied.";
  });
  area.querySelector("[data-codes-save]").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${document.title}\n\n${text}\n`], { type: "text/plain" }));
    link.download = "recovery-codes.txt";
    link.click();
    URL.revokeObjectURL(link.href);
    told.textContent = "Saved in your downloads.";
  });
}
