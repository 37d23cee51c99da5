import { join } from "node:path";
import { type NixRun, nixOutput, runNix } from "../support/nix.ts";
import { CACHE, type Gradient, publicKey } from "./gradient.ts";

/** Stock Nix with a store of its own, empty at first, that takes everything from the cache. */
export class CacheClient {
  readonly #gradient: Gradient;
  /** The root of the store's files. */
  readonly store: string;

  constructor(gradient: Gradient, storeName: string) {
    this.#gradient = gradient;
    this.store = join(gradient.daemon.folder, storeName);
  }

  /** Copies the closure of a path. Without a key no signature is trusted. Never throws for Nix's exit code. */
  async copy(path: string, key?: string): Promise<NixRun> {
    const places = ["--from", `${this.#gradient.url}/cache/${CACHE}`, "--to", this.store];
    const once = ["--option", "download-attempts", "1"];
    return await runNix(["nix", "copy", ...places, path, ...once, ...trust(key)], this.#env);
  }

  /** Copies the closure of a path and verifies contents and signatures of it. Throws with what Nix says. */
  async copyAndVerify(path: string): Promise<void> {
    const key = await publicKey(this.#gradient.api);
    const { code, stderr } = await this.copy(path, key);
    if (code !== 0) throw new Error(`nix copy of ${path} ended with ${code}: ${stderr}`);
    await nixOutput(["nix", "store", "verify", "--store", this.store, "-r", path, ...trust(key)], this.#env);
  }

  get #env(): Readonly<Record<string, string>> {
    return { ...this.#gradient.daemon.env, NIX_REMOTE: "" };
  }
}

/** The cache's answer for the narinfo of a store path. */
export async function fetchNarInfo({ url }: Gradient, storePath: string): Promise<Response> {
  const hash = storePath.slice("/nix/store/".length).slice(0, 32);
  return await fetch(`${url}/cache/${CACHE}/${hash}.narinfo`);
}

function trust(key?: string): readonly string[] {
  return key === undefined ? [] : ["--option", "trusted-public-keys", key];
}
