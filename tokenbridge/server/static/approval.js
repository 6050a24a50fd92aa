// The second step of a sign-in goes on by itself once the telephone has answered.
const FIRST = 1000;
const LONGEST = 5000;

async function answered(form) {
  const until = performance.now() + 1000 * form.dataset.seconds; // clocks of computers may be wrong
  for (let wait = FIRST; ; wait = Math.min(wait * 1.3, LONGEST)) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    if (performance.now() > until) return;
    if (document.visibilityState !== "visible") continue;
    try {
      const answer = await fetch(form.dataset.approval, { headers: { accept: "application/json" }, redirect: "error" });
      if (answer.ok && !(await answer.json()).waiting) return;
    } catch {
      continue; // the network is away for a moment: "Continue" works without this
    }
  }
}

for (const form of document.querySelectorAll("form[data-approval]")) {
  form.querySelector("[data-approval-message]").textContent = "Waiting for your phone. This page goes on by itself.";
  answered(form).then(() => form.submit());
}
