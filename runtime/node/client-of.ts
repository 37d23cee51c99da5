import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { IpNetwork } from "#core/domain/ip-address.ts";
import { type ClientAddress, findClient } from "#core/http/client-address.ts";

const FORWARDED_FOR = "x-forwarded-for";
/** Some hundred kilobytes. */
const REMEMBERED_MAX = 2_000;
/** Longer than a client behind two proxies. */
const REMEMBERED_LENGTH_MAX = 150;

/**
 * The other end of a connection. One that was reset has none any more, though its request is being answered: it is
 * nobody's, and above all not this machine's, which is trusted.
 */
export function peerAddress(socket: Pick<Socket, "remoteAddress"> | undefined): string {
  return socket?.remoteAddress ?? "0.0.0.0";
}

/** Finds a request's client. What it knows of a connection it remembers: the hot path asks for each request. */
export function createClientFinder(trustedProxies: readonly IpNetwork[]): (request: IncomingMessage) => ClientAddress {
  const peers = new WeakMap<Socket, ClientAddress>();
  /** By what trusted proxies say. */
  const clients = new Map<string, ClientAddress>();
  const forwardedBy = (proxy: string, forwarded: string): ClientAddress => {
    const key = `${proxy} ${forwarded}`;
    const known = clients.get(key);
    if (known) return known;
    const client = findClient(proxy, forwarded, trustedProxies);
    if (clients.size >= REMEMBERED_MAX) clients.clear();
    if (key.length <= REMEMBERED_LENGTH_MAX) clients.set(key, client);
    return client;
  };
  return ({ socket, rawHeaders }) => {
    let peer = peers.get(socket);
    if (!peer) {
      peer = findClient(peerAddress(socket), null, trustedProxies);
      peers.set(socket, peer);
    }
    const forwarded = peer.trusted ? rawHeaderValues(rawHeaders, FORWARDED_FOR) : [];
    // Several lines are one list (RFC 9110 section 5.3); the last is the nearest proxy's.
    return forwarded.length === 0 ? peer : forwardedBy(peer.address, forwarded.join(","));
  };
}

/** Of a header in its lines' order; making `request.headers` would cost more than the answer's look-ups. */
export function rawHeaderValues(rawHeaders: readonly string[], name: string): string[] {
  const values: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const key = rawHeaders[i] as string;
    if (key.length === name.length && key.toLowerCase() === name) values.push(rawHeaders[i + 1] as string);
  }
  return values;
}
