import type { Pool } from "pg";
import { CACHE } from "#test/e2e/gradient.ts";
import { type BareAnswer, startBareServer } from "./bare-server.ts";
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
/** As in mixed.lua. */
const HOT_PATHS = 1_000;

const NOTES = [
  `\`crowd\`: a cache of ${PATHS.toLocaleString("en-US")} paths; 95 of 100 requests are for the same ` +
    "thousand narinfos, the others for any. The peak is " +
    `that of \`wrk -t1 -c${CONNECTIONS}\`; for the time of an answer ${PACED_CONNECTIONS} connections pause between ` +
    "their requests so that together they make half of it. The server's main thread has a CPU for itself; its other " +
    "threads, PostgreSQL and the client share another, of which the client gets what it wants (`chrt`), as if it " +
    "were on another machine. Left to itself the kernel puts the server's thread behind the client on one CPU while " +
    "the other has nothing to do. Beside ours stands a bare node:http with the thousand narinfos alone, from a Map, " +
    "at the same rate and in the same place. On one CPU: the server and " +
    "PostgreSQL share one, where a thread that is behind another one waits for a tick of the kernel's clock (4 ms " +
    "with 250 Hz), and the client has the other. The database's files are in memory.",
];

/** How long a narinfo takes in a cache with a million paths, while others ask too. */
export async function benchCrowd(settings: Readonly<Record<string, string>>): Promise<PartResult> {
  await using installation = await withFilledDatabase(settings, { fill });
  const origin = installation.gradient.url;
  await installation.pinMainThread();
  const answers = await Promise.all(
    Array.from({ length: HOT_PATHS }, (_, index) => answerOf(origin, pathOf(index + 1))),
  );
  await using bare = await startBareServer(answers);
  const apart = await measureCrowd(origin, "", bare.url);
  await installation.pin();
  return { figures: [...apart, ...(await measureCrowd(origin, ", on one CPU", bare.url))], notes: NOTES };
}

function pathOf(number: number | string): string {
  return `/cache/${CACHE}/${String(number).padStart(32, "0")}.narinfo`;
}

async function answerOf(origin: string, url: string): Promise<BareAnswer> {
  const response = await fetch(origin + url);
  if (!response.ok) throw new Error(`${url} was answered ${response.status}`);
  const kept = ["content-type", "x-content-type-options", "content-length", "etag", "cache-control"];
  return {
    url,
    headers: Object.fromEntries(kept.map((name) => [name, response.headers.get(name) ?? ""])),
    body: await response.text(),
  };
}

async function measureCrowd(origin: string, where: string, bareOrigin: string): Promise<Figure[]> {
  const asked = { status: 200, script: MIXED, isFirst: true } as const;
  const target = { ...asked, url: origin + pathOf("x") };
  await requestsPerSecond({ ...target, seconds: WARM_SECONDS, connections: CONNECTIONS });
  const peaks: number[] = [];
  const answers: number[] = [];
  const bareAnswers: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const peak = await requestsPerSecond({ ...target, seconds: SECONDS, connections: CONNECTIONS });
    peaks.push(peak);
    const paced = { ...target, seconds: SECONDS, connections: PACED_CONNECTIONS, rate: peak / 2 };
    answers.push(await answerMsAtRate(paced));
  }
  // Not in between: a server that idles for some seconds gives memory back, and fetches it again afterwards.
  for (const peak of peaks) {
    const paced = { ...asked, seconds: SECONDS, connections: PACED_CONNECTIONS, rate: peak / 2 };
    bareAnswers.push(await answerMsAtRate({ ...paced, url: bareOrigin + pathOf("x"), scriptArguments: ["100"] }));
  }
  const figure = { part: "crowd", samples: ROUNDS };
  const bare = { name: "node:http", value: median(bareAnswers) };
  const [peak, p99] = [`narinfos, 95 % hot: peak${where}`, `p99 at half of the peak${where}`];
  return [
    { ...figure, what: peak, unit: "req/s", ours: median(peaks), other: null, aim: { none: "none set" } },
    { ...figure, what: p99, unit: "ms", ours: median(answers), other: bare, aim: { valueMax: 5 } },
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
