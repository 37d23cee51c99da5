import type { Aim, Figure, PartResult } from "./figures.ts";
import { bytesPerSecond, requestsPerSecond } from "./load.ts";
import { interleave, type Side } from "./measure.ts";
import { startNginx } from "./nginx.ts";
import { PINNING } from "./processes.ts";
import { type StaticFile, serveCache } from "./served-cache.ts";

const ROUNDS = 5;
const MEGA = 1_000_000;
const WRK_SECONDS = 2;
const NO_AIM: Aim = { none: "none set" };

/** `times` is how often curl loads it: 300 MB and more a measurement, so that curl's start does not count. */
const SIZES = {
  small: { what: "NARs of 4 KB, 32 connections", script: "head -c 4000 /dev/urandom > $out", times: null },
  middle: { what: "NARs of 1 MB", script: "head -c 1000000 /dev/urandom > $out", times: 400 },
  large: { what: "a NAR of 200 MB", script: "head -c 200000000 /dev/urandom > $out", times: 3 },
} as const;

const NOTES = [
  "`nar`: random bytes, so that the files are as large as the NARs; " +
    (PINNING ? "server and client each on a CPU of their own. " : "server and client share the only CPU. ") +
    `4 KB: \`wrk -t1 -c32\`, ${WRK_SECONDS} s. 1 MB and 200 MB: one curl, one connection, to /dev/null. The server ` +
    "hashes what it sends and cuts a body that does not match; nginx serves the same files with sendfile, unchecked.",
];

/** Bytes of NARs per second, in sizes that Nix users meet. */
export async function benchNar(settings: Readonly<Record<string, string>>): Promise<PartResult> {
  const scripts = Object.fromEntries(Object.entries(SIZES).map(([name, { script }]) => [name, script]));
  await using cache = await serveCache(scripts, settings);
  await using nginx = await startNginx(cache.folder);
  const figures: Figure[] = [];
  for (const [name, { what, times }] of Object.entries(SIZES)) {
    const { nar } = cache.files[name] as (typeof cache.files)[string];
    const values = await interleave(ROUNDS, {
      ours: megabytesPerSecond(cache.gradient.url, nar, times),
      nginx: megabytesPerSecond(nginx.url, nar, times),
    });
    const other = { name: "nginx", value: values.nginx };
    figures.push({ part: "nar", what, unit: "MB/s", ours: values.ours, other, aim: NO_AIM, samples: ROUNDS });
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
