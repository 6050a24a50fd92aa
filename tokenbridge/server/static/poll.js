// Asks an address again and again, less and less often, until its answer is enough, which it returns, or the time is over.
export async function poll(address, { seconds, first, longest, enough }) {
  const until = performance.now() + 1000 * seconds; // clocks of computers may be wrong
  for (let wait = first; ; wait = Math.min(wait * 1.3, longest)) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    if (performance.now() > until) return false;
    if (document.visibilityState !== "visible") continue;
    try {
      const answer = await fetch(address, { headers: { accept: "application/json" }, redirect: "error" });
      if (!answer.ok) continue;
      const found = await answer.json();
      if (enough(found)) return found;
    } catch {
      continue; // the network is away for a moment: the page works without this
    }
  }
}
