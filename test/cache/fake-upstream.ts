import { generateKeyPairSync, sign } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type Bytes, toBase64 } from "#core/lib/bytes.ts";
import { printNarInfo } from "#core/nix/narinfo.ts";
import { fingerprint } from "#core/nix/signature.ts";
import { storePathHash } from "#core/nix/store-path.ts";
import { fileNar, randomContent, type StoredPath } from "./support.ts";

/** A path with the bytes of its NAR. */
export interface Offered extends StoredPath {
  readonly bytes: Bytes;
}

export interface UpstreamFile {
  readonly narInfo: string;
  readonly nar: Bytes;
  readonly status: number;
  readonly flip: boolean;
  readonly cut: boolean;
  readonly other: boolean;
}

export interface FakeUpstream extends AsyncDisposable {
  readonly url: string;
  readonly publicKey: string;
  readonly files: Map<string, UpstreamFile>;
  add(path: Offered, fault?: Partial<UpstreamFile>): Promise<void>;
}

/** A plain cache that a test fills, signed by a key of its own, with files that are not compressed. */
export async function withFakeUpstream(): Promise<FakeUpstream> {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const raw = new Uint8Array(publicKey.export({ type: "spki", format: "der" }).subarray(-32));
  const files = new Map<string, UpstreamFile>();
  const answer = (request: IncomingMessage, response: ServerResponse) => {
    const [, name = ""] = /^\/(?:nar\/)?([^.]+)/.exec(request.url ?? "") ?? [];
    const file = files.get(name);
    if (!file) return void response.writeHead(404).end();
    if (request.url?.endsWith(".narinfo")) return void response.end(file.narInfo);
    if (file.status !== 200) return void response.writeHead(file.status).end();
    const body = file.nar.slice();
    if (file.flip) body[body.length - 300] = (body[body.length - 300] as number) ^ 1;
    response.writeHead(200, { "content-length": body.length });
    if (!file.cut) return void response.end(body);
    response.write(body.subarray(0, body.length / 2));
    setTimeout(() => response.destroy(), 10);
  };
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    publicKey: `upstream-1:${toBase64(raw)}`,
    files,
    async add(path, fault = {}) {
      const nar = fault.other ? await fileNar(randomContent(1_000)) : path.bytes;
      const hash = await crypto.subtle.digest("SHA-256", nar);
      const narHash = { algorithm: "sha256", digest: new Uint8Array(hash) } as const;
      const signed = { storePath: path.storePath, narHash, narSize: nar.length, references: path.references };
      const signature = sign(null, Buffer.from(fingerprint(signed)), privateKey).toString("base64");
      const name = storePathHash(path.storePath);
      const file = { fileHash: null, fileSize: null, compression: "none", url: `nar/${name}.nar` };
      const info = { ...signed, ...file, deriver: null, ca: null, signatures: [`upstream-1:${signature}`] };
      files.set(name, {
        narInfo: printNarInfo(info),
        nar,
        status: 200,
        flip: false,
        cut: false,
        other: false,
        ...fault,
      });
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
