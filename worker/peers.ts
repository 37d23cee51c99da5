import { open } from "node:fs/promises";
import { fromBase64 } from "#core/lib/bytes.ts";
import { isUuid } from "#core/lib/ids.ts";

/** Where the tokens are. The file wins. */
export interface PeersSource {
  readonly file: string | null;
  /** The lines themselves. */
  readonly text: string | null;
}

/** The worker's tokens, by the id of the peer (an organization) that issued them. */
export interface Peers {
  readonly tokens: ReadonlyMap<string, string>;
  /** The answer to any challenge that has no token of its own. */
  readonly anyToken: string | null;
  /** Lines that were skipped and why, each a sentence without its token. */
  readonly problems: readonly string[];
}

const TOKEN_BYTES = 48;
const FILE_BYTES_MAX = 1024 * 1024;
const PEERS_MAX = 10_000;

/**
 * Reads the tokens as they are now, at each challenge: a token that was added works without a restart. A file that
 * cannot be read gives no tokens and one problem.
 */
export async function readPeers(source: PeersSource): Promise<Peers> {
  if (source.file === null) return parsePeers(source.text ?? "", "GRADIENT_WORKER_PEERS");
  try {
    return parsePeers(await readLimited(source.file), source.file);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { tokens: new Map(), anyToken: null, problems: [`the peers file cannot be read: ${why}`] };
  }
}

/**
 * One `peer_id:token` a line, `*` for any peer; empty lines and lines that begin with `#` are comments. `where` begins
 * the messages. The last of several lines for one peer holds.
 */
export function parsePeers(text: string, where: string): Peers {
  const tokens = new Map<string, string>();
  const problems: string[] = [];
  let anyToken: string | null = null;
  for (const [index, whole] of text.split("\n").entries()) {
    const line = whole.trim();
    if (line === "" || line.startsWith("#")) continue;
    const problem = (what: string) => problems.push(`${where}, line ${index + 1} is skipped: ${what}`);
    const [peer = "", token] = line.split(/:(.*)/s).map((part) => part.trim());
    if (token === undefined) problem("it is not of the form peer_id:token");
    else if (peer !== "*" && !isUuid(peer.toLowerCase())) problem("its peer is no UUID and not *");
    else if (fromBase64(token)?.length !== TOKEN_BYTES) {
      problem(`its token is not base64 of ${TOKEN_BYTES} bytes (64 characters)`);
    } else if (peer === "*") anyToken = token;
    else if (tokens.size < PEERS_MAX) tokens.set(peer.toLowerCase(), token);
    else problem(`there are more than ${PEERS_MAX} peers`);
  }
  return { tokens, anyToken, problems };
}

/** The answers to a challenge: for each of the peers that there is a token for, in their order. */
export function tokensFor(
  { tokens, anyToken }: Peers,
  challenged: readonly string[],
): { readonly peer: string; readonly token: string }[] {
  return challenged.flatMap((peer) => {
    const token = tokens.get(peer) ?? anyToken;
    return token === null ? [] : [{ peer, token }];
  });
}

/** The token for one peer. `named`: it stands there for this peer, and not for any. */
export function tokenOf(
  { tokens, anyToken }: Peers,
  peer: string,
): { readonly token: string; readonly named: boolean } | null {
  const own = tokens.get(peer);
  if (own !== undefined) return { token: own, named: true };
  return anyToken === null ? null : { token: anyToken, named: false };
}

async function readLimited(path: string): Promise<string> {
  await using file = await open(path, "r");
  const { size } = await file.stat();
  if (size > FILE_BYTES_MAX) throw new Error(`${path} is larger than ${FILE_BYTES_MAX} bytes`);
  return await file.readFile("utf8");
}
