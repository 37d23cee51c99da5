import type { Migration, MigrationProvider } from "kysely/migration";
import * as createAccounts from "./20261122T000000Z-create-accounts.ts";
import * as createCaches from "./20261122T000100Z-create-caches.ts";
import * as createBuilds from "./20261122T000200Z-create-builds.ts";

// A static list, so that a bundle has every migration in it. Append; never edit one that was released.
const migrations: Record<string, Migration> = {
  "20261122T000000Z-create-accounts": createAccounts,
  "20261122T000100Z-create-caches": createCaches,
  "20261122T000200Z-create-builds": createBuilds,
};

export const migrationProvider: MigrationProvider = {
  getMigrations: () => Promise.resolve(migrations),
};
