import { BuildStatus, EvaluationStatus } from "#core/domain/states.ts";
import type { Asked, BuildsApi } from "./builds-api.ts";
import { insertBuild, insertEntryPoint, insertEvaluationRow, insertProjectRow, linkBuild, newId } from "./rows.ts";

export interface Fleet {
  readonly id: string;
  /** Below the API's prefix. */
  readonly path: string;
}

/** A project whose hosts follow the branch `main`. */
export async function insertFleet(api: BuildsApi, settings: object = {}): Promise<Fleet> {
  const name = `fleet-${newId()}`;
  const id = await insertProjectRow(api.db, { organizationId: api.organizationId, name });
  await api.db
    .updateTable("project")
    .set({ default_branch: "main", ...settings })
    .where("id", "=", id)
    .execute();
  return { id, path: `/projects/acme/${name}` };
}

export interface BuiltOptions {
  readonly hosts: readonly string[];
  /** 40 characters; another one for each evaluation where it is not said. */
  readonly commit?: string;
  readonly branch?: string | null;
  readonly deploys?: boolean;
  readonly trusted?: boolean;
  readonly status?: number;
  readonly buildStatus?: number;
  /** What the evaluation saw at its end. */
  readonly outcome?: number;
  readonly available?: boolean;
  readonly attribute?: (host: string) => string[];
  /** Builds of an evaluation before: of the same systems. */
  readonly same?: Built;
}

export interface Built {
  readonly evaluation: string;
  readonly order: number;
  readonly commit: string;
  /** What the API calls the build, by host. */
  readonly links: Readonly<Record<string, string>>;
  readonly builds: Readonly<Record<string, string>>;
  /** Whole store paths, by host. */
  readonly paths: Readonly<Record<string, string>>;
}

const TOPLEVEL = (host: string) => ["nixosConfigurations", host, "config", "system", "build", "toplevel"];
let counted = 0;

/** An evaluation that built these hosts' systems. */
export async function buildHosts(api: BuildsApi, fleet: Fleet, options: BuiltOptions): Promise<Built> {
  const { hosts, branch = "main", deploys = true, trusted = true, available = true, attribute = TOPLEVEL } = options;
  const { organizationId, db } = api;
  const status = options.status ?? EvaluationStatus.Completed;
  const evaluation = await insertEvaluationRow(db, { organizationId, projectId: fleet.id, status });
  const commit = options.commit ?? String(++counted).padStart(40, "0");
  const { ordinal } = await db
    .updateTable("evaluation")
    .set({
      branch,
      deploys,
      trusted,
      commit_hash: commit,
      commit_message: `Commit ${commit}\n\nMore`,
      building_started_at: new Date(),
    })
    .where("id", "=", evaluation)
    .returning("ordinal")
    .executeTakeFirstOrThrow();
  const links: Record<string, string> = {};
  const builds: Record<string, string> = {};
  const paths: Record<string, string> = {};
  for (const host of hosts) {
    const again = options.same?.builds[host];
    const name = `nixos-system-${host}`;
    const build =
      again ?? (await insertBuild(db, { organizationId, name, status: options.buildStatus ?? BuildStatus.Completed }));
    const store_path = options.same?.paths[host]?.slice("/nix/store/".length) ?? `${randomHash()}-${name}`;
    await db.updateTable("build_output").set({ store_path, available }).where("build_id", "=", build).execute();
    links[host] = await linkBuild(
      db,
      evaluation,
      build,
      options.outcome === undefined ? {} : { outcome: options.outcome },
    );
    await insertEntryPoint(db, evaluation, build, attribute(host));
    builds[host] = build;
    paths[host] = `/nix/store/${store_path}`;
  }
  return { evaluation, order: ordinal, commit, links, builds, paths };
}

export function randomHash(): string {
  const digits = "0123456789abcdfghijklmnpqrsvwxyz";
  return Array.from(crypto.getRandomValues(new Uint8Array(32)), (byte) => digits[byte % 32]).join("");
}

/** What a host says of itself, every field that the agent sends. */
export function report(more: object): object {
  return {
    run_id: newId(),
    sequence: 0,
    step: "started",
    mode: "switch",
    build_id: null,
    store_path: null,
    running_path: null,
    booted_path: null,
    generation: 1,
    health: "unknown",
    reason: null,
    failed_units: [],
    exit_code: null,
    agent_version: "1.0",
    happened_at: new Date().toISOString(),
    ...more,
  };
}

/** A whole run: what the host says when it got the system and all is well, or when it went wrong. */
export async function deploy(
  api: BuildsApi,
  fleet: Fleet,
  { host, built, end }: { readonly host: string; readonly built: Built; readonly end: "succeeded" | "rolled_back" },
): Promise<Asked[]> {
  const run = { run_id: newId(), build_id: built.links[host], store_path: built.paths[host] };
  const send = (more: object) =>
    api.ask("POST", `${fleet.path}/hosts/${host}/reports`, api.writer, report({ ...run, ...more }));
  const well = end === "succeeded";
  return [
    await send({ sequence: 0, step: "started" }),
    await send({ sequence: 1, step: "activating" }),
    await send({
      sequence: 2,
      step: end,
      health: well ? "healthy" : "unhealthy",
      ...(well
        ? { running_path: built.paths[host] }
        : { reason: "nginx.service failed", failed_units: ["nginx.service"] }),
    }),
  ];
}
