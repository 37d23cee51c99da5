import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CACHE, withGradient } from "#test/e2e/gradient.ts";
import { nixOutput } from "#test/support/nix.ts";
import { type BareAnswer, startBareServer } from "./bare-server.ts";
import type { Aim, Figure, PartResult } from "./figures.ts";
import { makeFilesFlake } from "./flakes.ts";
import { interleave, type Side, timed } from "./measure.ts";
import { withMemoryFolder } from "./memory-folder.ts";
import { makeProxyLog, startNginx, startProxy } from "./nginx.ts";
import { makeRepository } from "./repository.ts";

const PATHS = 300;
const ROUNDS = 15;
/** Longer than narinfos and NARs are remembered; that a file was proven is remembered for an hour. */
const FORGOTTEN_MS = 61_000;
const ROUNDS_FORGOTTEN = 3;
const NO_AIM: Aim = { none: "none set" };
const EVALUATION_MS_MAX = 300_000;
/** From 100 bytes to 1 MB, as packages are: many small ones and a few large. */
const BYTES = [100, 1_000, 1_000, 4_000, 4_000, 10_000, 30_000, 100_000, 300_000, 1_000_000];

const NOTES = [
  `\`copy\`: \`nix copy --from\` of ${PATHS} outputs of 100 bytes to 1 MB (random bytes) into an empty store in ` +
    "memory, without checking signatures, beside a cache that `nix copy --to 'file://…?compression=zstd'` has made " +
    "of the same outputs, served by nginx, and by a bare server of Node that has all of it in memory. nginx and that " +
    "server stay on one CPU, nothing else is pinned. The first in a minute: after a minute without any " +
    "copy the server has narinfos and NARs no more in memory and asks the database and the disk for each; nginx has " +
    "waited as long. The aims are of the others.",
];

/** How long stock Nix takes to fetch many paths. */
export async function benchCopy(settings: Readonly<Record<string, string>>): Promise<PartResult> {
  await using log = await makeProxyLog();
  await using gradient = await withGradient({ ...settings, ...log.settings });
  const scripts = Array.from({ length: PATHS }, (_, i) => `head -c ${BYTES[i % BYTES.length]} /dev/urandom > $out`);
  const flake = makeFilesFlake(Object.fromEntries(scripts.map((script, i) => [`file-${i}`, script])));
  const repository = await makeRepository(gradient, "copied", flake);
  const evaluation = await gradient.api.waitForEnd(await gradient.api.evaluate(repository.project), EVALUATION_MS_MAX);
  if (evaluation.status !== "Completed") throw new Error(`the cache was not filled: ${JSON.stringify(evaluation)}`);
  const { env } = gradient.daemon;
  const outputs = Object.values(await repository.outputs(env));
  await gradient.worker.stop();
  const files = join(gradient.folder, "files");
  await nixOutput(["nix", "copy", "--to", `file://${files}?compression=zstd`, ...outputs], env);
  await using nginx = await startNginx(files);
  await using bare = await startBareServer(await answersOf(files));
  await using proxy = await startProxy(`${files}-proxy`, { url: gradient.url, storage: gradient.storage, log });

  const from =
    (url: string): Side =>
    async () => {
      await using client = await withMemoryFolder();
      const store = join(client.path, "store");
      const flags = ["--no-check-sigs", "--option", "substituters", "", "--from", url, "--to", store];
      const variables = { ...env, NIX_REMOTE: "", HOME: client.path, XDG_CACHE_HOME: client.path };
      const ms = await timed(() => nixOutput(["nix", "copy", ...flags, ...outputs], variables));
      await nixOutput(["chmod", "-R", "u+w", store], {});
      return ms;
    };
  const sides = {
    ours: from(`${gradient.url}/cache/${CACHE}`),
    behind: from(`${proxy.url}/cache/${CACHE}`),
    nginx: from(nginx.url),
    bare: from(bare.url),
  };
  const values = await interleave(ROUNDS, sides);
  const forgotten = (side: Side): Side => {
    return async (round) => {
      await sleep(FORGOTTEN_MS);
      return await side(round);
    };
  };
  // Either makes the server remember.
  const first = await interleave(ROUNDS_FORGOTTEN, {
    ours: forgotten(sides.ours),
    behind: forgotten(sides.behind),
    nginx: forgotten(sides.nginx),
  });
  const figures = [
    ...figuresOf("", values, { aim: { ratioMax: 1.1 }, samples: ROUNDS }),
    {
      part: "copy",
      unit: "ms",
      aim: NO_AIM,
      samples: ROUNDS,
      what: `nix copy --from of ${PATHS} paths`,
      ours: values.ours,
      other: { name: "file cache on node:http, in memory", value: values.bare },
    },
    ...figuresOf(", the first in a minute", first, { aim: NO_AIM, samples: ROUNDS_FORGOTTEN }),
  ];
  return { figures, notes: NOTES };
}

/** The files of a file cache, as a bare server of Node would send them. */
async function answersOf(folder: string): Promise<BareAnswer[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
  return await Promise.all(
    files.map(async (path) => ({
      url: path.slice(folder.length),
      headers: { "content-type": "application/octet-stream", "content-length": String((await stat(path)).size) },
      body: { path },
    })),
  );
}

type Values = Readonly<Record<"ours" | "behind" | "nginx", number>>;

function figuresOf(
  when: string,
  { ours, behind, nginx }: Values,
  { aim, samples }: { readonly aim: Aim; readonly samples: number },
): Figure[] {
  const figure = { part: "copy", unit: "ms", other: { name: "file cache on nginx", value: nginx }, aim, samples };
  return [
    { ...figure, what: `nix copy --from of ${PATHS} paths${when}`, ours },
    { ...figure, what: `nix copy --from of ${PATHS} paths, behind nginx${when}`, ours: behind },
  ];
}
