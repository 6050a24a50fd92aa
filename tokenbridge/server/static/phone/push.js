// Pushes, where the browser and the person allow them. Without them the app asks the server while it is open.
import { localSubscription } from "./signed.js";

function bytes(text) {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (each) => each.charCodeAt(0));
}

export async function registration() {
  if (!("serviceWorker" in navigator)) return null;
  try {
    return await navigator.serviceWorker.register("/phone/worker.js", { scope: "/phone/" });
  } catch {
    return null;
  }
}

export function possible(push) {
  if (push.service) return true;
  return "PushManager" in window && "Notification" in window && Notification.permission !== "denied";
}

// To be called by a press of a button: browsers ask the person then. Null when it is not allowed.
export async function subscription(worker, push) {
  if (push.service) return localSubscription(push.service);
  if (!worker || (await Notification.requestPermission()) !== "granted") return null;
  const options = { userVisibleOnly: true, applicationServerKey: bytes(push.key) };
  try {
    return (await worker.pushManager.subscribe(options)).toJSON();
  } catch {
    // An older subscription was made for another key of the server's.
    await (await worker.pushManager.getSubscription())?.unsubscribe();
    return (await worker.pushManager.subscribe(options)).toJSON();
  }
}
