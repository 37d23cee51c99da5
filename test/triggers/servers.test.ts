import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { insertTrigger } from "#core/db/triggers.ts";
import { readConfig } from "#runtime/node/config.ts";
import { createLoggers } from "#runtime/node/logger.ts";
import { type RunningServer, startServer } from "#runtime/node/server.ts";
import { type TestDatabase, withDatabase } from "#test/support/database.ts";
import { withGitServer } from "#test/support/git.ts";
import { insertCacheOf, insertOrganization, insertProjectRow, newId } from "#test/support/rows.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { makeRepository } from "./support.ts";

async function start(database: TestDatabase, base: string, storage: string): Promise<RunningServer> {
  const { config } = readConfig({
    GRADIENT_BASE_PATH: base,
    GRADIENT_PORT: "0",
    GRADIENT_OUTBOUND_ALLOW: "127.0.0.1/32",
  });
  const secret = new TextEncoder().encode("s".repeat(48));
  const whole = {
    ...config,
    storage: { ...config.storage, sharedPath: storage },
    database: { ...config.database, url: database.url },
    secrets: { jwt: secret, crypt: secret },
  };
  return await startServer(whole, createLoggers(config.logLevels, { write: () => {} }));
}

/** What a project's action was told, in the order it came. */
async function listener() {
  const told: string[] = [];
  const first = Promise.withResolvers<void>();
  const server = createServer((request, response) => {
    told.push(String(request.headers["x-gradient-event"]));
    request.resume();
    response.end();
    first.resolve();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const dispose = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { told, first: first.promise, url: `http://127.0.0.1:${port}/`, [Symbol.asyncDispose]: dispose };
}

test("of servers on one database one looks at repositories by itself, begins an evaluation, and tells of it once", {
  timeout: 60_000,
}, async () => {
  await using folder = await withTemporaryFolder();
  await using database = await withDatabase();
  await using hook = await listener();
  const { commit } = await makeRepository(folder.path, "site");
  const hash = await commit();
  await using repositories = await withGitServer(folder.path);
  const { db } = database;
  const organizationId = await insertOrganization(db, { name: "acme" });
  await insertCacheOf(db, organizationId);
  const projectId = await insertProjectRow(db, { organizationId, repository: `${repositories.url}/site/.git` });
  const config = { interval_secs: 10, branch: null };
  const due = { inMs: 0 };
  await insertTrigger(db, { id: newId(), project_id: projectId, type: 0, config, active: true, due });
  const action = { id: newId(), project_id: projectId, name: "hook", type: 1, events: ["evaluation.queued"] };
  await db
    .insertInto("project_action")
    .values({ ...action, config: JSON.stringify({ url: hook.url }) })
    .execute();

  const servers = await Promise.all(
    ["one", "other"].map((name) => start(database, join(folder.path, name), join(folder.path, "storage"))),
  );
  await hook.first;
  await Promise.all(servers.map((server) => server.close()));
  const evaluations = await db.selectFrom("evaluation").select(["commit_hash", "trigger_type"]).execute();
  expect(evaluations).toEqual([{ commit_hash: hash, trigger_type: 0 }]);
  expect(hook.told).toEqual(["evaluation.queued"]);
});
