import { generateKeyPairSync, sign } from "node:crypto";
import { isIP } from "node:net";
import { concatBytes, utf8 } from "#core/lib/bytes.ts";

export interface Certificate {
  /** Of the secret key, PEM. */
  readonly key: string;
  /** Signed by itself, PEM. */
  readonly certificate: string;
}

const ECDSA_WITH_SHA256 = "2a8648ce3d040302";
const COMMON_NAME = "550403";
const SUBJECT_ALTERNATIVE_NAME = "551d11";
const BASIC_CONSTRAINTS = "551d13";
const DAY_MS = 86_400_000;

/** A certificate for these names and addresses, for two days around now (RFC 5280 section 4.1). */
export function makeCertificate(...names: readonly string[]): Certificate {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const algorithm = sequence(oid(ECDSA_WITH_SHA256));
  const name = sequence(tlv(0x31, sequence(oid(COMMON_NAME), tlv(0x0c, utf8(names[0] ?? "test")))));
  const body = sequence(
    tlv(0xa0, tlv(0x02, Uint8Array.of(2))),
    tlv(0x02, Uint8Array.of(1)),
    algorithm,
    name,
    sequence(time(Date.now() - DAY_MS), time(Date.now() + DAY_MS)),
    name,
    publicKey.export({ type: "spki", format: "der" }),
    tlv(0xa3, sequence(alternativeNames(names), authority())),
  );
  const signature = tlv(0x03, Uint8Array.of(0), sign("sha256", body, privateKey));
  const text = Buffer.from(sequence(body, algorithm, signature))
    .toString("base64")
    // Signatures differ in length, and an empty line at the end would be no PEM.
    .replace(/.{64}(?=.)/g, "$&\n");
  return {
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    certificate: `-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE-----\n`,
  };
}

function alternativeNames(names: readonly string[]): Uint8Array {
  const entries = names.map((name) =>
    isIP(name) === 4 ? tlv(0x87, Uint8Array.from(name.split("."), Number)) : tlv(0x82, utf8(name)),
  );
  return sequence(oid(SUBJECT_ALTERNATIVE_NAME), tlv(0x04, sequence(...entries)));
}

/** So that it can be trusted as it is. */
function authority(): Uint8Array {
  return sequence(
    oid(BASIC_CONSTRAINTS),
    tlv(0x01, Uint8Array.of(0xff)),
    tlv(0x04, sequence(tlv(0x01, Uint8Array.of(0xff)))),
  );
}

function time(ms: number): Uint8Array {
  const digits = new Date(ms).toISOString().replace(/[-:T]/g, "").slice(0, 14);
  return tlv(0x18, utf8(`${digits}Z`));
}

function oid(hex: string): Uint8Array {
  return tlv(0x06, Uint8Array.from(Buffer.from(hex, "hex")));
}

function sequence(...parts: readonly Uint8Array[]): Uint8Array {
  return tlv(0x30, ...parts);
}

/** DER: a tag, the length, the contents. */
function tlv(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const contents = concatBytes(parts);
  const { length } = contents;
  const head = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return concatBytes([Uint8Array.of(tag, ...head), contents]);
}
