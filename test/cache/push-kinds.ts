import { zstdCompressSync } from "node:zlib";
import type { Bytes } from "#core/lib/bytes.ts";
import { formatHash } from "#core/nix/hash.ts";
import { type LocalPath, localPath, narInfoText, narName } from "./push-support.ts";
import { narHashOf, randomContent, type TestCache } from "./support.ts";

/** Sends one request to a server; it throws when the server is gone, and when it refuses. */
export type Send = (method: string, path: string, body?: Uint8Array | string | object) => Promise<Answer>;
/** The `message` of the envelope; empty for Nix's own requests. */
type Answer = Readonly<Record<string, unknown>>;

/** One way to push: what it brings, and how a client does it from wherever it stands. */
export interface PushKind {
  readonly name: string;
  readonly needsS3: boolean;
  /** Which of its effects are tried: every so many. */
  readonly effectsEvery: number;
  make(): Promise<readonly LocalPath[]>;
  push(send: Send, cache: TestCache, paths: readonly LocalPath[]): Promise<void>;
}

async function onePath(): Promise<readonly LocalPath[]> {
  return [await localPath("path", { content: randomContent(150_000) })];
}

async function closure(): Promise<readonly LocalPath[]> {
  const library = await localPath("library", { content: randomContent(100_000) });
  return [await localPath("program", { references: [library.storePath] }), library];
}

async function describe(path: LocalPath): Promise<{ readonly file: Bytes; readonly described: object }> {
  const file = new Uint8Array(zstdCompressSync(path.nar));
  const described = {
    store_path: path.storePath,
    nar_hash: formatHash(path.narHash, "nix32"),
    nar_size: path.nar.length,
    file_hash: formatHash(await narHashOf(file), "nix32"),
    file_size: file.length,
    references: path.references,
  };
  return { file, described };
}

async function form(path: LocalPath): Promise<FormData> {
  const { file, described } = await describe(path);
  const data = new FormData();
  data.append("narinfo", JSON.stringify(described));
  data.append("nar", new Blob([file]), "nar");
  return data;
}

export const PUSH_KINDS: readonly PushKind[] = [
  {
    name: "stock Nix",
    needsS3: false,
    effectsEvery: 1,
    make: onePath,
    async push(send, { name }, [path]) {
      const { nar, hash } = path as LocalPath;
      await send("PUT", `/cache/${name}/${await narName(nar)}`, nar);
      await send("PUT", `/cache/${name}/${hash}.narinfo`, await narInfoText(path as LocalPath));
    },
  },
  {
    name: "one request",
    needsS3: false,
    effectsEvery: 1,
    make: onePath,
    async push(send, { name }, [path]) {
      await send("POST", `/api/v1/caches/${name}/nars`, await form(path as LocalPath));
    },
  },
  {
    name: "parts",
    needsS3: false,
    // The first part has an odd number of them: what is passed over there is tried with the second one.
    effectsEvery: 2,
    make: onePath,
    async push(send, { name }, [path]) {
      const base = `/api/v1/caches/${name}/nars/${(path as LocalPath).hash}`;
      const { file, described } = await describe(path as LocalPath);
      const { received } = await send("GET", `${base}/chunk`);
      for (let offset = Number(received); offset < file.length; offset += 100_000) {
        await send("PUT", `${base}/chunk?offset=${offset}`, file.slice(offset, offset + 100_000));
      }
      await send("POST", `${base}/finalize`, described);
    },
  },
  {
    name: "a closure",
    needsS3: false,
    effectsEvery: 1,
    make: closure,
    async push(send, { name }, paths) {
      const described = await Promise.all(paths.map(async (path) => (await describe(path)).described));
      const { known_nars: known, missing } = await send("POST", `/api/v1/caches/${name}/nars/missing`, {
        paths: described,
      });
      for (const path of paths) {
        if (!(missing as string[]).includes(path.storePath) || (known as string[]).includes(path.storePath)) continue;
        await send("POST", `/api/v1/caches/${name}/nars?commit=later`, await form(path));
      }
      await send("POST", `/api/v1/caches/${name}/closures`, { paths: described });
    },
  },
  {
    name: "the storage itself",
    needsS3: true,
    effectsEvery: 1,
    make: onePath,
    async push(send, { name }, [path]) {
      const base = `/api/v1/caches/${name}/nars/${(path as LocalPath).hash}/presigned`;
      const { file, described } = await describe(path as LocalPath);
      const begun = await send("POST", base, { file_size: file.length });
      const parts = [];
      let start = 0;
      for (const { number, size, url } of begun.parts as { number: number; size: number; url: string }[]) {
        const put = await fetch(url, { method: "PUT", body: file.slice(start, start + size) });
        parts.push({ number, etag: put.headers.get("etag") });
        start += size;
      }
      await send("POST", `${base}/complete`, { path: described, parts });
    },
  },
];
