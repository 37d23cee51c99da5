import type { DeviceStartView, DeviceView } from "../api/auth-device.ts";
import { zonedTime } from "../api/times.ts";
import {
  answerDevice,
  countDeviceLogins,
  DeviceLoginStatus,
  findDeviceStatus,
  findWaitingDevice,
  insertDeviceLogin,
  takeAuthorizedDevice,
} from "../db/device-logins.ts";
import { inTransaction } from "../db/transaction.ts";
import { findUserAccount } from "../db/users.ts";
import { uniqueViolation } from "../db/violations.ts";
import type { Actor, ActorClient } from "../domain/actor.ts";
import { generateDeviceCode, generateUserCode, parseUserCode } from "../domain/device-code.ts";
import { DomainError } from "../errors.ts";
import { type Bytes, utf8 } from "../lib/bytes.ts";
import { MINUTE, SECOND } from "../lib/clock.ts";
import { uuidV7 } from "../lib/ids.ts";
import { auditAuthor, recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";
import { requireSignedIn } from "./sessions.ts";
import { startSession } from "./sign-in.ts";

const LIFETIME_MS: number = 10 * MINUTE;
const POLL_MS: number = 3 * SECOND;
/** Codes that are good at a time: so many that nobody who guesses one finds any, and no more than a table minds. */
const CODES_MAX = 10_000;
const USER_CODE_TRIES = 5;
const USER_AGENT_MAX_LENGTH = 512;

type DeviceDeps = Pick<ServiceDeps, "db" | "clock" | "random" | "settings">;

/** RFC 8628 in the original's words: a command line asks, a person in a browser lets it in. */
export async function startDeviceLogin(deps: DeviceDeps, client: ActorClient): Promise<DeviceStartView> {
  const { db, clock, random, settings } = deps;
  if ((await countDeviceLogins(db, CODES_MAX)) >= CODES_MAX) {
    throw new DomainError("service_unavailable", "Too many command lines wait to be let in: try again in ten minutes");
  }
  const deviceCode = generateDeviceCode(random);
  const login = {
    id: uuidV7(clock.now(), random),
    device_code_hash: await hashDeviceCode(deviceCode),
    user_agent: client.userAgent?.slice(0, USER_AGENT_MAX_LENGTH) ?? null,
    ip: client.address,
  };
  const userCode = await withFreeUserCode(deps, (user_code) =>
    insertDeviceLogin(db, { ...login, user_code }, LIFETIME_MS),
  );
  await recordAudit(db, { event: "cli.device.start", userId: null, client });
  const uri = `${settings.frontendUrl}/account/cli-authorize`;
  return {
    device_code: deviceCode,
    user_code: userCode,
    verification_uri: uri,
    verification_uri_complete: `${uri}?code=${userCode}`,
    expires_in: LIFETIME_MS / SECOND,
    interval: POLL_MS / SECOND,
  };
}

/**
 * A session of thirty days, for the first poll after somebody has let the device in. Throws `cli_auth_pending`,
 * `cli_auth_denied`, `cli_auth_expired` (also for a code that was used), or `not_found`.
 */
export async function pollDeviceLogin(deps: DeviceDeps, deviceCode: string, client: ActorClient): Promise<string> {
  const hash = await hashDeviceCode(deviceCode);
  const token = await inTransaction(deps.db, async (trx) => {
    const userId = await takeAuthorizedDevice(trx, hash);
    const user = userId && (await findUserAccount(trx, userId));
    if (!user) return null;
    if (!user.active) throw new DomainError("forbidden", "This user account is deactivated");
    return await startSession({ ...deps, db: trx }, { userId: user.id, method: "device" }, client, { remember: true });
  });
  return token ?? (await refusePoll(deps, hash));
}

/** Who asks, for the person who is about to let them in. Throws `not_found` unless the code waits for an answer. */
export async function describeDevice(
  deps: Pick<DeviceDeps, "db">,
  actor: Actor,
  userCode: string,
): Promise<DeviceView> {
  requireSignedIn(actor);
  const code = parseUserCode(userCode);
  const device = code && (await findWaitingDevice(deps.db, code));
  if (!device) throw unknownCode();
  return {
    user_code: device.user_code,
    expires_at: zonedTime(device.expires_at),
    user_agent: device.user_agent,
    ip: device.ip,
  };
}

/** From a session only: a key that let devices in would make itself sessions. */
export async function authorizeDevice(deps: Pick<DeviceDeps, "db">, actor: Actor, userCode: string): Promise<void> {
  await answer(deps, actor, userCode, "cli.device.authorize");
}

export async function denyDevice(deps: Pick<DeviceDeps, "db">, actor: Actor, userCode: string): Promise<void> {
  await answer(deps, actor, userCode, "cli.device.deny");
}

async function answer(
  { db }: Pick<DeviceDeps, "db">,
  actor: Actor,
  userCode: string,
  event: "cli.device.authorize" | "cli.device.deny",
): Promise<void> {
  const user = requireSignedIn(actor);
  const code = parseUserCode(userCode);
  const status = event === "cli.device.authorize" ? DeviceLoginStatus.Authorized : DeviceLoginStatus.Denied;
  await inTransaction(db, async (trx) => {
    const device = code && (await answerDevice(trx, code, { status, userId: user.id }));
    if (!device) throw unknownCode();
    const metadata = { device_ip: device.ip, device_user_agent: device.user_agent };
    await recordAudit(trx, { ...auditAuthor(actor), event, metadata });
  });
}

async function refusePoll({ db }: Pick<DeviceDeps, "db">, hash: Uint8Array): Promise<never> {
  const found = await findDeviceStatus(db, hash);
  if (!found) throw new DomainError("not_found", "device_code: is unknown; begin again");
  if (found.status === DeviceLoginStatus.Denied) throw new DomainError("cli_auth_denied", "The request was denied");
  if (found.expired || found.status === DeviceLoginStatus.Used) {
    throw new DomainError("cli_auth_expired", "device_code: is too old or was used already; begin again");
  }
  throw new DomainError("cli_auth_pending", "Nobody has let this device in yet: ask again in a few seconds");
}

/** Of 10 000 codes in 852 billion one is met once in 85 million times. */
async function withFreeUserCode(
  { random }: Pick<DeviceDeps, "random">,
  insert: (userCode: string) => Promise<void>,
): Promise<string> {
  for (let attempt = 1; ; attempt++) {
    const userCode = generateUserCode(random);
    try {
      await insert(userCode);
      return userCode;
    } catch (error) {
      if (uniqueViolation(error) !== "device_login_user_code_key" || attempt >= USER_CODE_TRIES) throw error;
    }
  }
}

function unknownCode(): DomainError {
  return new DomainError("not_found", "user_code: no device with this code waits to be let in; it may be too old");
}

async function hashDeviceCode(deviceCode: string): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", utf8(deviceCode)));
}
