import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect, test } from "vitest";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { DaemonSocket } from "./socket.ts";

/** Listens with room for one, and then takes nobody for a while. */
const BUSY_SERVER = `
  const server = require("node:net").createServer(() => {});
  server.listen({ path: process.argv[1], backlog: 1 }, () => {
    process.stdout.write("listening");
    setTimeout(() => { const end = Date.now() + 400; while (Date.now() < end); }, 20);
  });
`;

test("a daemon that has more callers than it takes at a time is called again", async () => {
  await using folder = await withTemporaryFolder();
  const path = join(folder.path, "daemon.sock");
  const child = spawn(process.execPath, ["-e", BUSY_SERVER, path], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    await once(child.stdout, "data");
    await new Promise((resolve) => setTimeout(resolve, 100));
    const sockets = await Promise.all(Array.from({ length: 8 }, () => DaemonSocket.connect(path)));

    expect(sockets).toHaveLength(8);
    for (const socket of sockets) socket.destroy();
  } finally {
    child.kill("SIGKILL");
  }
});
