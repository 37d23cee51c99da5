import { expect, test } from "vitest";
import { type Bytes, fromBase64 } from "../lib/bytes.ts";
import { systemClock } from "../lib/clock.ts";
import { systemRandom } from "../lib/ids.ts";
import { challengeServer, isWorkerProof, proveServer } from "./dial.ts";
import { isSameProof, type KeyParameters, proveKnowledge, readTokenHash } from "./dial-proof.ts";
import { socketPair } from "./memory-socket.ts";
import type { Socket } from "./socket.ts";

const PORTS = { clock: systemClock, random: systemRandom };
const WORKER = "550e8400-e29b-41d4-a716-446655440001";
const PEER = "018f0000-0000-7000-8000-000000000001";
const OTHER = "018f0000-0000-7000-8000-000000000002";
/** Of the token `tok`. */
const HASH = "$argon2id$v=19$m=19456,t=2,p=1$AQEBAQEBAQEBAQEBAQEBAQ$a7nhJU+b3xjqI+r3tsEzw08mqXDrD65QH9Afq+9T9gc";
const WRONG_HASH = HASH.replace("$a7nh", "$b7nh");

/** What Argon2 would make of tokens; each call is noted. */
function deriver(calls: string[] = []) {
  return async (token: string, parameters: KeyParameters): Promise<Bytes> => {
    calls.push(`${token} ${parameters.memory_kib}`);
    return token === "tok" ? (readTokenHash(HASH)?.key as Bytes) : new Uint8Array(32);
  };
}

function worker(socket: Socket, tokens: Record<string, string> = { [PEER]: "tok" }, calls?: string[]) {
  const tokenFor = (peer: string) => (tokens[peer] ? { token: tokens[peer], named: peer === PEER } : null);
  return challengeServer(socket, { id: WORKER, tokenFor, deriveKey: deriver(calls) }, PORTS);
}

test("a server with the token's hash and a worker with the token find each other without sending it", async () => {
  const [a, b] = socketPair(systemClock);
  const sent: string[] = [];
  const record = (socket: Socket) => {
    const send = socket.send.bind(socket);
    socket.send = (data) => {
      sent.push(String(data));
      return send(data);
    };
  };
  record(a);
  record(b);
  const registration = { peer: PEER, tokenHash: HASH };
  const [context, proved] = await Promise.all([
    proveServer(a, { id: WORKER, registrations: [registration] }, PORTS),
    worker(b),
  ]);

  const answers = await proved.answer([
    { peer: PEER, token: "tok" },
    { peer: OTHER, token: "tok" },
  ]);
  expect(answers.map(({ peer }) => peer)).toEqual([PEER]);
  const answer = answers[0]?.token ?? "";
  expect(await isWorkerProof(answer, registration, context)).toBe(true);
  expect(await isWorkerProof(answer, { peer: OTHER, tokenHash: HASH }, context)).toBe(false);
  expect(await isWorkerProof(answer, { peer: PEER, tokenHash: WRONG_HASH }, context)).toBe(false);
  expect(await isWorkerProof(answer, registration, { ...context, serverNonce: context.workerNonce })).toBe(false);
  expect(await proved.answer([{ peer: PEER, token: "a newer one" }])).toEqual([]);
  expect(sent.join("\n")).not.toContain('"tok"');
  const hash = HASH.split("$").at(-1) as string;
  expect(sent.join("\n")).not.toContain(hash);
});

test("a stranger gets a random number and the version, whatever they answer", async () => {
  const guesses: unknown[] = [
    {},
    { type: "auth_challenge", peers: [PEER] },
    { type: "server_proof", worker_id: WORKER, nonce: "AA==", peers: [] },
    { type: "server_proof", worker_id: WORKER, nonce: `${"A".repeat(43)}=`, peers: [] },
  ];
  for (const guess of guesses) {
    const [a, b] = socketPair(systemClock);
    const received: string[] = [];
    a.onMessage = (data) => {
      received.push(String(data));
      void a.send(JSON.stringify(guess));
    };
    await expect(worker(b)).rejects.toThrow(/did not answer as a server|named no organization/);
    expect(received.map((text) => Object.keys(JSON.parse(text)))).toEqual([["type", "version", "nonce"]]);
  }
});

test("a server with a wrong hash, and one that sends the proof of another session, are strangers", async () => {
  const [a, b] = socketPair(systemClock);
  const registrations = [{ peer: PEER, tokenHash: WRONG_HASH }];
  const [, refused] = await Promise.allSettled([proveServer(a, { id: WORKER, registrations }, PORTS), worker(b)]);
  expect(String((refused as PromiseRejectedResult).reason)).toContain(`does not know this worker's token for ${PEER}`);

  const [c, d] = socketPair(systemClock);
  let recorded = "";
  c.send = (data) => {
    recorded = String(data);
    return Promise.resolve();
  };
  const first = worker(d).catch(() => {});
  await proveServer(c, { id: WORKER, registrations: [{ peer: PEER, tokenHash: HASH }] }, PORTS);
  const [e, f] = socketPair(systemClock);
  e.onMessage = () => void e.send(recorded);
  await expect(worker(f)).rejects.toThrow(/does not know this worker's token/);
  d.close(1000, "done");
  c.close(1000, "done");
  await first;
});

test("a worker derives eight keys for a stranger, what is named first, and none beyond the allowed cost", async () => {
  const key = { algorithm: "argon2id", salt: "AQEBAQEBAQEBAQEBAQEBAQ==", memory_kib: 19_456, passes: 2, lanes: 1 };
  const proof = `${"A".repeat(43)}=`;
  const others = Array.from({ length: 20 }, (_, i) => `018f0000-0000-7000-8000-0000000001${i + 10}`);
  const answer = async (peers: unknown[]) => {
    const [a, b] = socketPair(systemClock);
    const calls: string[] = [];
    a.onMessage = () => void a.send(JSON.stringify({ type: "server_proof", worker_id: WORKER, nonce: proof, peers }));
    const ended = await worker(b, { [PEER]: "x", ...Object.fromEntries(others.map((id) => [id, "y"])) }, calls).catch(
      (error: unknown) => String(error),
    );
    return { calls, ended };
  };
  const { calls } = await answer([...others, PEER].map((peer) => ({ peer, key, proof })));
  expect(calls).toEqual(["x 19456", ...Array(7).fill("y 19456")]);
  for (const costly of [{ memory_kib: 2 ** 20 }, { passes: 100 }, { lanes: 64 }, { salt: "A".repeat(400) }]) {
    const { calls, ended } = await answer([{ peer: PEER, key: { ...key, ...costly }, proof }]);
    expect(calls).toEqual([]);
    expect(ended).toContain("did not answer as a server");
  }
});

test("a token's hash is read as Argon2's own form says, and anything else is none", () => {
  expect(readTokenHash(HASH)?.parameters).toEqual({
    algorithm: "argon2id",
    salt: "AQEBAQEBAQEBAQEBAQEBAQ==",
    memory_kib: 19_456,
    passes: 2,
    lanes: 1,
  });
  expect(readTokenHash(HASH)?.key).toEqual(fromBase64("a7nhJU+b3xjqI+r3tsEzw08mqXDrD65QH9Afq+9T9gc="));
  for (const wrong of ["", "tok", HASH.replace("argon2id", "argon2i"), HASH.replace("m=19456", "m=99999999")]) {
    expect(readTokenHash(wrong)).toBeNull();
  }
});

test("a server's proof is no worker's proof", async () => {
  const key = readTokenHash(HASH)?.key as Bytes;
  const context = { workerId: WORKER, workerNonce: "a", serverNonce: "b" };
  const server = await proveKnowledge(key, "server", { peer: PEER, context });
  expect(isSameProof(server, server)).toBe(true);
  expect(isSameProof(server, await proveKnowledge(key, "worker", { peer: PEER, context }))).toBe(false);
  expect(isSameProof(server, server.slice(1))).toBe(false);
});
