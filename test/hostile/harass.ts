import { setTimeout as sleep } from "node:timers/promises";
import type { StorePath } from "#core/nix/store-path.ts";
import { encodeFrame } from "#core/protocol/frame.ts";
import { SERVER_MESSAGE_BYTES_MAX } from "#core/protocol/limits.ts";
import type { ServerMessage } from "#core/protocol/server-messages.ts";
import type { Random } from "#test/sim/random.ts";
import { type FakeServer, ORGANIZATION } from "#test/support/fake-server.ts";
import { damage, mutate } from "./mutate.ts";

const INPUT = `/nix/store/${"5".repeat(32)}-input` as StorePath;

/** A session of a server that has gone mad. */
export async function harass(server: FakeServer, random: Random, attempts: readonly string[]): Promise<void> {
  const messages = messagesOf(random, [...attempts, ORGANIZATION]);
  for (let step = random.between(5, 80); step > 0 && server.closed === null; step--) {
    const text = JSON.stringify((random.pick(messages) as () => ServerMessage)());
    const data = random.weighted<() => string | Uint8Array>([
      [60, () => text],
      [10, () => JSON.stringify(mutate(random, JSON.parse(text)))],
      [1, () => damage(random, text)],
      [0.2, () => "x".repeat(SERVER_MESSAGE_BYTES_MAX + 1)],
      [
        20,
        () =>
          encodeFrame({
            stream: streamOf(random),
            offset: 0,
            end: random.chance(0.3),
            aborted: random.chance(0.1),
            body: random.bytes(new Uint8Array(100)),
          }),
      ],
      [1, () => random.bytes(new Uint8Array(random.below(1_000)))],
    ])();
    await server.socket.send(data).catch(() => {});
  }
  await sleep(random.below(30));
}

function streamOf(random: Random): number {
  return random.pick([1, 2, 3, 2 ** 32 - 1]);
}

function messagesOf(random: Random, ids: readonly string[]): readonly (() => ServerMessage)[] {
  const stream = () => streamOf(random);
  const job = {
    kind: "build" as const,
    build: ids[0] as string,
    organization: ORGANIZATION,
    drv_path: `/nix/store/${"7".repeat(32)}-a.drv` as StorePath,
    inputs: Array.from({ length: random.pick([0, 1, 20_000]) }, () => INPUT),
    timeout_ms: 0,
    max_silent_ms: 0,
  };
  const info = {
    path: INPUT,
    nar_hash: "0".repeat(64),
    nar_size: 2 ** 53 - 1,
    references: [],
    deriver: null,
    ca: null,
  };
  return [
    () => ({
      type: "assign_job",
      attempt: random.pick(ids),
      job: { ...job, drv: { stream: stream(), size: random.pick([0, 2 ** 53 - 1]) } },
    }),
    () => ({ type: "abort_job", attempt: random.pick(ids), reason: "no" }),
    () => ({ type: "attempts", held: [{ attempt: random.pick(ids), log_bytes: 2 ** 53 - 1 }] }),
    () => ({ type: "job_result_ack", attempt: random.pick(ids) }),
    () => ({ type: "eval_batch_ack", attempt: random.pick(ids), sequence: 0, error: null }),
    () => ({ type: "cache_status", query: random.below(5), present: Array.from({ length: 1_000 }, () => info) }),
    () => ({ type: "derivation_status", query: random.below(5), known: [] }),
    () => ({ type: "query_error", query: random.below(5), message: "no" }),
    () => ({
      type: "nar_offer",
      request: random.below(5),
      info,
      compression: "zstd",
      file_size: null,
      stream: stream(),
    }),
    () => ({ type: "nar_abort", request: random.below(5), stream: stream(), reason: "no" }),
    () => ({ type: "nar_committed", upload: random.below(5) }),
    () => ({ type: "nar_refused", upload: random.below(5), message: "no", retry: true }),
    () => ({ type: "credit", stream: stream(), offset: 2 ** 53 - 1 }),
    () => ({ type: "stream_stop", stream: stream() }),
    () => ({ type: "auth_challenge", peers: Array.from({ length: 1_000 }, () => ORGANIZATION) }),
    () => ({ type: "auth_update", authorized_peers: [], failed_peers: [{ peer_id: ORGANIZATION, reason: "no" }] }),
    () => ({ type: "draining" }),
    () => ({ type: "heartbeat" }),
  ];
}
