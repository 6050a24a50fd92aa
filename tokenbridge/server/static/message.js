// A page that waits for a code says so when the message could not be delivered, or another one has taken its place.
import { poll } from "./poll.js";

for (const form of document.querySelectorAll("form[data-message]")) {
  const how = { seconds: 600, first: 2000, longest: 15000, enough: (found) => found.undelivered || found.instead };
  poll(form.dataset.message, how).then((found) => {
    if (!found) return;
    if (!form.elements.code.value) {
      location.assign(form.dataset.undelivered);
    } else if (found.instead) {
      // Whoever is typing goes on typing: the field takes the code of either message.
      const place = form.querySelector("[data-message-instead]");
      place.textContent = place.dataset.messageInstead;
    }
  });
}
