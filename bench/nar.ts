import { startPipingServer } from "./bare-server.ts";
import type { Aim, Figure, PartResult } from "./figures.ts";
import { bytesPerSecond, requestsPerSecond } from "./load.ts";
import { interleave, type Side } from "./measure.ts";
import { makeProxyLog, startNginx, startProxy } from "./nginx.ts";
import { PINNING } from "./processes.ts";
import { type StaticFile, serveCache } from "./served-cache.ts";

const ROUNDS = 5;
const MEGA = 1_000_000;
const WRK_SECONDS = 2;
const NO_AIM: Aim = { none: "none set" };
const BEHIND_NGINX: Aim = { ratioMin: 0.95 };
const BY_NODE: Aim = { ratioMin: 0.75 };

/** `times` is how often curl loads it: a GB and more a measurement, so that curl's start does not count. */
const SIZES = {
  small: { what: "NARs of 4 KB, 32 connections", script: "head -c 4000 /dev/urandom > $out", times: null },
  middle: { what: "NARs of 1 MB", script: "head -c 1000000 /dev/urandom > $out", times: 1_200 },
  large: { what: "a NAR of 200 MB", script: "head -c 200000000 /dev/urandom > $out", times: 6 },
} as const;

const NOTES = [
  "`nar`: random bytes, so that the files are as large as the NARs; " +
    (PINNING ? "servers and client each on a CPU of their own. " : "servers and client share the only CPU. ") +
    `4 KB: \`wrk -t1 -c32\`, ${WRK_SECONDS} s. 1 MB and 200 MB: one curl, one connection, to /dev/null. Without a ` +
    "proxy the server hashes what it sends and cuts a body that does not match; `node pipe` is " +
    "`createReadStream(path).pipe(response)`, unchecked. Behind nginx, as the NixOS module configures it, the server " +
    "names the file, which counts for a second, and nginx sends it, as it sends the same files without a server: " +
    "with sendfile, unchecked.",
];

/** Bytes of NARs per second, in sizes that Nix users meet. */
export async function benchNar(settings: Readonly<Record<string, string>>): Promise<PartResult> {
  const scripts = Object.fromEntries(Object.entries(SIZES).map(([name, { script }]) => [name, script]));
  await using log = await makeProxyLog();
  await using cache = await serveCache(scripts, { ...settings, ...log.settings });
  const { folder, gradient } = cache;
  await using nginx = await startNginx(folder);
  await using proxy = await startProxy(`${folder}-proxy`, { url: gradient.url, storage: gradient.storage, log });
  await using pipe = await startPipingServer(
    Object.values(cache.files).map(({ nar: { url, path, headers } }) => ({ url, path, headers })),
  );
  const figures: Figure[] = [];
  for (const [name, { what, times }] of Object.entries(SIZES)) {
    const { nar } = cache.files[name] as (typeof cache.files)[string];
    const side = (origin: string) => megabytesPerSecond(origin, nar, times);
    const values = await interleave(ROUNDS, {
      ours: side(gradient.url),
      pipe: side(pipe.url),
      behind: side(proxy.url),
      nginx: side(nginx.url),
    });
    const figure = { part: "nar", unit: "MB/s", samples: ROUNDS };
    const byNginx = { name: "nginx", value: values.nginx };
    figures.push(
      {
        ...figure,
        what,
        ours: values.ours,
        other: { name: "node pipe", value: values.pipe },
        aim: times === null ? NO_AIM : BY_NODE,
      },
      {
        ...figure,
        what: `${what}, behind nginx`,
        ours: values.behind,
        other: byNginx,
        aim: times === null ? NO_AIM : BEHIND_NGINX,
      },
    );
  }
  return { figures, notes: NOTES };
}

function megabytesPerSecond(origin: string, nar: StaticFile, times: number | null): Side {
  const url = `${origin}${nar.url}`;
  const bytes = Number(nar.headers["content-length"]);
  return async () => {
    if (times !== null) return (await bytesPerSecond(url, { times, bytes })) / MEGA;
    const requests = await requestsPerSecond({ url, seconds: WRK_SECONDS, connections: 32, status: 200 });
    return (requests * bytes) / MEGA;
  };
}
