import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { recordingLogger } from "#test/cache/support.ts";
import { createHttpServer } from "./http-server.ts";

test("a memory that fails is told, and the request is answered without it", async () => {
  const logged: string[] = [];
  const fromMemory = () => {
    throw new Error("what is in it cannot be read");
  };
  const server = createHttpServer(
    { fromMemory, fetch: async () => new Response("looked up") },
    recordingLogger(logged),
  );
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const answers = await Promise.all([fetch(url), fetch(url)]);
    expect(await Promise.all(answers.map((answer) => answer.text()))).toEqual(["looked up", "looked up"]);
    expect(logged).toHaveLength(2);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
