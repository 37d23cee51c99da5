import type { Bytes } from "#core/lib/bytes.ts";
import { utf8 } from "#core/lib/bytes.ts";
import { parseCryptSecret, SecretBoxError } from "#core/services/secret-box.ts";
import type { Bindings, R2Bucket } from "./bindings.ts";
import { LOG_LEVELS, type LogLevel } from "./logger.ts";

export interface Settings {
  readonly databaseUrl: string;
  readonly bucket: R2Bucket;
  /** Before every key in the bucket; empty, or names that each end with a slash. */
  readonly prefix: string;
  /** The servers' origin, which names signing keys and takes what is not answered here. No slash at its end. */
  readonly serveUrl: string;
  readonly jwtSecret: Bytes;
  /** Null: what is sealed in the database stays closed here. */
  readonly cryptSecret: Bytes | null;
  readonly logLevel: LogLevel;
}

/** The bindings are not what `wrangler.example.toml` asks for. Its message names all of it, but no secret. */
export class SettingsError extends Error {
  override readonly name = "SettingsError";
}

/** As the servers' `GRADIENT_S3_PREFIX`. */
const PREFIX = /^(?:[A-Za-z0-9][A-Za-z0-9._-]{0,79}\/)*$/;
const PREFIX_LENGTH_MAX = 512;
/** HS256 signs with a key of at least its hash's size (RFC 7518 section 3.2). */
const JWT_SECRET_BYTES_MIN = 32;

/** Throws `SettingsError`. */
export function readSettings(bindings: Bindings): Settings {
  const problems: string[] = [];
  const problem = (words: string): null => {
    problems.push(words);
    return null;
  };
  const settings = {
    databaseUrl: readDatabaseUrl(bindings, problem),
    bucket: bindings.STORAGE ?? problem("STORAGE: bind the R2 bucket with the caches' files under this name"),
    prefix: readPrefix(bindings, problem),
    serveUrl: readServeUrl(bindings, problem),
    jwtSecret: readJwtSecret(bindings, problem),
    cryptSecret: readCryptSecret(bindings, problem),
    logLevel: readLogLevel(bindings, problem),
  };
  const { databaseUrl, bucket, prefix, serveUrl, jwtSecret, logLevel } = settings;
  if (problems.length === 0 && databaseUrl && bucket && prefix !== null && serveUrl && jwtSecret && logLevel) {
    return { ...settings, databaseUrl, bucket, prefix, serveUrl, jwtSecret, logLevel };
  }
  throw new SettingsError(problems.join("\n"));
}

type Problem = (words: string) => null;

/** White space at the ends does not count; what is empty then is not there. */
function textOf(bindings: Bindings, name: `GRADIENT_${string}`): string | null {
  const value = bindings[name];
  return (typeof value === "string" && value.trim()) || null;
}

function readDatabaseUrl(bindings: Bindings, problem: Problem): string | null {
  const url = bindings.DATABASE?.connectionString ?? textOf(bindings, "GRADIENT_DATABASE_URL");
  if (url === null)
    return problem("DATABASE: bind a Hyperdrive configuration, or set the secret GRADIENT_DATABASE_URL");
  if (/^postgres(?:ql)?:\/\//.test(url) && URL.canParse(url)) return url;
  return problem("GRADIENT_DATABASE_URL: must be like postgresql://user:password@host:5432/database");
}

function readPrefix(bindings: Bindings, problem: Problem): string | null {
  const names = (textOf(bindings, "GRADIENT_S3_PREFIX") ?? "").replace(/^\/+|\/+$/g, "");
  const prefix = names === "" ? "" : `${names}/`;
  if (PREFIX.test(prefix) && prefix.length <= PREFIX_LENGTH_MAX) return prefix;
  return problem("GRADIENT_S3_PREFIX: must be names between slashes such as gradient, as the servers have it");
}

function readServeUrl(bindings: Bindings, problem: Problem): string | null {
  const text = textOf(bindings, "GRADIENT_SERVE_URL");
  const url = text !== null && URL.canParse(text) ? new URL(text) : null;
  if (url && /^https?:$/.test(url.protocol) && url.href === `${url.origin}/`) return url.origin;
  return problem(
    "GRADIENT_SERVE_URL: must be the servers' address without a path, such as https://gradient.example.org",
  );
}

function readJwtSecret(bindings: Bindings, problem: Problem): Bytes | null {
  const secret = utf8(textOf(bindings, "GRADIENT_JWT_SECRET") ?? "");
  if (secret.length >= JWT_SECRET_BYTES_MIN) return secret;
  return problem("GRADIENT_JWT_SECRET: set this secret to what is in the servers' GRADIENT_JWT_SECRET_FILE");
}

function readCryptSecret(bindings: Bindings, problem: Problem): Bytes | null {
  const text = textOf(bindings, "GRADIENT_CRYPT_SECRET");
  if (text === null) return null;
  try {
    return parseCryptSecret(utf8(text));
  } catch (error) {
    if (!(error instanceof SecretBoxError)) throw error;
    return problem("GRADIENT_CRYPT_SECRET: set this secret to what is in the servers' GRADIENT_CRYPT_SECRET_FILE");
  }
}

function readLogLevel(bindings: Bindings, problem: Problem): LogLevel | null {
  const text = textOf(bindings, "GRADIENT_LOG_LEVEL") ?? "info";
  return (
    LOG_LEVELS.find((level) => level === text) ?? problem(`GRADIENT_LOG_LEVEL: must be one of ${LOG_LEVELS.join(", ")}`)
  );
}
