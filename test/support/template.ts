import type { DatabaseAddress } from "#runtime/node/postgres/start.ts";
import { isInMemory } from "./quick-folder.ts";

/** The migrated database that every test database is a copy of. */
export const TEMPLATE = "template_gradient";

/**
 * The statement that makes a database as a copy of another on the server that `startTestPostgres` has started. The
 * copies of files cost a third of the copies by the server's log where files are in memory, and several times as much
 * on a disk.
 */
export function copyStatement({ host }: DatabaseAddress, copy: string, template: string = TEMPLATE): string {
  // Its sockets lie beside its data.
  const strategy = isInMemory(host) ? "file_copy" : "wal_log";
  return `create database ${copy} template ${template} strategy ${strategy}`;
}
