import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DAEMON_MAGIC, FrameCode } from "#core/nix/daemon/numbers.ts";
import { DaemonWriter } from "#core/nix/daemon/writer.ts";

export interface FakeDaemon extends AsyncDisposable {
  readonly socketPath: string;
  /** Bytes received after the handshake, of all connections. */
  receivedBytes(): number;
}

export interface FakeDaemonOptions {
  readonly minor?: number;
  /** False: says nothing at all. */
  readonly greets?: boolean;
  /** Called with what arrives after the handshake, as it arrives. */
  readonly onRequest?: (socket: Socket, bytes: Buffer) => void;
  /** Never reads after the handshake. */
  readonly deaf?: boolean;
  /** So many connections end before they have begun. */
  readonly hangUps?: number;
}

/** What a daemon sends when a request failed. */
export function errorFrame(message: string): Uint8Array {
  const writer = new DaemonWriter().word(FrameCode.error).text("Error").word(0).text("Error");
  return writer.text(message).word(0).word(0).finish();
}

export function answer(write: (writer: DaemonWriter) => void): Uint8Array {
  const writer = new DaemonWriter().word(FrameCode.last);
  write(writer);
  return writer.finish();
}

/** A daemon that shakes hands properly and then misbehaves as a test wants it to. */
export async function withFakeDaemon(options: FakeDaemonOptions = {}): Promise<FakeDaemon> {
  const { minor = 38, greets = true, onRequest, deaf = false, hangUps = 0 } = options;
  const folder = await mkdtemp(join(tmpdir(), "gradient-fake-daemon-"));
  const socketPath = join(folder, "socket");
  const sockets = new Set<Socket>();
  let received = 0;
  let hungUp = 0;

  const handshakeBytes = 16 + (minor >= 38 ? 8 : 0) + 16;
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    if (hungUp++ < hangUps) return void socket.destroy();
    let seen = 0;
    socket.on("data", (chunk: Buffer) => {
      const before = seen;
      seen += chunk.length;
      if (!greets) return;
      if (before < handshakeBytes && seen >= handshakeBytes && deaf) socket.pause();
      const request = chunk.subarray(Math.max(0, handshakeBytes - before));
      if (request.length === 0) return;
      received += request.length;
      onRequest?.(socket, request);
    });
    if (greets) socket.write(greeting(minor));
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));

  return {
    socketPath,
    receivedBytes: () => received,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      await rm(folder, { recursive: true });
    },
  };
}

function greeting(minor: number): Uint8Array {
  const writer = new DaemonWriter().word(DAEMON_MAGIC).word(0x100 | minor);
  if (minor >= 38) writer.texts(["a-feature-of-tomorrow"]);
  writer.text("9.9.9");
  if (minor >= 35) writer.word(1);
  return writer.word(FrameCode.last).finish();
}
