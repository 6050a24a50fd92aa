// The loopback door: this page brings its sign-in to the bridge on the same computer by itself. Where there is no door,
// where it refuses or where the browser does not allow it, the link is there as without a script.
const CONNECT_SECONDS = 3;
const PERMISSION_SECONDS = 30;
const ALL_SECONDS = 300;
const MOST_TEXT = 4096;
const ONWARD = /^\/(sign-in\/card|self-service\/cards)\/[A-Za-z0-9_-]{1,128}$/;

const SAYS = {
  looking: "Looking for tokenbridge on this computer.",
  permission: "Looking for tokenbridge on this computer. If your browser asks whether this site may reach other apps on this device, allow it.",
  begun: `Look at the window of tokenbridge on this computer. It shows the address ${location.origin}. Agree there, put your card into the reader and type your PIN in that window, never on a page.`,
  busy: "tokenbridge is busy with another sign-in. End that one first, then try again.",
  stopped: "You stopped it. You can try again, or open tokenbridge as described below.",
  declined: "It was cancelled in the window of tokenbridge, so nothing was done.",
  failed: "tokenbridge could not do it. You can try again, or open tokenbridge as described below.",
};

// What the browser lets this site do (Local Network Access), or null: browsers that don't know the names don't ask.
async function permission() {
  for (const name of ["loopback-network", "local-network-access"]) {
    try {
      return await navigator.permissions.query({ name });
    } catch {
      continue;
    }
  }
  return null;
}

async function lastLine(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    text += part.value;
    if (text.length > MOST_TEXT) throw new RangeError("too long");
  }
  return JSON.parse(text.trim().split("\n").pop());
}

// Who answers is not known: any program may sit at the port. Only a page of this site is opened, and only of this kind.
function pathOf(address) {
  const found = new URL(String(address));
  if (found.origin !== location.origin || found.search || found.hash || !ONWARD.test(found.pathname)) throw new RangeError("elsewhere");
  return found.pathname;
}

class DoorDialogue {
  constructor(area) {
    this.area = area;
    this.told = area.querySelector("[data-door-message]");
    this.cancel = area.querySelector("[data-door-cancel]");
    this.again = area.querySelector("[data-door-again]");
    this.byLink = document.querySelector("[data-by-link]");
    this.ending = new AbortController();
    this.knocked = new AbortController();
    this.cancel.addEventListener("click", () => this.ending.abort("person"));
  }

  async run() {
    this.area.hidden = false;
    this.byLink.hidden = true;
    this.told.textContent = SAYS.looking;
    const answer = await this.knock();
    if (answer === null) return;
    this.told.textContent = SAYS.begun;
    const timer = this.after(ALL_SECONDS);
    try {
      const line = await lastLine(answer);
      if (line.event === "done") location.assign(pathOf(line.continue));
      else this.end(line.error?.code === "cancelled" ? "declined" : "failed");
    } catch {
      this.end(this.ending.signal.reason === "person" ? "stopped" : "failed");
    } finally {
      clearTimeout(timer);
    }
  }

  after(seconds) {
    return setTimeout(() => this.ending.abort("late"), seconds * 1000);
  }

  // The answer of a door that has begun, or null: then the link is on the page again.
  async knock() {
    const allowed = await permission();
    const asks = allowed?.state === "prompt";
    if (asks) this.told.textContent = SAYS.permission;
    let timer = this.after(asks ? PERMISSION_SECONDS : CONNECT_SECONDS);
    allowed?.addEventListener?.("change", () => { // the person has answered the browser: now it is the door's turn
      clearTimeout(timer);
      timer = this.after(CONNECT_SECONDS);
    }, { once: true, signal: this.knocked.signal });
    try {
      const answer = await fetch(this.area.dataset.door, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ link: this.area.dataset.link }),
        credentials: "omit",
        cache: "no-store",
        redirect: "error",
        referrerPolicy: "no-referrer",
        signal: this.ending.signal,
      });
      if (answer.ok) return answer;
      if (answer.status === 409) this.end("busy");
      else this.leave();
    } catch {
      if (this.ending.signal.reason === "person") this.end("stopped");
      else this.leave();
    } finally {
      this.knocked.abort();
      clearTimeout(timer);
    }
    return null;
  }

  // There is no door for us: nothing has happened that the person would have to know of.
  leave() {
    this.area.hidden = true;
    this.byLink.hidden = false;
  }

  end(outcome) {
    this.told.textContent = SAYS[outcome];
    this.cancel.hidden = true;
    this.again.hidden = false;
    this.byLink.hidden = outcome === "declined"; // that made the link void
    this.told.focus();
  }
}

for (const area of document.querySelectorAll("[data-door]")) new DoorDialogue(area).run();
