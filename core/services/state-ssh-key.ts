import { fromBase64, fromUtf8Lossy, toBase64, utf8 } from "../lib/bytes.ts";

const HEADER = "-----BEGIN OPENSSH PRIVATE KEY-----";
const FOOTER = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC = "openssh-key-v1\0";

/** The text is no private key that can be used. The message shows nothing of it. */
export class SshKeyError extends Error {
  override readonly name = "SshKeyError";
}

/**
 * The public half, `type base64`, of a private key file as `ssh-keygen` writes it (OpenSSH's PROTOCOL.key). Throws
 * `SshKeyError`, also for a key with a passphrase: nobody is there to type it.
 */
export function publicSshKey(text: string): string {
  const lines = text.trim().split(/\r?\n/);
  if (lines[0] !== HEADER || lines.at(-1) !== FOOTER) {
    throw new SshKeyError("must be a private key in OpenSSH's format, such as `ssh-keygen -t ed25519` makes");
  }
  const bytes = fromBase64(lines.slice(1, -1).join(""));
  if (!bytes || new TextDecoder().decode(bytes.subarray(0, MAGIC.length)) !== MAGIC) throw broken();
  const reader = new FieldReader(bytes, utf8(MAGIC).length);
  if (fromUtf8Lossy(reader.field()) !== "none") {
    throw new SshKeyError("has a passphrase: make one without, with `ssh-keygen -N ''`");
  }
  reader.field();
  reader.field();
  if (reader.number() !== 1) throw broken();
  const publicKey = reader.field();
  // Its first field is the type (RFC 4253 section 6.6).
  const type = fromUtf8Lossy(new FieldReader(publicKey, 0).field());
  if (!/^[a-z0-9@.-]{1,64}$/.test(type) || reader.field().length === 0) throw broken();
  return `${type} ${toBase64(publicKey)}`;
}

/** RFC 4251 section 5. */
class FieldReader {
  readonly #bytes: Uint8Array;
  #offset: number;

  constructor(bytes: Uint8Array, offset: number) {
    this.#bytes = bytes;
    this.#offset = offset;
  }

  number(): number {
    if (this.#offset + 4 > this.#bytes.length) throw broken();
    const view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.byteLength);
    const value = view.getUint32(this.#offset);
    this.#offset += 4;
    return value;
  }

  field(): Uint8Array {
    const end = this.number() + this.#offset;
    if (end > this.#bytes.length) throw broken();
    const field = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return field;
  }
}

function broken(): SshKeyError {
  return new SshKeyError("is cut short or damaged: it is no whole private key");
}
