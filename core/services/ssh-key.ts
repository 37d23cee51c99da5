import { type Bytes, concatBytes, toBase64, utf8 } from "../lib/bytes.ts";

/** `CryptoKey`, whose name is declared differently for browsers and for Node. */
interface KeyPair {
  readonly privateKey: Parameters<typeof crypto.subtle.exportKey>[1];
  readonly publicKey: Parameters<typeof crypto.subtle.exportKey>[1];
}

export interface SshKeyPair {
  /** `ssh-ed25519 <base64> <comment>`, one line. */
  readonly publicKey: string;
  /** The text of a private key file, without a passphrase. */
  readonly secretKey: string;
}

const TYPE = "ssh-ed25519";
const SEED_LENGTH = 32;
const BLOCK_LENGTH = 8;
const LINE_LENGTH = 70;

/** An Ed25519 key in the formats of OpenSSH (RFC 8709 section 4; OpenSSH's PROTOCOL.key). */
export async function generateSshKey(comment: string): Promise<SshKeyPair> {
  const pair = (await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"])) as KeyPair;
  const publicBytes = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
  const pkcs8 = new Uint8Array(await crypto.subtle.exportKey("pkcs8", pair.privateKey));
  // RFC 8410 section 7: the seed is the end of the document.
  const seed = pkcs8.subarray(pkcs8.length - SEED_LENGTH);
  const publicBlob = concatBytes([text(TYPE), string(publicBytes)]);
  return {
    publicKey: `${TYPE} ${toBase64(publicBlob)} ${comment}`,
    secretKey: armor(privateKeyFile(publicBlob, publicBytes, seed, comment)),
  };
}

function privateKeyFile(publicBlob: Bytes, publicBytes: Uint8Array, seed: Uint8Array, comment: string): Bytes {
  // The same number twice tells a reader that it decrypted rightly; nothing is encrypted here, at rest we do that.
  const check = uint32(crypto.getRandomValues(new Uint32Array(1))[0] as number);
  const secret = concatBytes([
    check,
    check,
    text(TYPE),
    string(publicBytes),
    string(concatBytes([seed, publicBytes])),
    text(comment),
  ]);
  const padding = Uint8Array.from({ length: -secret.length & (BLOCK_LENGTH - 1) }, (_, index) => index + 1);
  return concatBytes([
    utf8("openssh-key-v1\0"),
    text("none"),
    text("none"),
    text(""),
    uint32(1),
    string(publicBlob),
    string(concatBytes([secret, padding])),
  ]);
}

function armor(bytes: Bytes): string {
  const lines = toBase64(bytes).match(new RegExp(`.{1,${LINE_LENGTH}}`, "g")) ?? [];
  return `-----BEGIN OPENSSH PRIVATE KEY-----\n${lines.join("\n")}\n-----END OPENSSH PRIVATE KEY-----\n`;
}

/** RFC 4251 section 5: the length in four bytes, then the bytes. */
function string(bytes: Uint8Array): Bytes {
  return concatBytes([uint32(bytes.length), bytes]);
}

function text(value: string): Bytes {
  return string(utf8(value));
}

function uint32(value: number): Bytes {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}
