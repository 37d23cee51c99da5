import { readFile } from "node:fs/promises";
import { startBareServer } from "./bare-server.ts";
import type { Aim, Figure, PartResult } from "./figures.ts";
import { requestsPerSecond, type WrkOptions } from "./load.ts";
import { interleave } from "./measure.ts";
import { makeProxyLog, startNginx, startProxy } from "./nginx.ts";
import { PINNING } from "./processes.ts";
import { serveCache } from "./served-cache.ts";

const ROUNDS = 5;
const SECONDS = 3;
const CONNECTIONS = 32;
const NO_AIM: Aim = { none: "none set" };
const HOT: Aim = { ratioMin: 0.85 };
const HOT_BEHIND_NGINX: Aim = { ratioMin: 0.8 };
const OTHER_PATHS = new URL("misses.lua", import.meta.url).pathname;
const ABSENT = "0000000000000000000000000000000x";

const NOTES = [
  `\`narinfo\`: \`wrk -t1 -c${CONNECTIONS}\`, ${SECONDS} s each, ` +
    (PINNING
      ? "the server (with its PostgreSQL) on one CPU and the client on another"
      : "the server and the client share the only CPU") +
    ". One narinfo asked for again and again; one path that is not there; and another such path in each request, " +
    "where every one is a question to the database. nginx: one worker, the same files, no log; before the server it " +
    "keeps for a second what is public. node:http: a bare server that answers the same headers and bytes from a Map.",
];

/** Requests for narinfos per second, of what is there and of what is not. */
export async function benchNarinfo(settings: Readonly<Record<string, string>>): Promise<PartResult> {
  await using log = await makeProxyLog();
  await using cache = await serveCache({ small: "head -c 4000 /dev/urandom > $out" }, { ...settings, ...log.settings });
  const { narinfo } = cache.files.small as (typeof cache.files)[string];
  await using nginx = await startNginx(cache.folder);
  await using proxy = await startProxy(`${cache.folder}-proxy`, {
    url: cache.gradient.url,
    storage: cache.gradient.storage,
    log,
  });
  const body = await readFile(narinfo.path, "utf8");
  await using bare = await startBareServer([{ ...narinfo, body }]);
  const servers = { ours: cache.gradient.url, nginx: nginx.url, bare: bare.url };

  const missing = narinfo.url.replace(/[^/]*$/, `${ABSENT}.narinfo`);
  const cases: readonly [what: string, url: string, options: Pick<WrkOptions, "status" | "script">, aim: Aim][] = [
    ["a hot narinfo", narinfo.url, { status: 200 }, HOT],
    ["a path that is not there", missing, { status: 404 }, NO_AIM],
    ["ever other paths that are not there", missing, { status: 404, script: OTHER_PATHS }, NO_AIM],
  ];
  const figures: Figure[] = [];
  for (const [what, url, options, aim] of cases) {
    const side = (origin: string) => () =>
      requestsPerSecond({ url: `${origin}${url}`, seconds: SECONDS, connections: CONNECTIONS, ...options });
    const values = await interleave(ROUNDS, {
      ours: side(servers.ours),
      nginx: side(servers.nginx),
      bare: side(servers.bare),
      behind: side(proxy.url),
    });
    const figure = { part: "narinfo", unit: "req/s", samples: ROUNDS };
    const byNginx = { name: "nginx", value: values.nginx };
    const behindAim = aim === HOT ? HOT_BEHIND_NGINX : NO_AIM;
    figures.push(
      { ...figure, what, ours: values.ours, other: { name: "node:http", value: values.bare }, aim },
      { ...figure, what, ours: values.ours, other: byNginx, aim: NO_AIM },
      { ...figure, what: `${what}, behind nginx`, ours: values.behind, other: byNginx, aim: behindAim },
    );
  }
  return { figures, notes: NOTES };
}
