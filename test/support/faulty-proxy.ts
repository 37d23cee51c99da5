import { once } from "node:events";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { pipeline } from "node:stream/promises";

/** What happens to one request; `null` passes it on. */
export type Fault =
  /** Answered so, and the server behind never hears of it. */
  | { readonly status: number }
  /** The server behind acts, and its answer is lost. */
  | { readonly lose: true }
  /** Nothing comes at all. */
  | { readonly silent: true }
  /** The answer's body breaks off after so many bytes. */
  | { readonly truncateAt: number }
  /** The answer's body stops after so many bytes, and the connection stays. */
  | { readonly stallAt: number }
  /** One bit of the byte at this place is another. */
  | { readonly flipAt: number }
  /** The answer says that its body is longer by so much. */
  | { readonly lengthen: number };

export interface FaultyProxy extends AsyncDisposable {
  readonly url: string;
  /** "METHOD /path?query" of every request, in order. */
  readonly seen: string[];
  /** Asked for every request. */
  fault: (request: string) => Fault | null;
}

/** Stands before an HTTP server and makes of its answers what a bad network or a failing server would. */
export async function withFaultyProxy(target: string): Promise<FaultyProxy> {
  const server = createServer((incoming, outgoing) => {
    const line = `${incoming.method} ${incoming.url}`;
    proxy.seen.push(line);
    void handle(incoming, outgoing, { target, fault: proxy.fault(line) }).catch(() => outgoing.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const proxy: FaultyProxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen: [],
    fault: () => null,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return proxy;
}

async function handle(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  { target, fault }: { readonly target: string; readonly fault: Fault | null },
): Promise<void> {
  if (fault && "silent" in fault) return void incoming.resume();
  if (fault && "status" in fault) {
    incoming.resume();
    await once(incoming, "end");
    return void outgoing.writeHead(fault.status, { "content-length": 0 }).end();
  }
  const { method = "GET", headers, url = "/" } = incoming;
  const forwarded = request(new URL(url, target), { method, headers });
  // The sender may give up, and the server behind must not wait for the rest then.
  incoming.once("close", () => incoming.complete || forwarded.destroy());
  const [, [answer]] = await Promise.all([pipeline(incoming, forwarded), once(forwarded, "response")]);
  const response = answer as IncomingMessage;
  if (fault && "lose" in fault) {
    response.resume();
    await once(response, "end");
    return void outgoing.destroy();
  }
  outgoing.writeHead(response.statusCode ?? 502, changedHeaders(response, fault));
  await pipeline(changedBody(response, fault), outgoing);
}

function changedHeaders({ headers }: IncomingMessage, fault: Fault | null): IncomingMessage["headers"] {
  if (!fault || !("lengthen" in fault)) return headers;
  return { ...headers, "content-length": String(Number(headers["content-length"]) + fault.lengthen) };
}

async function* changedBody(response: IncomingMessage, fault: Fault | null): AsyncGenerator<Uint8Array> {
  let position = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    const at = fault === null ? -1 : "flipAt" in fault ? fault.flipAt : endOf(fault);
    const index = at - position;
    position += chunk.length;
    if (at < 0 || index < 0 || index >= chunk.length) {
      yield chunk;
    } else if (fault && "flipAt" in fault) {
      chunk[index] = (chunk[index] as number) ^ 1;
      yield chunk;
    } else {
      yield chunk.subarray(0, index);
      if (fault && "stallAt" in fault) await once(response, "close");
      throw new Error("the body ends here");
    }
  }
}

function endOf(fault: Fault): number {
  if ("truncateAt" in fault) return fault.truncateAt;
  return "stallAt" in fault ? fault.stallAt : -1;
}
