// Verifies one registration or sign-in with npm @simplewebauthn/server, an implementation that is not tokenbridge's.
// usage: node judge.mjs NODE_FOLDER < case.json   One JSON object comes out: {"ok": true, ...facts} or {"ok": false, "error"}.
// A case: kind ("registration", "assertion"), response (its JSON form), challenge, origin, rpId, userVerification (bool),
// and for an assertion publicKey (COSE, base64url) and counter; for a registration roots ({format: [PEM]}), if any.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const folder = createRequire(resolve(process.argv[2], "package.json"));
const library = await import(pathToFileURL(folder.resolve("@simplewebauthn/server")).href);

async function judgeRegistration(one, expected) {
  for (const [identifier, certificates] of Object.entries(one.roots ?? {})) {
    library.SettingsService.setRootCertificates({ identifier, certificates });
  }
  const supportedAlgorithmIDs = [-7, -8, -35, -36, -257];
  const { verified, registrationInfo } = await library.verifyRegistrationResponse({ ...expected, supportedAlgorithmIDs });
  if (!verified) return { ok: false, error: "not verified" };
  return {
    ok: true,
    format: registrationInfo.fmt,
    aaguid: registrationInfo.aaguid,
    id: registrationInfo.credential.id,
    publicKey: Buffer.from(registrationInfo.credential.publicKey).toString("base64url"),
    counter: registrationInfo.credential.counter,
    userVerified: registrationInfo.userVerified,
    synced: registrationInfo.credentialDeviceType === "multiDevice",
  };
}

async function judgeAssertion(one, expected) {
  const publicKey = new Uint8Array(Buffer.from(one.publicKey, "base64url"));
  const credential = { id: one.response.id, publicKey, counter: one.counter };
  const { verified, authenticationInfo } = await library.verifyAuthenticationResponse({ ...expected, credential });
  if (!verified) return { ok: false, error: "not verified" };
  return {
    ok: true,
    id: authenticationInfo.credentialID,
    counter: authenticationInfo.newCounter,
    userVerified: authenticationInfo.userVerified,
    synced: authenticationInfo.credentialDeviceType === "multiDevice",
  };
}

async function judge(one) {
  const expected = {
    response: one.response,
    expectedChallenge: one.challenge,
    expectedOrigin: one.origin,
    expectedRPID: one.rpId,
    requireUserVerification: one.userVerification,
  };
  try {
    return await (one.kind === "registration" ? judgeRegistration : judgeAssertion)(one, expected);
  } catch (error) {
    return { ok: false, error: `${error.name}: ${error.message}` };
  }
}

console.log(JSON.stringify(await judge(JSON.parse(readFileSync(0, "utf8")))));
