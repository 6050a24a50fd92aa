// The phone app: one section of the page is shown at a time, and follows from what the server says.
import { forget, load, newKey, publicJwk, save } from "./key.js";
import { possible, registration, subscription } from "./push.js";
import { Problem, send } from "./signed.js";

const FIRST = 1500; // milliseconds between two looks; longer while nothing happens
const LONGEST = 15_000;

const sections = Object.fromEntries([...document.querySelectorAll("[data-view]")].map((each) => [each.dataset.view, each]));
const alertLine = document.getElementById("problem");
const status = document.getElementById("status");

let phone = null; // {pair, phone, account, match}: the key, its name here, whose it is, the number of the set-up
let worker = null;
let shown = "";
let question = null;
let told = null; // the newest answer of the server
let wait = FIRST;
let timer = 0;
let looking = false;

function show(view) {
  if (shown === view) return;
  const first = shown === "";
  shown = view;
  for (const [name, section] of Object.entries(sections)) section.hidden = name !== view;
  if (!first) sections[view].querySelector("h1").focus();
}

function say(text) { status.textContent = text; }

function complain(error) {
  alertLine.textContent = error ? `${error.message} ${error.step || ""}` : "";
}

function put(name, text) {
  for (const each of document.querySelectorAll(`[data-put="${name}"]`)) each.textContent = text;
}

function suggestion() {
  const agent = navigator.userAgent;
  if (agent.includes("iPhone")) return "iPhone";
  if (agent.includes("Android")) return "Android phone";
  return "My phone";
}

function country(code) {
  try { return new Intl.DisplayNames(["en"], { type: "region" }).of(code); } catch { return code; }
}

function where(request) {
  const network = request.address || "an unknown network";
  return request.country ? `${country(request.country)} (${network})` : network;
}

// --- what the server says -------------------------------------------------------------------------------------

function follow(found) {
  told = found;
  put("account", found.account);
  put("name", found.name);
  document.getElementById("push").hidden = found.push.subscribed || !possible(found.push);
  document.getElementById("pushed").hidden = !found.push.subscribed;
  if (!found.confirmed) return show("number");
  if (!found.request) {
    if (shown === "request") say("The request is over.");
    question = null;
    if (shown !== "declined") show("ready");
    return;
  }
  if (question?.approval !== found.request.approval) {
    document.getElementById("number").value = "";
    say("");
  }
  question = found.request;
  put("client", found.request.client);
  put("device", found.request.device || "not known");
  put("where", where(found.request));
  put("when", new Date(found.request.asked_at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" }));
  show("request");
}

async function look() {
  if (!phone || looking) return;
  looking = true;
  try {
    const before = question?.approval;
    follow(await send("/api/phone/request", "look", phone.pair, { kid: phone.phone }));
    if (alertLine.dataset.by === "look") complain(null);
    wait = question?.approval !== before || shown === "number" ? FIRST : Math.min(wait * 1.2, LONGEST);
  } catch (error) {
    wait = LONGEST;
    if (error.code === "phone-unknown") {
      await forget();
      phone = null;
      show("start");
    }
    alertLine.dataset.by = "look";
    complain(error);
  } finally {
    looking = false;
  }
  again();
}

function again() {
  clearTimeout(timer);
  // Only while somebody looks at it: a push, or coming back to the page, wakes it up.
  if (phone && document.visibilityState === "visible") timer = setTimeout(look, wait);
}

function now() { wait = FIRST; clearTimeout(timer); look(); }

// --- what the person does -------------------------------------------------------------------------------------

async function enrol(code, name) {
  const pair = await newKey();
  const content = { code, name };
  const found = await send("/api/phone/enrolment", "enrol", pair, { jwk: await publicJwk(pair) }, content);
  phone = { pair, phone: found.phone, account: found.account, match: found.number };
  await save(phone);
  history.replaceState(null, "", location.pathname);
  put("account", found.account);
  put("match", found.number);
  show("number");
  wait = FIRST;
  again();
}

async function answer(decision) {
  const number = document.getElementById("number");
  if (decision === "approve" && !/^\d\d$/.test(number.value.trim())) {
    complain({ message: "Type the two digits of the number on the sign-in page." });
    number.focus();
    return;
  }
  const content = { approval: question.approval, decision };
  if (decision === "approve") content.number = number.value.trim();
  try {
    await send("/api/phone/answer", "answer", phone.pair, { kid: phone.phone }, content);
    question = null;
    show(decision === "approve" ? "ready" : "declined");
    if (decision === "approve") say("Approved. The sign-in page goes on by itself.");
  } catch (error) {
    number.value = "";
    number.focus();
    throw error;
  } finally {
    now();
  }
}

async function subscribe() {
  const found = await subscription(worker, told.push);
  if (!found) {
    complain({ message: "Notifications are not allowed.", step: "Allow them in the browser's settings; without them, open the app when you sign in." });
    return;
  }
  await send("/api/phone/subscription", "subscribe", phone.pair, { kid: phone.phone }, { subscription: found });
  say("This phone gets a notification when you sign in.");
  now();
}

// One press, one request: what is pressed is out of use until it is done.
function pressed(button, work) {
  button.addEventListener("click", async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true");
    alertLine.dataset.by = "press";
    complain(null);
    say("");
    try {
      await work();
    } catch (error) {
      complain(error instanceof Problem ? error : { message: "That did not work.", step: "Load the page again." });
    } finally {
      button.removeAttribute("aria-disabled");
    }
  });
}

function onEnter(field, button) {
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") { event.preventDefault(); button.click(); }
  });
}

const element = (id) => document.getElementById(id);
pressed(element("enrol"), () => enrol(element("code").value, element("phone-name").value));
pressed(element("approve"), () => answer("approve"));
pressed(element("deny"), () => answer("deny"));
pressed(element("subscribe"), subscribe);
pressed(element("check"), async () => { say("Looking."); await look(); if (!question) say("Nobody is signing in with your account."); });
pressed(element("back"), async () => show("ready"));
onEnter(element("code"), element("enrol"));
onEnter(element("phone-name"), element("enrol"));
onEnter(element("number"), element("approve"));
document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible" && phone) now(); });
navigator.serviceWorker?.addEventListener("message", (event) => { if (event.data === "look") now(); });

async function start() {
  if (!window.crypto?.subtle || !window.indexedDB) return show("unable");
  element("phone-name").value = suggestion();
  const code = decodeURIComponent(location.hash.slice(1));
  element("code").value = code;
  worker = await registration();
  phone = (await load()) || null;
  if (code || !phone) {
    element("replace").hidden = !phone;
    phone = null;
    return show("start");
  }
  put("account", phone.account);
  put("match", phone.match);
  show("ready");
  now();
}

start().catch(() => show("unable"));
window.addEventListener("hashchange", () => location.reload());
