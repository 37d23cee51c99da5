import { resolve } from "node:path";
import type { S3Settings } from "../s3/settings.ts";
import type { EnvironmentReader } from "./reader.ts";

/** Where NAR files and other large bodies are kept, and who reads them. */
export interface StorageSettings {
  /** Absolute. A folder that all servers of one database reach; null: one below the base folder. */
  readonly sharedPath: string | null;
  /** Null: objects are files on the disk. */
  readonly s3: S3Settings | null;
  /** Objects that are not where they belong yet are read from the other store. Null: all of them are in their place. */
  readonly movingTo: "disk" | "s3" | null;
  /** Clients fetch NARs from S3 themselves. */
  readonly redirected: boolean;
  /** Where the proxy before us reads the storage folder, between slashes; null: we send files ourselves. */
  readonly proxyPath: string | null;
  /** Absolute. The folder where that proxy writes down what it has sent; null: it does not. */
  readonly proxyLogPath: string | null;
}

/** RFC 3986's names without dots at their beginning: nginx would make something else of those. */
const PROXY_PATH = /^\/(?:[A-Za-z0-9_~-][A-Za-z0-9._~-]*\/)+$/;
/** S3's own rules. */
const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
const REGION = /^[a-z0-9-]{1,64}$/;
/** The same names as in keys. */
const PREFIX = /^(?:[A-Za-z0-9][A-Za-z0-9._-]{0,79}\/)*$/;
const LOOPBACK = /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

export function readStorageSettings(reader: EnvironmentReader, databaseUrl: string | null): StorageSettings {
  const s3 = readS3(reader);
  const isReachable = s3 !== null && !(s3.endpoint !== null && LOOPBACK.test(hostOf(s3.endpoint)));
  const movingTo = reader.choice("GRADIENT_STORAGE_MOVING_TO", ["disk", "s3"], null);
  if (movingTo !== null && s3 === null && reader.text("GRADIENT_S3_BUCKET") === null) {
    reader.problems.push("GRADIENT_STORAGE_MOVING_TO: objects move to or from S3: set GRADIENT_S3_BUCKET too");
  }
  // What is in S3 alone is no file that nginx could send: S3 is not asked where it lies.
  const hasFiles = s3 === null || movingTo !== null;
  const proxyPath = readProxyPath(reader);
  const proxyLogPath = readProxyLogPath(reader);
  return {
    sharedPath: readSharedPath(reader, databaseUrl),
    s3,
    movingTo,
    redirected: reader.boolean("GRADIENT_S3_REDIRECT", isReachable) && s3 !== null,
    proxyPath: hasFiles ? proxyPath : null,
    proxyLogPath: hasFiles ? proxyLogPath : null,
  };
}

function readSharedPath(reader: EnvironmentReader, databaseUrl: string | null): string | null {
  const path = reader.text("GRADIENT_SHARED_STORAGE_PATH");
  if (path !== null && databaseUrl === null) {
    reader.problems.push(
      "GRADIENT_SHARED_STORAGE_PATH: servers that share a storage share a database too: set GRADIENT_DATABASE_URL_FILE",
    );
  }
  return path === null ? null : resolve(path);
}

function readProxyPath(reader: EnvironmentReader): string | null {
  const name = "GRADIENT_NGINX_STORAGE_LOCATION";
  const path = reader.text(name);
  if (path === null || PROXY_PATH.test(path)) return path;
  reader.problems.push(`${name}=${path.slice(0, 200)}: must be an internal location such as /internal-storage/`);
  return null;
}

function readProxyLogPath(reader: EnvironmentReader): string | null {
  const name = "GRADIENT_NGINX_LOG_PATH";
  const path = reader.text(name);
  if (path !== null && reader.text("GRADIENT_NGINX_STORAGE_LOCATION") === null) {
    reader.problems.push(
      `${name}: has no effect without GRADIENT_NGINX_STORAGE_LOCATION: set it, or leave this one out`,
    );
  }
  return path === null ? null : resolve(path);
}

function readS3(reader: EnvironmentReader): S3Settings | null {
  const bucket = matching(reader, "GRADIENT_S3_BUCKET", BUCKET, "a bucket's name such as gradient-nars");
  const region = matching(reader, "GRADIENT_S3_REGION", REGION, "a region's name such as eu-central-1") ?? "us-east-1";
  const endpoint = reader.text("GRADIENT_S3_ENDPOINT") === null ? null : reader.origin("GRADIENT_S3_ENDPOINT", "");
  // A certificate for all buckets does not cover one whose name has dots.
  const isOwnHost = endpoint === null && bucket !== null && !bucket.includes(".");
  const virtualHosted = reader.boolean("GRADIENT_S3_VIRTUAL_HOSTED_STYLE", isOwnHost);
  const prefix = (reader.text("GRADIENT_S3_PREFIX") ?? "").replace(/^\/+|\/+$/g, "");
  const withSlash = prefix === "" ? "" : `${prefix}/`;
  if (!PREFIX.test(withSlash) || withSlash.length > 512) {
    reader.problems.push(`GRADIENT_S3_PREFIX=${prefix.slice(0, 200)}: must be names between slashes such as gradient`);
  }
  const credentials = readCredentials(reader);
  if (bucket !== null) return { bucket, region, endpoint, credentials, prefix: withSlash, virtualHosted };
  if (reader.text("GRADIENT_S3_BUCKET") !== null) return null;
  const useless = ["S3_ENDPOINT", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY_FILE"].map((name) => `GRADIENT_${name}`);
  for (const name of useless.filter((one) => reader.text(one) !== null)) {
    reader.problems.push(`${name}: has no effect without GRADIENT_S3_BUCKET: set it, or leave this one out`);
  }
  return null;
}

function readCredentials(reader: EnvironmentReader): S3Settings["credentials"] {
  const [idName, secretName] = ["GRADIENT_S3_ACCESS_KEY_ID", "GRADIENT_S3_SECRET_ACCESS_KEY_FILE"];
  const accessKeyId = reader.text(idName);
  const hasSecret = reader.text(secretName) !== null;
  if (accessKeyId === null && !hasSecret) return null;
  if (accessKeyId === null) reader.problems.push(`${idName}: is missing beside ${secretName}`);
  if (!hasSecret) reader.problems.push(`${secretName}: is missing beside ${idName}`);
  const file = reader.file(secretName);
  const secretAccessKey = file ? new TextDecoder().decode(file).trim() : "";
  if (file && secretAccessKey === "") reader.problems.push(`${secretName}: the file is empty`);
  return { accessKeyId: accessKeyId ?? "", secretAccessKey };
}

function matching(reader: EnvironmentReader, name: string, pattern: RegExp, wanted: string): string | null {
  const text = reader.text(name);
  if (text === null || pattern.test(text)) return text;
  reader.problems.push(`${name}=${text.slice(0, 200)}: must be ${wanted}`);
  return null;
}

function hostOf(endpoint: string): string {
  return URL.canParse(endpoint) ? new URL(endpoint).hostname : "";
}
