import type { Pool } from "pg";
import { CACHE } from "#test/e2e/gradient.ts";
import type { Figure, PartResult } from "./figures.ts";
import { answerMsAtRate, requestsPerSecond } from "./load.ts";
import { median } from "./measure.ts";
import { withFilledDatabase } from "./own-database.ts";

const PATHS = 1_000_000;
const ROUNDS = 5;
const SECONDS = 5;
const WARM_SECONDS = 3;
const CONNECTIONS = 32;
/** So many that the rate does not depend on how fast each answer comes. */
const PACED_CONNECTIONS = 256;
const MIXED = new URL("mixed.lua", import.meta.url).pathname;

const NOTES = [
  `\`crowd\`: a cache of ${PATHS.toLocaleString("en-US")} paths; 95 of 100 requests are for the same ` +
    "thousand narinfos, the others for any. The peak is " +
    `that of \`wrk -t1 -c${CONNECTIONS}\`; for the time of an answer ${PACED_CONNECTIONS} connections pause between ` +
    "their requests so that together they make half of it. The client is on one CPU; the server and PostgreSQL have " +
    "all, as where they run, or share another, where a thread that is behind another one waits for a tick of the " +
    "kernel's clock, 4 ms with 250 Hz. The database's files are in memory.",
];

/** How long a narinfo takes in a cache with a million paths, while others ask too. */
export async function benchCrowd(settings: Readonly<Record<string, string>>): Promise<PartResult> {
  await using installation = await withFilledDatabase(settings, { fill });
  const { url } = installation.gradient;
  const figures = await measureCrowd(url, "");
  await installation.pin();
  return { figures: [...figures, ...(await measureCrowd(url, ", on one CPU"))], notes: NOTES };
}

async function measureCrowd(url: string, where: string): Promise<Figure[]> {
  const target = { url: `${url}/cache/${CACHE}/x.narinfo`, status: 200, script: MIXED } as const;
  await requestsPerSecond({ ...target, seconds: WARM_SECONDS, connections: CONNECTIONS });
  const peaks: number[] = [];
  const answers: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const peak = await requestsPerSecond({ ...target, seconds: SECONDS, connections: CONNECTIONS });
    peaks.push(peak);
    const paced = { ...target, seconds: SECONDS, connections: PACED_CONNECTIONS, rate: peak / 2 };
    answers.push(await answerMsAtRate(paced));
  }
  const figure = { part: "crowd", other: null, samples: ROUNDS };
  const [peak, p99] = [`narinfos, 95 % hot: peak${where}`, `p99 at half of the peak${where}`];
  return [
    { ...figure, what: peak, unit: "req/s", ours: median(peaks), aim: { none: "none set" } },
    { ...figure, what: p99, unit: "ms", ours: median(answers), aim: { valueMax: 5 } },
  ];
}

async function fill(pool: Pool): Promise<void> {
  const name = "lpad(n::text, 32, '0')";
  await pool.query(`
    insert into nar (nar_hash, nar_size, file_hash, file_size, compression, object_key)
    select sha256(n::text::bytea), 1000, sha256(n::text::bytea), 1000, 'zstd', 'nar/x/' || n
    from generate_series(1, ${PATHS}) n`);
  await pool.query(
    `insert into cache_path (cache_id, hash, store_path, nar_hash, "references", deriver, signatures)
    select (select id from cache where name = $1), ${name}, ${name} || '-path', sha256(n::text::bytea),
      array[${name} || '-path'], ${name} || '-path.drv', array['key:' || repeat('A', 86) || '==']
    from generate_series(1, ${PATHS}) n`,
    [CACHE],
  );
  await pool.query("vacuum analyze nar, cache_path");
}
