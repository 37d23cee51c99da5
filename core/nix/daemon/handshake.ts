import type { Bytes } from "#core/lib/bytes.ts";
import { DaemonProtocolError } from "./errors.ts";
import { CLIENT_MAGIC, DAEMON_MAGIC, PROTOCOL_MAJOR, PROTOCOL_MINOR_MAX, PROTOCOL_MINOR_MIN } from "./numbers.ts";
import type { DaemonReader } from "./reader.ts";
import { DaemonWriter } from "./writer.ts";

/** Whether the daemon lets this user import unsigned paths and build by value. Daemons before 1.35 do not say. */
export type DaemonTrust = "unknown" | "trusted" | "not-trusted";

export interface DaemonGreeting {
  /** The minor version that both ends speak. */
  readonly minor: number;
  readonly nixVersion: string;
  readonly trust: DaemonTrust;
}

const FEATURES_MAX = 256;
const TRUST: readonly DaemonTrust[] = ["unknown", "trusted", "not-trusted"];

/** What the client says first. */
export function encodeHello(minor: number = PROTOCOL_MINOR_MAX): Bytes {
  return new DaemonWriter()
    .word(CLIENT_MAGIC)
    .word((PROTOCOL_MAJOR << 8) | minor)
    .finish();
}

/** The minor version to speak from here on. Throws `DaemonProtocolError` for a daemon we cannot talk to. */
export async function readHello(reader: DaemonReader, clientMinor: number = PROTOCOL_MINOR_MAX): Promise<number> {
  const magic = await reader.word();
  if (magic !== DAEMON_MAGIC) {
    throw new DaemonProtocolError("what answers on this socket is not a nix-daemon: its first word is another");
  }
  const version = await reader.number("daemon version");
  const major = Math.floor(version / 256);
  const minor = Math.min(version % 256, clientMinor);
  if (major !== PROTOCOL_MAJOR || minor < PROTOCOL_MINOR_MIN) {
    throw new DaemonProtocolError(
      `the nix-daemon speaks protocol ${major}.${version % 256}; ` +
        `${PROTOCOL_MAJOR}.${PROTOCOL_MINOR_MIN} (Nix 2.8) or later is needed`,
    );
  }
  return minor;
}

/**
 * What the client says once the version is agreed: no features (an empty list keeps the formats of 1.38), no CPU
 * affinity, no reserved space.
 */
export function encodeIntroduction(minor: number): Bytes {
  const writer = new DaemonWriter();
  if (minor >= 38) writer.texts([]);
  return writer.boolean(false).boolean(false).finish();
}

/** What the daemon says about itself. The frames of its start follow. */
export async function readIntroduction(reader: DaemonReader, minor: number): Promise<DaemonGreeting> {
  if (minor >= 38) await reader.list("features", () => reader.text("feature"), FEATURES_MAX);
  const nixVersion = await reader.text("Nix version");
  const trust = minor >= 35 ? TRUST[await reader.number("trust")] : "unknown";
  if (trust === undefined) throw new DaemonProtocolError("the trust level is unknown");
  return { minor, nixVersion, trust };
}
