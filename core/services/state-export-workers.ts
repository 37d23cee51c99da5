import type { Transaction } from "kysely";
import type { Database } from "../db/schema.ts";
import { listExportedBaseWorkers, listExportedRegistrations } from "../db/state-export.ts";
import type { NixValue } from "../domain/nix-text.ts";
import type { ExportedEntry } from "./state-export-keys.ts";
import { nameOf } from "./state-export-organizations.ts";

type Registration = Awaited<ReturnType<typeof listExportedRegistrations>>[number];

/** `names`: of users, by id. Registrations of one worker that are alike are one entry, with all their organizations. */
export async function exportWorkers(
  trx: Transaction<Database>,
  names: ReadonlyMap<string, string>,
): Promise<ExportedEntry[]> {
  const registrations = await listExportedRegistrations(trx);
  const own = registrations.filter(({ base_worker_id }) => base_worker_id === null);
  const alike = Map.groupBy(own, ({ organization: _, ...row }) => JSON.stringify(row));
  const entries = [...alike.values()].map((rows) => {
    const [row] = rows as [Registration, ...Registration[]];
    const organizations = rows.map(({ organization }) => organization);
    return entryOf(row, names, { organizations, enabled: row.active, base_worker: false });
  });
  const base = (await listExportedBaseWorkers(trx)).map((row) => {
    const users = registrations.filter(({ base_worker_id, opted_in }) => base_worker_id === row.id && opted_in);
    const organizations = users.map(({ organization }) => organization);
    const { enabled, authorize_against } = row;
    return entryOf(row, names, { organizations, enabled, base_worker: true, authorize_against });
  });
  return [...entries, ...base];
}

function entryOf(
  row: Pick<
    Registration,
    "worker_id" | "display_name" | "url" | "enable_fetch" | "enable_eval" | "enable_build" | "created_by"
  >,
  names: ReadonlyMap<string, string>,
  rest: Readonly<Record<string, NixValue>>,
): ExportedEntry {
  const { worker_id, display_name, url, enable_fetch, enable_eval, enable_build } = row;
  const value = {
    worker_id,
    display_name,
    url,
    token_file: null,
    created_by: nameOf(names, row.created_by),
    enable_fetch,
    enable_eval,
    enable_build,
    ...rest,
  };
  return { keys: [display_name, `${display_name}-${worker_id}`], value };
}
