import { link, mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { CACHE, type Gradient, withGradient } from "#test/e2e/gradient.ts";
import { makeFilesFlake } from "./flakes.ts";
import { STORAGE_LOCATION } from "./nginx.ts";
import { pinServer } from "./processes.ts";
import { makeRepository } from "./repository.ts";

/** An answer of the cache, for servers that are to answer the same. */
export interface StaticFile {
  /** Absolute, without the origin. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Below `folder`, where its place is that of the URL. */
  readonly path: string;
}

/** An installation whose cache holds what was built, and the same files in a folder. */
export interface ServedCache extends AsyncDisposable {
  readonly gradient: Gradient;
  readonly folder: string;
  /** The narinfo and the NAR of each package. */
  readonly files: Readonly<Record<string, { readonly narinfo: StaticFile; readonly nar: StaticFile }>>;
}

const EVALUATION_MS_MAX = 300_000;
const KEPT_HEADERS = ["content-type", "etag", "cache-control", "content-length"];

/** Builds the packages by CI; the server then stays on the servers' CPU, and the worker is ended. */
export async function serveCache(
  scripts: Readonly<Record<string, string>>,
  settings: Readonly<Record<string, string>>,
): Promise<ServedCache> {
  await using started = new AsyncDisposableStack();
  const gradient = started.use(await withGradient(settings));
  const repository = await makeRepository(gradient, "served", makeFilesFlake(scripts));
  const evaluation = await gradient.api.waitForEnd(await gradient.api.evaluate(repository.project), EVALUATION_MS_MAX);
  if (evaluation.status !== "Completed") throw new Error(`the cache was not filled: ${JSON.stringify(evaluation)}`);
  await gradient.worker.stop();

  const folder = join(gradient.folder, "static");
  const outputs = Object.entries(await repository.outputs(gradient.daemon.env));
  const files: Record<string, { narinfo: StaticFile; nar: StaticFile }> = {};
  for (const [name, path] of outputs) {
    const hash = path.slice("/nix/store/".length).split("-", 1)[0];
    const narinfo = await keep(gradient.url, folder, `/cache/${CACHE}/${hash}.narinfo`);
    const location = /^URL: (.*)$/m.exec(new TextDecoder().decode(narinfo.body))?.[1];
    const nar = await keep(gradient.url, folder, `/cache/${CACHE}/${location}`, gradient.storage);
    files[name] = { narinfo, nar };
  }
  await pinServer(gradient.server.pid);
  const running = started.move();
  return { gradient, folder, files, [Symbol.asyncDispose]: () => running.disposeAsync() };
}

/** With `storage` the file is the server's own where it names it to a proxy: two files lie differently in memory. */
async function keep(
  origin: string,
  folder: string,
  url: string,
  storage?: string,
): Promise<StaticFile & { readonly body: Uint8Array }> {
  const response = await fetch(`${origin}${url}`);
  if (!response.ok) throw new Error(`${url} is answered ${response.status}`);
  const body = new Uint8Array(await response.arrayBuffer());
  const path = join(folder, url);
  await mkdir(dirname(path), { recursive: true });
  const stored = storage === undefined ? null : await storedFile(`${origin}${url}`, storage);
  await (stored === null ? writeFile(path, body) : link(stored, path));
  const headers = KEPT_HEADERS.flatMap((name) => {
    const value = response.headers.get(name);
    return value === null ? [] : [[name, value] as const];
  });
  return { url, path, body, headers: Object.fromEntries(headers) };
}

async function storedFile(url: string, storage: string): Promise<string | null> {
  const { headers } = await fetch(url, { headers: { "x-sendfile-type": "X-Accel-Redirect" } });
  const place = headers.get("x-accel-redirect");
  return place && join(storage, place.slice(STORAGE_LOCATION.length));
}
