import { createSocket } from "node:dgram";
import { once } from "node:events";
import { expect, test } from "vitest";
import { freePort } from "#test/e2e/gradient.ts";
import { openProxyLog } from "./proxy-log.ts";

const CACHE = "01a20855-463c-75b2-aba1-a0b99cf5921c";
const LINE = `<190>Nov 23 12:19:27 gradient: ${CACHE} 12345`;

test("each line of the proxy is a NAR that was sent; everything else counts as nothing", async () => {
  const sent: (readonly [string, number])[] = [];
  const port = await freePort();
  const traffic = { sent: (...line: readonly [string, number]) => void sent.push(line) };
  await using _log = await openProxyLog({ port, reusePort: false }, { traffic, log: { warn: () => {} } });
  const socket = createSocket("udp4");
  const others = ["", CACHE, `${LINE} `, `${LINE}00000000000`, LINE.replace("01a2", "zzzz"), LINE.replace(": ", ":")];
  for (const line of [LINE, ...others, "\0".repeat(60_000), LINE.replace("12345", "0")]) {
    await new Promise((resolve) => socket.send(line, port, "127.0.0.1", resolve));
  }
  await expect.poll(() => sent.length).toBe(2);
  expect(sent).toEqual([
    [CACHE, 12_345],
    [CACHE, 0],
  ]);
  socket.close();
});

test("without a port nothing is heard; one that others have is told of, unless it is shared", async () => {
  const warned: string[] = [];
  const deps = { traffic: { sent: () => {} }, log: { warn: (words: string) => void warned.push(words) } };
  expect(await openProxyLog({ port: null, reusePort: false }, deps)).toBeNull();
  const taken = createSocket("udp4").bind(0, "127.0.0.1");
  await once(taken, "listening");
  const { port } = taken.address();
  expect(warned).toEqual([]);
  expect(await openProxyLog({ port, reusePort: false }, deps)).toBeNull();
  const words = `127.0.0.1:${port} (UDP) is in use by another program: what nginx sends is not counted`;
  expect(warned).toEqual([expect.stringContaining(words)]);
  taken.close();
  const shared = { port: await freePort(), reusePort: true };
  await using _one = await openProxyLog(shared, deps);
  await using other = await openProxyLog(shared, deps);
  expect(other).not.toBeNull();
});
