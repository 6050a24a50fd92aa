// A page that waits for a code says so when the message could not be delivered.
import { poll } from "./poll.js";

for (const form of document.querySelectorAll("form[data-message]")) {
  const how = { seconds: 600, first: 2000, longest: 15000, enough: (found) => found.undelivered };
  poll(form.dataset.message, how).then((undelivered) => {
    // Whoever is typing a code has got one.
    if (undelivered && !form.elements.code.value) location.assign(form.dataset.undelivered);
  });
}
