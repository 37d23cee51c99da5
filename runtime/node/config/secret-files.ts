import type { Bytes } from "#core/lib/bytes.ts";
import { parseCryptSecret, SecretBoxError } from "#core/services/secret-box.ts";
import type { EnvironmentReader } from "./reader.ts";

/** HS256 signs with a key of at least its hash's size (RFC 7518 section 3.2). */
export const JWT_SECRET_BYTES_MIN = 32;

/** What the operator's files hold, ready for use; null where none is named. */
export interface SecretFiles {
  readonly jwt: Bytes | null;
  readonly crypt: Bytes | null;
}

/**
 * `required`: the server must not make secrets of its own, since another server of the same database needs the same.
 */
export function readSecretFiles(reader: EnvironmentReader, { required }: { readonly required: boolean }): SecretFiles {
  const problem = (name: string, what: string): null => {
    const path = reader.text(name) ?? `/path/to/${name === "GRADIENT_JWT_SECRET_FILE" ? "jwt" : "crypt"}-secret`;
    reader.problems.push(`${name}: ${what}; make one with: openssl rand -base64 48 > ${path}`);
    return null;
  };
  const read = (name: string, parse: (contents: Bytes) => Bytes): Bytes | null => {
    const contents = reader.file(name);
    if (contents) {
      try {
        return parse(contents);
      } catch (error) {
        if (error instanceof SecretBoxError) return problem(name, error.message);
        throw error;
      }
    }
    return required && reader.text(name) === null ? problem(name, "is required with a database URL") : null;
  };
  return {
    jwt: read("GRADIENT_JWT_SECRET_FILE", parseJwtSecret),
    crypt: read("GRADIENT_CRYPT_SECRET_FILE", parseCryptSecret),
  };
}

/** White space around the secret does not belong to it. Throws `SecretBoxError` when it is too short. */
export function parseJwtSecret(contents: Bytes): Bytes {
  const text = new TextDecoder("latin1").decode(contents);
  const start = text.length - text.trimStart().length;
  const secret = contents.slice(start, start + text.trim().length);
  if (secret.length >= JWT_SECRET_BYTES_MIN) return secret;
  throw new SecretBoxError(`the JWT secret is shorter than ${JWT_SECRET_BYTES_MIN} bytes`);
}
