import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { expect, test } from "vitest";
import { cutIdleBody } from "./request-bodies.ts";

test("a body of which nothing comes any more ends its connection, and a slow one does not", async () => {
  const outcomes: string[] = [];
  const server = createServer((request, response) => {
    cutIdleBody(request, 150);
    let bytes = 0;
    request.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    request.on("end", () => {
      outcomes.push(`${bytes} bytes`);
      response.end();
    });
    request.on("error", () => outcomes.push("cut"));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const send = (pieces: number, announced: number) =>
    new Promise<void>((resolve) => {
      const socket = connect(port, "127.0.0.1");
      socket.write(`PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${announced}\r\n\r\n`);
      let left = pieces;
      const timer = setInterval(() => {
        if (left-- > 0) socket.write("x");
      }, 50);
      socket.on("close", () => {
        clearInterval(timer);
        resolve();
      });
      socket.on("error", () => {});
      socket.resume();
    });

  await Promise.all([send(8, 8), send(2, 8)]);

  expect(outcomes.sort()).toEqual(["8 bytes", "cut"]);
  await new Promise((resolve) => server.close(resolve));
});
