// The service worker of the phone app. A push says nothing but that somebody signs in: the app asks for the rest.
const ADDRESS = "/phone/";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

async function told() {
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  for (const page of pages) page.postMessage("look");
  // Browsers demand that every push is shown.
  await self.registration.showNotification("Is it you who signs in?", {
    body: "Open to answer. If it is not you, say so.",
    tag: "sign-in",
    renotify: true,
    requireInteraction: true,
  });
}

async function opened(notification) {
  notification.close();
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const page = pages.find((each) => new URL(each.url).pathname.startsWith(ADDRESS));
  if (page) {
    await page.focus();
    page.postMessage("look");
  } else {
    await self.clients.openWindow(ADDRESS);
  }
}

self.addEventListener("push", (event) => event.waitUntil(told()));
self.addEventListener("notificationclick", (event) => event.waitUntil(opened(event.notification)));
