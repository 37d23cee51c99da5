import { lookup as lookUpName } from "node:dns/promises";
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { isIP, type LookupFunction } from "node:net";
import { type IpNetwork, parseIpNetwork } from "#core/domain/ip-address.ts";
import { mayConnectTo, type OutboundRules } from "#core/domain/outbound-address.ts";
import {
  type FormSender,
  type JsonSender,
  type Outbound,
  type OutboundAnswer,
  OutboundError,
  type OutboundOptions,
} from "#core/ports/outbound.ts";
import { outboundBody } from "./outbound-body.ts";
import { VERSION } from "./version.ts";

/** Of a GET; what was sent goes nowhere else. */
const REDIRECTS_MAX = 5;
const REDIRECTS: readonly (number | undefined)[] = [301, 302, 303, 307, 308];
/** Connections to one host that wait for the next request. */
const IDLE_CONNECTIONS_MAX = 32;
const UNREACHABLE = ["ENOTFOUND", "EAI_AGAIN", "EAI_FAIL", "ENODATA", "ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH"];
const HEADERS = { "user-agent": `gradient/${VERSION}` };
const FORM = "application/x-www-form-urlencoded;charset=UTF-8";
const JSON_TYPE = "application/json";
const ANYWHERE: OutboundRules = { allowed: [network("0.0.0.0/0"), network("::/0")], privateAllowed: true };

export interface RunningOutbound extends Outbound, FormSender, JsonSender {
  /** Lets go of connections that wait. */
  close(): void;
}

/**
 * Requests by Node's own client. The address is checked where the connection is opened: no name can change after.
 * `ownHost` is a host that the operator wrote down and nobody else can: it may be any address, this machine's too.
 */
export function createOutbound(
  rules: OutboundRules,
  { ownHost = null }: { readonly ownHost?: string | null } = {},
): RunningOutbound {
  const rulesOf = (hostname: string) => (hostname === ownHost ? ANYWHERE : rules);
  const lookups = { checked: checkedLookup(rules), own: checkedLookup(ANYWHERE) };
  const lookup: LookupFunction = (name, options, callback) =>
    (name === ownHost ? lookups.own : lookups.checked)(name, options, callback);
  const options = { keepAlive: true, maxFreeSockets: IDLE_CONNECTIONS_MAX, lookup };
  const agents = { "http:": new HttpAgent(options), "https:": new HttpsAgent(options) };
  const send: Send = (url, { signal, more, content, onConnected }) => {
    refuseForbidden(url, rulesOf(url.hostname));
    const headers = { ...HEADERS, ...more, ...(content && { "content-type": content.type }) };
    const method = content ? "POST" : "GET";
    return new Promise((resolve, reject) => {
      const request =
        url.protocol === "https:"
          ? httpsRequest(url, { method, agent: agents["https:"], headers, signal })
          : httpRequest(url, { method, agent: agents["http:"], headers, signal });
      request.once("response", resolve).once("error", reject);
      request.once("socket", (socket) => {
        if (socket.connecting) socket.once("connect", onConnected);
        else onConnected();
      });
      request.end(content?.text);
    });
  };
  return {
    get: async (url, getOptions) => await ask(send, parse(url), null, getOptions),
    postForm: async (url, text, postOptions) => await ask(send, parse(url), { type: FORM, text }, postOptions),
    postJson: async (url, text, postOptions) => await ask(send, parse(url), { type: JSON_TYPE, text }, postOptions),
    close() {
      for (const agent of Object.values(agents)) agent.destroy();
    },
  };
}

interface Content {
  readonly type: string;
  readonly text: string;
}

interface Sending {
  readonly signal: AbortSignal;
  readonly more: Readonly<Record<string, string>>;
  /** Null: nothing is sent. */
  readonly content: Content | null;
  readonly onConnected: () => void;
}

type Send = (url: URL, sending: Sending) => Promise<IncomingMessage>;

async function ask(send: Send, first: URL, content: Content | null, options: OutboundOptions): Promise<OutboundAnswer> {
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(), options.timeoutMs);
  let connected = false;
  const onConnected = () => {
    connected = true;
  };
  const signal = options.signal ? AbortSignal.any([options.signal, timeout.signal]) : timeout.signal;
  try {
    let url = first;
    for (let redirects = 0; ; redirects++) {
      const more = {
        "accept-encoding": [...(options.codings ?? []), "identity"].join(", "),
        ...(url.origin === first.origin && options.headers),
      };
      const response = await send(url, { signal, more, content, onConnected });
      if (content || !REDIRECTS.includes(response.statusCode)) return answerOf(response, url, options);
      response.destroy();
      if (redirects === REDIRECTS_MAX) {
        throw new OutboundError("broken", `${first.host} redirects more than ${REDIRECTS_MAX} times`);
      }
      url = redirectOf(response, url);
    }
  } catch (error) {
    const [timedOut, aborted] = [timeout.signal.aborted, options.signal?.aborted === true];
    throw asOutboundError(error, first, { timedOut, aborted, connected });
  } finally {
    clearTimeout(timer);
  }
}

function answerOf(response: IncomingMessage, url: URL, options: OutboundOptions): OutboundAnswer {
  const coding = response.headers["content-encoding"]?.toLowerCase() ?? "identity";
  if (coding !== "identity" && !options.codings?.includes(coding)) {
    response.destroy();
    throw new OutboundError("broken", `${url.host} sends its answer encoded as ${coding}, which was not asked for`);
  }
  const length = response.headers["content-length"];
  const size = length !== undefined && /^\d{1,15}$/.test(length) ? Number(length) : null;
  if (size !== null && size > options.bytesMax) {
    response.destroy();
    throw new OutboundError("too_large", `${url.host} sends ${size} bytes, more than the ${options.bytesMax} expected`);
  }
  return {
    status: response.statusCode ?? 0,
    size,
    coding,
    body: outboundBody(response, url.host, options),
    discard: () => response.destroy(),
  };
}

function redirectOf(response: IncomingMessage, from: URL): URL {
  const { location } = response.headers;
  const to = location !== undefined && URL.canParse(location, from.href) ? new URL(location, from.href) : null;
  if (!to) throw new OutboundError("broken", `${from.host} redirects to no address`);
  if (to.protocol !== from.protocol) {
    throw new OutboundError("refused", `${from.host} redirects from ${from.protocol} to ${to.protocol}`);
  }
  return to;
}

function network(text: string): IpNetwork {
  return parseIpNetwork(text) as IpNetwork;
}

function parse(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url && /^https?:$/.test(url.protocol)) return url;
  throw new OutboundError("refused", "the address is not one of http or https");
}

/** A host that is written as an address is never looked up. Throws `OutboundError` for one that is not allowed. */
export function refuseForbidden({ host, hostname }: URL, rules: OutboundRules): void {
  const address = hostname.replace(/^\[|\]$/g, "");
  if (isIP(address) !== 0 && !mayConnectTo(address, rules)) throw forbidden(host, [address]);
}

/** Names lead only to addresses that may be reached. One look-up a name at a time: they share few threads. */
export function checkedLookup(rules: OutboundRules): LookupFunction {
  const running = new Map<string, Promise<{ address: string; family: number }[]>>();
  const resolve = (name: string) => {
    const known = running.get(name);
    if (known) return known;
    const found = lookUpName(name, { all: true }).finally(() => running.delete(name));
    running.set(name, found);
    return found;
  };
  return (name, options, callback) => {
    resolve(name).then(
      (all) => {
        const wanted = all.filter(({ family }) => !options.family || options.family === family);
        const allowed = wanted.filter(({ address }) => mayConnectTo(address, rules));
        const [first] = allowed;
        if (!first)
          return callback(
            forbidden(
              name,
              wanted.map(({ address }) => address),
            ),
            "",
          );
        if (options.all) return callback(null, allowed);
        callback(null, first.address, first.family);
      },
      (error: NodeJS.ErrnoException) => callback(error, ""),
    );
  };
}

function forbidden(host: string, addresses: readonly string[]): OutboundError {
  const shown = addresses.slice(0, 4).join(", ");
  const advice = "this server connects there only when GRADIENT_OUTBOUND_ALLOW lists it";
  return new OutboundError("refused", `${host} is the local or reserved address ${shown}: ${advice}`);
}

function asOutboundError(
  error: unknown,
  { host }: URL,
  ended: { readonly timedOut: boolean; readonly aborted: boolean; readonly connected: boolean },
): OutboundError {
  if (ended.aborted) return new OutboundError("aborted", `the request to ${host} was given up`);
  if (error instanceof OutboundError) return error;
  if (ended.timedOut && !ended.connected) {
    return new OutboundError("unreachable", `${host} cannot be reached: no connection in time`, { cause: error });
  }
  if (ended.timedOut) return new OutboundError("timeout", `${host} did not answer in time`, { cause: error });
  const { code, message } = error as NodeJS.ErrnoException;
  if (code !== undefined && UNREACHABLE.includes(code)) {
    return new OutboundError("unreachable", `${host} cannot be reached: ${message || code}`, { cause: error });
  }
  return new OutboundError("broken", `the request to ${host} failed: ${message || code}`, { cause: error });
}
