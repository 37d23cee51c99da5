import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { DaemonConnectionError, DaemonError, DaemonProtocolError } from "#core/nix/daemon/errors.ts";
import { FrameCode, Operation } from "#core/nix/daemon/numbers.ts";
import { DaemonWriter } from "#core/nix/daemon/writer.ts";
import { DaemonConnection } from "#worker/daemon/connection.ts";
import { storePath } from "../support/derivations.ts";
import { answer, errorFrame, withFakeDaemon } from "../support/fake-daemon.ts";

const MIB = 1024 * 1024;
const PATH = storePath("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hi");
const NAR_HASH = { algorithm: "sha256", digest: new Uint8Array(32) } as const;

test("a missing socket, one that nobody serves, and a path that is too long say what to do", async () => {
  const folder = await mkdtemp(join(tmpdir(), "gradient-socket-"));
  const missing = join(folder, "missing.sock");
  const error = await DaemonConnection.open(missing).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(DaemonConnectionError);
  expect(error).toMatchObject({ socketPath: missing, message: expect.stringMatching(/no socket at .*NIX_REMOTE/) });
  await expect(DaemonConnection.open(`/${"x".repeat(120)}`)).rejects.toThrow(/at most 107 bytes/);
  await expect(DaemonConnection.open(folder)).rejects.toThrow(DaemonConnectionError);
  await rm(folder, { recursive: true });
});

test("a daemon that hangs up during the handshake is asked about its allowed users", async () => {
  const folder = await mkdtemp(join(tmpdir(), "gradient-socket-"));
  const path = join(folder, "d.sock");
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(path, resolve));
  await expect(DaemonConnection.open(path)).rejects.toThrow(/allowed-users/);
  server.close();
  await rm(folder, { recursive: true });
});

test("a daemon that hangs up now and then is called again", async () => {
  await using daemon = await withFakeDaemon({ hangUps: 2 });
  using connection = await DaemonConnection.open(daemon.socketPath);
  expect(connection.usable).toBe(true);
});

test("opening a connection to a silent daemon can be aborted", async () => {
  await using daemon = await withFakeDaemon({ greets: false });
  const opening = DaemonConnection.open(daemon.socketPath, { signal: AbortSignal.timeout(20) });
  await expect(opening).rejects.toThrow(expect.objectContaining({ name: "TimeoutError" }));
});

test.each([34, 35, 37, 38])("protocol 1.%i is spoken as it is", async (minor) => {
  await using daemon = await withFakeDaemon({
    minor,
    onRequest: (socket) => socket.write(answer((writer) => writer.word(1))),
  });
  using connection = await DaemonConnection.open(daemon.socketPath);
  expect(connection.greeting).toEqual({ minor, nixVersion: "9.9.9", trust: minor >= 35 ? "trusted" : "unknown" });
  expect(await connection.isValidPath(PATH)).toBe(true);
});

test("a newer daemon is spoken to as 1.38", async () => {
  await using daemon = await withFakeDaemon({ minor: 40 });
  using connection = await DaemonConnection.open(daemon.socketPath);
  expect(connection.greeting.minor).toBe(38);
});

test("a daemon that repeats its error and hangs up loses the connection, not the error", async () => {
  await using daemon = await withFakeDaemon({
    onRequest: (socket) => {
      socket.write(errorFrame("cannot parse this"));
      setTimeout(() => socket.end(errorFrame("cannot parse this")), 5);
    },
  });
  using connection = await DaemonConnection.open(daemon.socketPath);
  await expect(connection.isValidPath(PATH)).rejects.toThrow(DaemonError);
  expect(connection.usable).toBe(false);
  await expect(connection.isValidPath(PATH)).rejects.toThrow(DaemonConnectionError);
});

test.each([
  ["at once", 0],
  ["later", 5],
])(
  "bytes that nobody asked for, sent %s, end the connection instead of answering the next request",
  async (_name, ms) => {
    const unasked = new DaemonWriter().word(FrameCode.last).word(1).finish();
    await using daemon = await withFakeDaemon({
      onRequest: (socket) => {
        socket.write(answer((writer) => writer.word(1)));
        if (ms === 0) socket.write(unasked);
        else setTimeout(() => socket.write(unasked), ms);
      },
    });
    using connection = await DaemonConnection.open(daemon.socketPath);
    await connection.isValidPath(PATH);
    await expect.poll(() => connection.usable, { timeout: 10_000 }).toBe(false);
    expect(await connection.probe()).toBe(false);
  },
);

test("leaving a NAR before its end closes the connection, also when all that was sent was read", async () => {
  await using daemon = await withFakeDaemon({
    onRequest: (socket) => socket.write(answer((writer) => writer.text("nix-archive-1"))),
  });
  using connection = await DaemonConnection.open(daemon.socketPath);
  let seen = 0;
  for await (const chunk of connection.narFromPath({ path: PATH, narSize: 1000 })) {
    seen += chunk.length;
    if (seen === 24) break;
  }
  expect(connection.usable).toBe(false);
});

test.each([
  ["an unknown frame", new DaemonWriter().word(0x1234).finish()],
  ["an answer that is no boolean", answer((writer) => writer.word(5))],
])("%s is a protocol error, and the connection is closed", async (_name, bytes) => {
  await using daemon = await withFakeDaemon({ onRequest: (socket) => socket.write(bytes) });
  using connection = await DaemonConnection.open(daemon.socketPath);
  await expect(connection.isValidPath(PATH)).rejects.toThrow(DaemonProtocolError);
  expect(connection.usable).toBe(false);
});

test("a daemon that dies in the middle of an answer is a connection error", async () => {
  await using daemon = await withFakeDaemon({
    onRequest: (socket) => socket.end(answer((writer) => writer.word(1).word(100))),
  });
  using connection = await DaemonConnection.open(daemon.socketPath);
  await expect(connection.queryPathInfo(PATH)).rejects.toThrow(/closed the connection/);
});

test("a second operation on a busy connection is refused and does not disturb the first", async () => {
  await using daemon = await withFakeDaemon({
    onRequest: (socket) => void setTimeout(() => socket.write(answer((writer) => writer.word(1))), 10),
  });
  using connection = await DaemonConnection.open(daemon.socketPath);
  const first = connection.isValidPath(PATH);
  await expect(connection.isValidPath(PATH)).rejects.toThrow(/one operation at a time/);
  expect(await first).toBe(true);
});

test("an import waits for a daemon that does not read: the source is not drained into memory", async () => {
  await using daemon = await withFakeDaemon({ deaf: true });
  let pulled = 0;
  async function* endless(): AsyncGenerator<Uint8Array> {
    for (;;) {
      yield new Uint8Array(64 * 1024);
      pulled += 64 * 1024;
    }
  }
  using connection = await DaemonConnection.open(daemon.socketPath);
  const info = { path: PATH, narHash: NAR_HASH, narSize: 1024 * MIB, references: [] };
  const signal = AbortSignal.timeout(300);
  await expect(connection.addToStoreNar(info, endless(), { signal })).rejects.toThrow(
    expect.objectContaining({ name: "TimeoutError" }),
  );
  expect(pulled).toBeGreaterThan(0);
  expect(pulled).toBeLessThan(2 * MIB);
});

test("an import that is refused early leaves the rest of its source alone, and the connection goes on", async () => {
  const probe = `/nix/store/${"0".repeat(32)}-probe`;
  const endMarkAndQuestion = new DaemonWriter().word(0).word(Operation.isValidPath).text(probe).finish();
  let received = Buffer.alloc(0);
  await using daemon = await withFakeDaemon({
    onRequest: (socket, bytes) => {
      if (received.length === 0) socket.write(errorFrame("no space left on device"));
      received = Buffer.concat([received, bytes]);
      const end = received.subarray(-endMarkAndQuestion.length);
      if (end.equals(endMarkAndQuestion)) socket.write(answer((writer) => writer.word(0)));
    },
  });
  let returned = false;
  // Not zeros, which would look like the end mark.
  const piece = new Uint8Array(8).fill(1);
  async function* stalling(): AsyncGenerator<Uint8Array> {
    try {
      yield piece;
      for (;;) {
        await sleep(5);
        yield piece;
      }
    } finally {
      returned = true;
    }
  }
  using connection = await DaemonConnection.open(daemon.socketPath);
  const info = { path: PATH, narHash: NAR_HASH, narSize: MIB, references: [] };
  await expect(connection.addToStoreNar(info, stalling())).rejects.toThrow("no space left on device");
  await expect.poll(() => returned, { timeout: 10_000 }).toBe(true);
  expect(connection.usable).toBe(true);
});
