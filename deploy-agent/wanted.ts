import type { WantedBuild as BuildFields, DeployCache, WantedView } from "#core/api/hosts.ts";
import { isUuid } from "#core/lib/ids.ts";
import { parsePublicKey } from "#core/nix/signature.ts";
import { parseStorePath } from "#core/nix/store-path.ts";
import type { Wanted, WantedBuild, WantedCache } from "./decide.ts";
import { printable } from "./printable.ts";

/** The answer is not what this agent understands; the message says which part. */
export class WantedError extends Error {
  override readonly name = "WantedError";
}

const CACHES_MAX = 100;
const KEYS_MAX = 20;
const TEXT_MAX = 4_096;
const STATES = ["deploy", "none", "held", "waiting"] as const;

/** Reads what the envelope of the server's answer holds. Unknown fields are for later agents. Throws `WantedError`. */
export function parseWanted(message: unknown): Wanted {
  const fields = recordOf<keyof WantedView>(message, "the message");
  const state = STATES.find((one) => one === fields.state);
  if (!state) throw new WantedError(`state is ${shown(fields.state)}; it should be one of ${STATES.join(", ")}`);
  const build = fields.build === null ? null : parseBuild(fields.build);
  if (state === "deploy" && !build) throw new WantedError("there is no build, though one is to be deployed");
  if (!Array.isArray(fields.caches) || fields.caches.length > CACHES_MAX) {
    throw new WantedError(`caches should be a list of at most ${CACHES_MAX}`);
  }
  return {
    state,
    reason: fields.reason === null ? null : printable(textOf(fields, "reason")),
    build,
    caches: fields.caches.map(parseCache),
    canReport: booleanOf(fields, "can_report"),
  };
}

function parseBuild(value: unknown): WantedBuild {
  const fields = recordOf<keyof BuildFields>(value, "build");
  const storePath = parseStorePath(textOf(fields, "store_path"));
  if (!storePath) throw new WantedError(`store_path ${shown(fields.store_path)} is no path of a Nix store`);
  // To realise one would be to build it here.
  if (storePath.endsWith(".drv")) throw new WantedError(`store_path ${shown(storePath)} is a derivation and no system`);
  return {
    storePath,
    buildId: uuidOf(fields, "build_id"),
    evaluationId: uuidOf(fields, "evaluation_id"),
    order: countOf(fields, "order"),
    commit: commitOf(fields),
  };
}

function parseCache(value: unknown): WantedCache {
  const fields = recordOf<keyof DeployCache>(value, "a cache");
  const url = textOf(fields, "url");
  if (!/^https?:\/\/[^\s"'\\]+$/.test(url) || !URL.canParse(url)) {
    throw new WantedError(`the address ${shown(url)} of a cache is none that Nix could ask`);
  }
  // What follows a question mark are settings of Nix, such as `trusted=true`, which takes paths without signatures.
  if (/[?#@]/.test(url)) {
    throw new WantedError(`the address ${shown(url)} of a cache should have no user, query and fragment`);
  }
  const keys = fields.public_keys;
  if (!Array.isArray(keys) || keys.length > KEYS_MAX || !keys.every(isPublicKey)) {
    throw new WantedError("public_keys of a cache should be a list of keys such as name:base64");
  }
  return {
    name: printable(textOf(fields, "name")),
    url,
    publicKeys: keys,
    isPrivate: booleanOf(fields, "private"),
    priority: integerOf(fields, "priority"),
  };
}

function isPublicKey(value: unknown): value is string {
  return typeof value === "string" && parsePublicKey(value) !== null;
}

/** Fields by the names that the server's own types have for them. */
type Fields<Name extends string> = Readonly<Record<Name, unknown>>;

function recordOf<Name extends string>(value: unknown, what: string): Fields<Name> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields<Name>;
  throw new WantedError(`${what} should be an object`);
}

function textOf<Name extends string>(fields: Fields<Name>, name: Name): string {
  const value = fields[name];
  if (typeof value === "string" && value.length <= TEXT_MAX) return value;
  throw new WantedError(`${name} should be text of at most ${TEXT_MAX} characters`);
}

function integerOf<Name extends string>(fields: Fields<Name>, name: Name): number {
  const value = fields[name];
  if (typeof value === "number" && Number.isSafeInteger(value)) return value;
  throw new WantedError(`${name} should be a whole number`);
}

function countOf<Name extends string>(fields: Fields<Name>, name: Name): number {
  const value = integerOf(fields, name);
  if (value >= 0) return value;
  throw new WantedError(`${name} should not be below zero`);
}

function uuidOf<Name extends string>(fields: Fields<Name>, name: Name): string {
  const value = textOf(fields, name);
  if (isUuid(value)) return value;
  throw new WantedError(`${name} should be a UUID and is ${shown(value)}`);
}

/** Of git: SHA-1 or SHA-256, whole or short. */
function commitOf(fields: Fields<"commit">): string {
  const value = textOf(fields, "commit");
  if (/^[0-9a-f]{1,64}$/.test(value)) return value;
  throw new WantedError(`commit should be the hash of a commit and is ${shown(value)}`);
}

function booleanOf<Name extends string>(fields: Fields<Name>, name: Name): boolean {
  const value = fields[name];
  if (typeof value === "boolean") return value;
  throw new WantedError(`${name} should be true or false`);
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? "nothing").slice(0, 200);
}
