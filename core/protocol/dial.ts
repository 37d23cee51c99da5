import * as v from "valibot";
import { type Bytes, toBase64 } from "../lib/bytes.ts";
import type { Clock } from "../lib/clock.ts";
import type { RandomBytes } from "../lib/ids.ts";
import {
  type DialContext,
  isSameProof,
  type KeyParameters,
  proveKnowledge,
  readTokenHash,
  ServerChallenge,
  ServerProof,
} from "./dial-proof.ts";
import { HANDSHAKE_TIMEOUT_MS, PROTOCOL_VERSION } from "./limits.ts";
import type { Socket } from "./socket.ts";

/** The other end of a dialled connection did not prove itself. The message is for an operator's log. */
export class DialError extends Error {
  override readonly name = "DialError";
}

interface Ports {
  readonly clock: Clock;
  readonly random: RandomBytes;
}

/** What a worker closes the connection with when a server has not proved itself. Why is in its own log. */
export const DIAL_REFUSED = "refused";
/** What is longer than this proves nothing. 64 organizations need 20 KiB. */
const MESSAGE_LENGTH_MAX = 64 * 1024;
/** Keys that a worker computes for one who has dialled it: each takes a tenth of a second of a core, or more. */
const DERIVATIONS_MAX = 8;

/**
 * The server's part, on a connection that it has opened to a worker. Afterwards the session begins as any other: with
 * the worker's `init_connection`. Throws `DialError` when the other end is no worker of this version.
 */
export async function proveServer(
  socket: Socket,
  worker: {
    readonly id: string;
    readonly registrations: readonly { readonly peer: string; readonly tokenHash: string }[];
  },
  ports: Ports,
): Promise<DialContext> {
  const message = await nextMessage(socket, ports.clock);
  const challenge = v.safeParse(ServerChallenge, message);
  if (!challenge.success) throw new DialError("it does not answer as a worker that waits to be dialled");
  const { version, nonce: workerNonce } = challenge.output;
  if (version !== PROTOCOL_VERSION) {
    throw new DialError(`it speaks version ${version} of the protocol, this server version ${PROTOCOL_VERSION}`);
  }
  const context = { workerId: worker.id, workerNonce, serverNonce: makeNonce(ports.random) };
  const peers = [];
  for (const { peer, tokenHash } of worker.registrations) {
    const known = readTokenHash(tokenHash);
    if (!known) continue;
    peers.push({ peer, key: known.parameters, proof: await proveKnowledge(known.key, "server", { peer, context }) });
  }
  const proof: ServerProof = { type: "server_proof", worker_id: worker.id, nonce: context.serverNonce, peers };
  // Not waited for: the answer may be next, and whoever takes the socket over has to be there for it.
  socket.send(JSON.stringify(proof)).catch(() => {});
  return context;
}

interface PeerToken {
  readonly peer: string;
  readonly token: string;
}

/** What the worker answers challenges of this session with, instead of its tokens: they never leave it. */
export interface ProvedServer {
  /** `tokens`: those that the worker has for the challenged peers now. One that was replaced since answers nothing. */
  answer(tokens: readonly PeerToken[]): Promise<PeerToken[]>;
}

/**
 * The worker's part, on a connection that somebody has opened to it. Throws `DialError` unless they know the hash of a
 * token that this worker has; until then they are told nothing but a random number.
 */
export async function challengeServer(
  socket: Socket,
  worker: {
    readonly id: string;
    /** `named`: the token is for this peer alone, and not for whoever asks. */
    readonly tokenFor: (peer: string) => { readonly token: string; readonly named: boolean } | null;
    /** Costly: to be done for one stranger at a time. */
    readonly deriveKey: (token: string, parameters: KeyParameters) => Promise<Bytes>;
  },
  ports: Ports,
): Promise<ProvedServer> {
  const workerNonce = makeNonce(ports.random);
  const answered = nextMessage(socket, ports.clock);
  const challenge: ServerChallenge = { type: "server_challenge", version: PROTOCOL_VERSION, nonce: workerNonce };
  const [message] = await Promise.all([answered, socket.send(JSON.stringify(challenge))]);
  const parsed = v.safeParse(ServerProof, message);
  if (!parsed.success) throw new DialError("whoever dialled did not answer as a server");
  const { worker_id, nonce, peers } = parsed.output;
  if (worker_id !== worker.id) throw new DialError(`whoever dialled looks for another worker, ${worker_id}`);
  const context = { workerId: worker.id, workerNonce, serverNonce: nonce };
  const proved = new Map<string, { readonly token: string; readonly key: Bytes }>();
  let refused: string | null = null;
  for (const { peer, key: parameters, proof } of byTrust(peers, worker).slice(0, DERIVATIONS_MAX)) {
    const token = worker.tokenFor(peer)?.token ?? "";
    const key = await worker.deriveKey(token, parameters);
    if (isSameProof(proof, await proveKnowledge(key, "server", { peer, context }))) proved.set(peer, { token, key });
    else refused ??= peer;
  }
  if (refused !== null && proved.size === 0) {
    throw new DialError(`whoever dialled does not know this worker's token for ${refused}`);
  }
  if (proved.size === 0) throw new DialError("whoever dialled named no organization that this worker has a token of");
  return {
    answer: async (tokens) => {
      const answers = [];
      for (const { peer, token } of tokens) {
        const known = proved.get(peer);
        if (known?.token !== token) continue;
        answers.push({ peer, token: await proveKnowledge(known.key, "worker", { peer, context }) });
      }
      return answers;
    },
  };
}

/** Whether what a dialled worker answered a challenge with shows that it has the token. */
export async function isWorkerProof(
  answer: string,
  registration: { readonly peer: string; readonly tokenHash: string },
  context: DialContext,
): Promise<boolean> {
  const known = readTokenHash(registration.tokenHash);
  if (!known) return false;
  return isSameProof(answer, await proveKnowledge(known.key, "worker", { peer: registration.peer, context }));
}

/** Those that there is a token for, first what this worker's operator has named: nobody else pushes these out. */
function byTrust<Peer extends { readonly peer: string }>(
  peers: readonly Peer[],
  { tokenFor }: Pick<Parameters<typeof challengeServer>[1], "tokenFor">,
): Peer[] {
  const named = (isNamed: boolean) => peers.filter(({ peer }) => tokenFor(peer)?.named === isNamed);
  return [...named(true), ...named(false)];
}

function makeNonce(random: RandomBytes): string {
  return toBase64(random(new Uint8Array(32)));
}

/** The next text message as JSON. Whoever has the socket next sets its handlers anew. */
function nextMessage(socket: Socket, clock: Clock): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const cancel = clock.schedule(HANDSHAKE_TIMEOUT_MS, () => reject(new DialError("the other end says nothing")));
    socket.onClose = (reason) => {
      cancel();
      reject(new DialError(`the other end closed the connection: ${reason}`));
    };
    socket.onMessage = (data) => {
      cancel();
      if (typeof data !== "string" || data.length > MESSAGE_LENGTH_MAX) return reject(new DialError("not a message"));
      try {
        resolve(JSON.parse(data));
      } catch (error) {
        reject(new DialError("not a message", { cause: error }));
      }
    };
  });
}
