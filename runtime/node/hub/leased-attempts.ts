import { type Kysely, sql } from "kysely";
import type { OpenAttempt, ProvenWorker } from "#core/db/attempts.ts";
import { listFloatingDerivations } from "#core/db/resolutions.ts";
import type { Database } from "#core/db/schema.ts";
import { contentAddressKind, parseContentAddress } from "#core/nix/content-address.ts";
import { parseDerivation } from "#core/nix/derivation.ts";
import {
  outputName,
  parseStorePath,
  parseStorePathBaseName,
  type StorePath,
  storePathName,
} from "#core/nix/store-path.ts";

/** An attempt that a session's worker holds, with what it may do under it. */
export interface LeasedAttempt extends LeasedOutputs {
  readonly id: string;
  readonly kind: "evaluation" | "build";
  readonly organizationId: string;
}

/** A build may upload its own outputs and nothing else. */
export interface LeasedOutputs {
  readonly outputs: ReadonlySet<StorePath>;
  /** Those whose paths only the build can tell, by what their paths are called. */
  readonly floating: ReadonlyMap<string, FloatingOutput>;
}

export interface FloatingOutput {
  /** `r:sha256`, `sha256`, ... */
  readonly addressedBy: string;
  /** The first path that was uploaded as this output: an attempt makes one. */
  path: StorePath | null;
}

export const NO_OUTPUTS: LeasedOutputs = { outputs: new Set(), floating: new Map() };

/** What a derivation says of its outputs. */
export function outputsOf(drvPath: StorePath, aterm: Uint8Array): LeasedOutputs {
  const derivation = storePathName(drvPath).replace(/\.drv$/, "");
  const outputs = new Set<StorePath>();
  const floating = new Map<string, FloatingOutput>();
  for (const [name, { path, hashAlgorithm }] of parseDerivation(aterm).outputs) {
    const stated = parseStorePath(path);
    if (stated) outputs.add(stated);
    else if (hashAlgorithm !== "")
      floating.set(outputName(derivation, name), { addressedBy: hashAlgorithm, path: null });
  }
  return { outputs, floating };
}

/** Attempts that a worker goes on with after its session was lost. */
export async function loadLeasedAttempts(
  db: Kysely<Database>,
  attempts: readonly OpenAttempt[],
): Promise<LeasedAttempt[]> {
  const buildIds = attempts.flatMap(({ build_id }) => build_id ?? []);
  const rows = await db
    .selectFrom("build_output")
    .select(["build_id", "store_path"])
    .where("build_id", "=", sql<string>`any(${buildIds})`)
    .execute();
  const derivations = new Map((await listFloatingDerivations(db, buildIds)).map((row) => [row.build_id, row]));
  return attempts.map(({ id, organization_id, build_id }) => {
    const common = { id, organizationId: organization_id };
    if (build_id === null) return { ...common, kind: "evaluation", ...NO_OUTPUTS };
    const derivation = derivations.get(build_id);
    const drvPath = parseStorePathBaseName(derivation?.drv_path ?? "");
    if (derivation && drvPath) return { ...common, kind: "build", ...outputsOf(drvPath, derivation.aterm) };
    const own = rows.filter((row) => row.build_id === build_id);
    const outputs = own.flatMap(({ store_path }) => parseStorePathBaseName(store_path ?? "") ?? []);
    return { ...common, kind: "build", ...NO_OUTPUTS, outputs: new Set(outputs) };
  });
}

/** The attempts that the worker holds by the database, of the organizations it has proved. */
export async function listOpenAttempts(
  db: Kysely<Database>,
  { workerId, organizationIds }: ProvenWorker,
): Promise<Set<string>> {
  const rows = await db
    .selectFrom("attempt")
    .select("id")
    .where("worker_id", "=", workerId)
    .where("organization_id", "=", sql<string>`any(${organizationIds}::uuid[])`)
    .where("finished_at", "is", null)
    .execute();
  return new Set(rows.map(({ id }) => id));
}

/**
 * Why the attempt may not upload the path; null when it may. Of a floating output it still has to be seen that the path
 * follows from its content address (`contentAddressFault`).
 */
export function refuseUpload(
  held: LeasedAttempt,
  target: "source" | "output",
  { path, ca }: { readonly path: StorePath; readonly ca: string | null },
): string | null {
  if (target === "source") return held.kind === "evaluation" ? null : "only an evaluation uploads sources";
  if (held.outputs.has(path)) return null;
  const output = held.floating.get(storePathName(path));
  if (!output) return `${path} is not an output of the leased build`;
  const address = parseContentAddress(ca ?? "");
  if (!address || contentAddressKind(address) !== output.addressedBy) {
    return `${path} is not addressed by its content as the derivation says: by ${output.addressedBy}`;
  }
  output.path ??= path;
  return output.path === path ? null : `${path} is not the output that was uploaded before, ${output.path}`;
}
