import { chmod, open } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { toHex } from "#core/lib/bytes.ts";
import { systemClock } from "#core/lib/clock.ts";
import { type ByteStream, collect } from "#core/lib/streams.ts";
import { sha256 } from "#core/nix/hash.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { socketPair } from "#core/protocol/memory-socket.ts";
import type { NarWanted } from "#core/protocol/nar-return-messages.ts";
import { decompress } from "#worker/codec.ts";
import { DaemonPool } from "#worker/daemon/pool.ts";
import { LiveSession } from "#worker/session/live-session.ts";
import { NarReturns } from "#worker/session/nar-returns.ts";
import { returnPath } from "#worker/store/return-path.ts";
import { storePath } from "../support/derivations.ts";
import { FakeServer, ORGANIZATION } from "../support/fake-server.ts";
import { type NixDaemon, nixAvailable, withNixDaemon } from "../support/nix.ts";
import { quietLogger } from "../support/quiet-logger.ts";
import { buildIn } from "../support/upstream-cache.ts";

const nix = nixAvailable();
const OTHER = "01890000-0000-7000-8000-00000000000b";

describe.skipIf(!nix.ok)(
  `a worker is asked for what the server has lost (${nix.ok ? nix.version : nix.reason})`,
  () => {
    let daemon: NixDaemon;
    let pool: DaemonPool;
    let server: FakeServer;
    let returns: NarReturns;
    let session: LiveSession;
    const stopping = new AbortController();
    beforeAll(async () => {
      daemon = await withNixDaemon();
      pool = new DaemonPool({ socketPath: daemon.socketPath, maxConnections: 2 });
      const [mine, theirs] = socketPair(systemClock);
      server = new FakeServer(theirs);
      session = new LiveSession({
        socket: mine,
        clock: systemClock,
        silenceTimeoutMs: 60_000,
        onMessage: (message) => {
          if (message.type === "nar_wanted") returns.receive(session, message, stopping.signal);
        },
        onClose: () => {},
      });
      returns = new NarReturns({
        find: (wanted, send, signal) => returnPath(pool, wanted, send, signal),
        log: quietLogger,
      });
      returns.authorize([ORGANIZATION]);
    });
    afterAll(async () => {
      session?.connection.close(1001, "the test is over");
      await pool?.close({ abandon: true });
      await daemon?.[Symbol.asyncDispose]();
    });

    async function build(name: string): Promise<{ path: StorePath; narHash: string; narSize: number }> {
      const expression = `derivation { name = "${name}"; system = builtins.currentSystem; PATH = "/usr/bin:/bin";
      builder = "/bin/sh"; args = [ "-c" "head -c 200000 /dev/urandom > $out" ]; }`;
      const path = storePath(await buildIn(daemon, expression));
      const info = await pool.use((connection) => connection.queryPathInfo(path));
      return { path, narHash: toHex(info?.narHash.digest as Uint8Array), narSize: info?.narSize as number };
    }

    let lastWant = 0;
    /** The answer, and what came with it. */
    async function ask(wanted: Partial<NarWanted> & Pick<NarWanted, "path" | "nar_hash" | "nar_size">) {
      const want = ++lastWant;
      const answer = Promise.withResolvers<{ reason: string | null; body: ByteStream | null; compression: string }>();
      server.onMessage = (message) => {
        if (message.type === "nar_absent" && message.want === want) {
          answer.resolve({ reason: message.reason, body: null, compression: "" });
        } else if (message.type === "nar_return" && message.want === want) {
          const body = server.connection.acceptStream(message.stream);
          answer.resolve({ reason: null, body, compression: message.compression });
        }
      };
      server.send({ type: "nar_wanted", want, organization: ORGANIZATION, ...wanted });
      return await answer.promise;
    }

    test("it sends the very NAR, from its store", async () => {
      const { path, narHash, narSize } = await build("kept");
      const { body, compression } = await ask({ path, nar_hash: narHash, nar_size: narSize });
      const nar = await collect(decompress(compression, body as ByteStream) as ByteStream, 1e7);
      expect(toHex(await sha256(nar))).toBe(narHash);
    });

    test("it says so when the path is not there, or another build of it", async () => {
      const { path, narHash, narSize } = await build("built-anew");
      const absent = storePath(`${path.slice(0, 11)}${"0".repeat(32)}-gone`);
      expect((await ask({ path: absent, nar_hash: narHash, nar_size: narSize })).reason).toBe(
        "the store does not have it",
      );
      const other = { nar_hash: "0".repeat(64), nar_size: narSize };
      expect((await ask({ path, ...other })).reason).toBe("the store has another build of it");
      expect((await ask({ path, nar_hash: narHash, nar_size: narSize + 8 })).reason).toBe(
        "the store has another build of it",
      );
    });

    test("what is damaged in its own store is given up before its end", async () => {
      const { path, narHash, narSize } = await build("rotten");
      const file = join(daemon.root, path);
      await chmod(file, 0o644);
      await using handle = await open(file, "r+");
      await handle.write(new Uint8Array([1, 2, 3, 4]), 0, 4, 100_000);
      await handle.sync();

      const { body, compression } = await ask({ path, nar_hash: narHash, nar_size: narSize });
      await expect(collect(decompress(compression, body as ByteStream) as ByteStream, 1e7)).rejects.toThrow();
      expect(server.closed).toBeNull();
    });

    test("an organization that does not let it in is told nothing of its store", async () => {
      const { path, narHash, narSize } = await build("secret");
      const answer = await ask({ organization: OTHER, path, nar_hash: narHash, nar_size: narSize });
      expect(answer.reason).toBe("the organization does not let this worker in");
    });

    test("more questions than it keeps are answered at once", async () => {
      const reasons: string[] = [];
      let begun = 0;
      const never = Promise.withResolvers<string | null>();
      const busy = new NarReturns({
        find: async () => {
          begun++;
          return await never.promise;
        },
        log: quietLogger,
      });
      busy.authorize([ORGANIZATION]);
      server.onMessage = (message) => {
        if (message.type === "nar_absent") reasons.push(message.reason);
      };
      const wanted = { path: storePath(`/nix/store/${"0".repeat(32)}-x`), nar_hash: "0".repeat(64), nar_size: 1 };
      for (let want = 100; want < 120; want++) {
        busy.receive(session, { type: "nar_wanted", want, organization: ORGANIZATION, ...wanted }, stopping.signal);
      }
      await expect.poll(() => reasons.length).toBe(4);
      expect(new Set(reasons)).toEqual(new Set(["the worker is asked for too many at a time"]));
      expect(begun).toBe(1);
      never.resolve("it is not there");
      await expect.poll(() => reasons.length).toBe(20);
    });
  },
);
