// The second step of a sign-in goes on by itself once the telephone has answered, or the time is over.
import { poll } from "./poll.js";

for (const form of document.querySelectorAll("form[data-approval]")) {
  form.querySelector("[data-approval-message]").textContent = "Waiting for your phone. This page goes on by itself.";
  const how = { seconds: form.dataset.seconds, first: 1000, longest: 5000, enough: (found) => !found.waiting };
  poll(form.dataset.approval, how).then(() => form.submit());
}
