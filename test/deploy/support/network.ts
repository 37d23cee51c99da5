import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";

/** An answer that does not come from the server. */
export interface OtherAnswer {
  readonly status: number;
  readonly body: string;
}

/** What lies between a host and the server. */
export interface Network extends AsyncDisposable {
  readonly url: string;
  /** "METHOD /path?query" of every request that came, in order. */
  readonly seen: string[];
  /** While this file exists nothing passes: a switch script can break the network with it. */
  downFile: string | null;
  /** Asked for each request; what is not null is answered in the server's place. */
  answer: (line: string) => OtherAnswer | null;
  /** Told each request before it is passed on, and once more when it has been answered. */
  watch: (line: string, ended: boolean) => void;
  /** Changes the server's answers; told the request's line and the whole body. */
  rewrite: ((line: string, body: string) => string) | null;
  /** What all answers together may bring in a second; null: as much as comes. */
  bytesPerSecond: number | null;
  /** Cuts every connection and lets nothing through until `mend`. */
  cut(): void;
  mend(): void;
}

/** Timers are no finer. */
const PAUSE_MS_MIN = 2;
const REWRITTEN = /\/hosts\/[^/]+\/wanted/;

/** Passes on what comes to the server that `target` names, which may be started later. */
export async function withNetwork(target: () => string): Promise<Network> {
  let down = false;
  let busyUntil = 0;
  /** Each piece takes its time of the one line, whichever connection it is of. */
  const slow = async (bytes: number): Promise<void> => {
    if (network.bytesPerSecond === null) return;
    const now = performance.now();
    busyUntil = Math.max(now, busyUntil) + (1_000 * bytes) / network.bytesPerSecond;
    if (busyUntil - now > PAUSE_MS_MIN) await sleep(busyUntil - now);
  };
  const server = createServer((incoming, outgoing) => {
    const line = `${incoming.method} ${incoming.url}`;
    if (down || (network.downFile !== null && existsSync(network.downFile))) return void incoming.socket.destroy();
    network.seen.push(line);
    network.watch(line, false);
    outgoing.once("finish", () => network.watch(line, true));
    const other = network.answer(line);
    if (other) {
      incoming.resume();
      outgoing.writeHead(other.status, { "content-type": "application/json" }).end(other.body);
      return;
    }
    const { rewrite } = network;
    const change = rewrite && REWRITTEN.test(line) ? (body: string) => rewrite(line, body) : null;
    void passOn(incoming, outgoing, { target: target(), change, slow }).catch(() => outgoing.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const network: Network = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen: [],
    downFile: null,
    answer: () => null,
    watch: () => {},
    rewrite: null,
    bytesPerSecond: null,
    cut() {
      down = true;
      server.closeAllConnections();
    },
    mend() {
      down = false;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return network;
}

interface Way {
  readonly target: string;
  readonly change: ((body: string) => string) | null;
  readonly slow: (bytes: number) => Promise<void>;
}

async function passOn(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  { target, change, slow }: Way,
): Promise<void> {
  const { method = "GET", headers, url = "/" } = incoming;
  // What is changed on the way has to be text.
  const asked = change ? { ...headers, "accept-encoding": "identity" } : headers;
  const forwarded = request(new URL(url, target), { method, headers: asked });
  outgoing.once("close", () => forwarded.destroy());
  const [, [answer]] = await Promise.all([pipeline(incoming, forwarded), once(forwarded, "response")]);
  const response = answer as IncomingMessage;
  if (change === null) {
    outgoing.writeHead(response.statusCode ?? 502, response.headers);
    const pieces = async function* () {
      for await (const piece of response as AsyncIterable<Buffer>) {
        await slow(piece.length);
        yield piece;
      }
    };
    return await pipeline(pieces, outgoing);
  }
  let text = "";
  for await (const part of response.setEncoding("utf8")) text += part;
  const body = change(text);
  const type = response.headers["content-type"] ?? "application/json";
  outgoing.writeHead(response.statusCode ?? 502, { "content-type": type }).end(body);
}
