import { join } from "node:path";
import type { Pool } from "pg";
import { CACHE } from "#test/e2e/gradient.ts";
import { startService } from "#test/e2e/process.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import type { PartResult } from "./figures.ts";
import { requestsPerSecond } from "./load.ts";
import { median } from "./measure.ts";
import { withFilledDatabase } from "./own-database.ts";

const ROUNDS = 3;
const SECONDS = 3;
const CONNECTIONS = 64;
const HASH = "0".repeat(32);

const NOTES = [
  `\`several\`: one narinfo, \`wrk -t1 -c${CONNECTIONS}\`, ${SECONDS} s each; first one server, then two on one port ` +
    "(`GRADIENT_REUSE_PORT=true`). The first has a CPU for itself, the second one runs where it likes. With two CPUs " +
    "that is where the client is, which takes a third to a half of it: more than some 1.5x cannot be seen then.",
];

/** What a second server process on the same port brings. */
export async function benchSeveral(settings: Readonly<Record<string, string>>): Promise<PartResult> {
  await using storage = await withTemporaryFolder();
  const shared = {
    ...settings,
    GRADIENT_REUSE_PORT: "true",
    GRADIENT_SHARED_STORAGE_PATH: storage.path,
    // The database has connections for one server of the usual size.
    GRADIENT_DATABASE_MAX_CONNECTIONS: "12",
    GRADIENT_DATABASE_WEB_MAX_CONNECTIONS: "6",
  };
  await using installation = await withFilledDatabase(shared, { fill });
  await installation.pin();
  const { gradient } = installation;
  const target = { url: `${gradient.url}/cache/${CACHE}/${HASH}.narinfo`, status: 200 } as const;
  const measure = async () => {
    const rates: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      rates.push(await requestsPerSecond({ ...target, seconds: SECONDS, connections: CONNECTIONS }));
    }
    return median(rates);
  };
  const alone = await measure();
  const environment = { ...gradient.serverEnv, GRADIENT_BASE_PATH: join(gradient.folder, "second") };
  await using second = startService("runtime/node/main.ts", environment);
  await second.waitFor("the server is ready");
  const together = await measure();
  return {
    figures: [
      {
        part: "several",
        what: "a hot narinfo from two servers on one port",
        unit: "req/s",
        ours: together,
        other: { name: "one server", value: alone },
        aim: { none: "none set" },
        samples: ROUNDS,
      },
    ],
    notes: NOTES,
  };
}

async function fill(pool: Pool): Promise<void> {
  await pool.query(`
    insert into nar (nar_hash, nar_size, file_hash, file_size, compression, object_key)
    values (sha256('1'), 1000, sha256('1'), 1000, 'zstd', 'nar/x/1')`);
  await pool.query(
    `insert into cache_path (cache_id, hash, store_path, nar_hash, "references", deriver, signatures)
    select id, $2, $2 || '-path', sha256('1'), array[$2 || '-path'], null, array['key:' || repeat('A', 86) || '==']
    from cache where name = $1`,
    [CACHE, HASH],
  );
}
