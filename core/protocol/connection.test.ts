import { expect, test } from "vitest";
import { systemClock } from "../lib/clock.ts";
import { collect } from "../lib/streams.ts";
import { Connection } from "./connection.ts";
import { STREAM_WINDOW_BYTES, WAITING_MESSAGES_MAX } from "./limits.ts";
import { socketPair } from "./memory-socket.ts";
import type { Socket } from "./socket.ts";

interface TestMessage {
  readonly type: "hello" | "data";
  readonly stream?: number;
}

function connect(socket: Socket, onMessage: (message: TestMessage) => void) {
  const closed: string[] = [];
  const connection = new Connection<TestMessage, TestMessage>({
    socket,
    clock: systemClock,
    parse: (value) => value as TestMessage,
    onMessage: onMessage as never,
    onClose: (reason) => closed.push(reason),
    silenceTimeoutMs: 60_000,
  });
  return { connection, closed };
}

test("a body of many windows arrives whole and in order", async () => {
  const [a, b] = socketPair(systemClock);
  const body = new Uint8Array(5 * STREAM_WINDOW_BYTES + 17).map((_, i) => i % 251);
  const received = new Promise<Uint8Array>((resolve) => {
    const { connection } = connect(b, (message) => {
      resolve(collect(connection.acceptStream(message.stream as number), body.length));
    });
  });
  const { connection } = connect(a, () => {});

  const stream = connection.openStream();
  connection.send({ type: "data", stream: stream.id });
  await stream.write(body);
  await stream.end();

  expect(await received).toEqual(body);
  connection.close(1000, "done");
});

test("a body that is in memory arrives whole, and a small one as a single frame", async () => {
  const [a, b] = socketPair(systemClock);
  let frames = 0;
  const counted: Socket = Object.assign(Object.create(a), {
    send: (data: string | Uint8Array) => {
      if (typeof data !== "string") frames++;
      return a.send(data);
    },
  });
  const bodies = [new Uint8Array(), new Uint8Array(300).fill(7), new Uint8Array(3 * STREAM_WINDOW_BYTES + 5).fill(9)];
  const received: Promise<Uint8Array>[] = [];
  const { connection: receiver } = connect(b, (message) => {
    received.push(collect(receiver.acceptStream(message.stream as number), 4 * STREAM_WINDOW_BYTES));
  });
  const { connection } = connect(a, () => {});
  const { connection: watched } = connect(counted, () => {});
  for (const body of bodies) {
    const stream = (body.length < 1000 ? watched : connection).openStream();
    (body.length < 1000 ? watched : connection).send({ type: "data", stream: stream.id });
    await stream.sendWhole(body);
  }
  await expect.poll(() => received.length).toBe(3);
  expect(await Promise.all(received)).toEqual(bodies);
  expect(frames).toBe(2);
  connection.close(1000, "done");
});

test("a sender whose reader takes nothing sends one window and then waits", async () => {
  const [a, b] = socketPair(systemClock);
  const { connection: receiver } = connect(b, (message) => {
    if (message.type === "data") receiver.acceptStream(message.stream as number);
  });
  const { connection } = connect(a, () => {});

  const stream = connection.openStream();
  connection.send({ type: "data", stream: stream.id });
  let sent = 0;
  const writing = (async () => {
    for (let i = 0; i < 64; i++) {
      await stream.write(new Uint8Array(64 * 1024));
      sent += 64 * 1024;
    }
  })();
  await new Promise((resolve) => setTimeout(resolve, 100));

  expect(sent).toBe(STREAM_WINDOW_BYTES);
  connection.close(1000, "done");
  await expect(writing).rejects.toThrow("done");
});

test("control messages overtake a transfer", async () => {
  const order: string[] = [];
  const [a, b] = socketPair(systemClock, () => 1);
  const done = new Promise<void>((resolve) => {
    const { connection } = connect(b, (message) => {
      order.push(message.type);
      if (message.type === "hello") return;
      void collect(connection.acceptStream(message.stream as number), 1e9).then(() => {
        order.push("end of data");
        resolve();
      });
    });
  });
  const { connection } = connect(a, () => {});

  const stream = connection.openStream();
  connection.send({ type: "data", stream: stream.id });
  const writing = stream.write(new Uint8Array(3 * STREAM_WINDOW_BYTES)).then(() => stream.end());
  connection.send({ type: "hello" });
  await writing;
  await done;

  expect(order).toEqual(["data", "hello", "end of data"]);
  connection.close(1000, "done");
});

test("a reader that stops early stops the sender, and the session goes on", async () => {
  const [a, b] = socketPair(systemClock);
  const { connection: receiver } = connect(b, async (message) => {
    for await (const _ of receiver.acceptStream(message.stream as number)) break;
  });
  const { connection, closed } = connect(a, () => {});

  const stream = connection.openStream();
  connection.send({ type: "data", stream: stream.id });
  const writing = (async () => {
    for (;;) await stream.write(new Uint8Array(1024 * 1024));
  })();

  await expect(writing).rejects.toThrow("stopped");
  expect(closed).toEqual([]);
  connection.close(1000, "done");
});

test("more data than was granted ends the session", async () => {
  const [a, b] = socketPair(systemClock);
  const { connection: receiver, closed } = connect(b, (message) => {
    receiver.acceptStream(message.stream as number);
  });

  await a.send(JSON.stringify({ type: "data", stream: 1 }));
  for (let i = 0; i < 17; i++) {
    const frame = new Uint8Array(16 + 64 * 1024);
    frame[0] = 1;
    frame[7] = 1;
    new DataView(frame.buffer).setBigUint64(8, BigInt(i * 64 * 1024));
    await a.send(frame);
  }
  await new Promise((resolve) => setTimeout(resolve, 50));

  expect(closed).toEqual(["more data than was granted"]);
});

test.each([
  ["no json", "{"],
  ["a short frame", new Uint8Array(3)],
])("%s ends the session with a reason", async (_, data) => {
  const [a, b] = socketPair(systemClock);
  const { closed } = connect(b, () => {});

  await a.send(data);
  await new Promise((resolve) => setTimeout(resolve, 20));

  expect(closed).toHaveLength(1);
});

test("messages that are not dealt with are counted, and a peer that sends too many is cut off and told", async () => {
  const [a, b] = socketPair(systemClock);
  const flooder = connect(a, () => {});
  let handled = 0;
  const closed: string[] = [];
  new Connection<TestMessage, TestMessage>({
    socket: b,
    clock: systemClock,
    parse: (value) => value as TestMessage,
    onMessage: () => {
      handled++;
      return new Promise<void>(() => {});
    },
    onClose: (reason) => closed.push(reason),
    silenceTimeoutMs: 60_000,
  });
  for (let i = 0; i < 2 * WAITING_MESSAGES_MAX; i++) flooder.connection.send({ type: "hello" });

  await expect.poll(() => closed).toEqual([expect.stringMatching(/^too many messages: 4097 of \d+ characters/)]);
  expect(handled).toBe(WAITING_MESSAGES_MAX + 1);
  await expect.poll(() => flooder.closed).toHaveLength(1);
});

test("a handler that fails later ends the connection as one that throws does", async () => {
  const [a, b] = socketPair(systemClock);
  const sender = connect(a, () => {});
  const closed: string[] = [];
  new Connection<TestMessage, TestMessage>({
    socket: b,
    clock: systemClock,
    parse: (value) => value as TestMessage,
    onMessage: async () => {
      throw new Error("it is out of order");
    },
    onClose: (reason) => closed.push(reason),
    silenceTimeoutMs: 60_000,
  });
  sender.connection.send({ type: "hello" });

  await expect.poll(() => closed).toEqual(["it is out of order"]);
});

test("answers that a peer does not read are bounded: it has stalled", async () => {
  const [a] = socketPair(systemClock);
  a.send = () => new Promise(() => {});
  const { connection, closed } = connect(a, () => {});
  const text = "x".repeat(2 ** 20);
  for (let i = 0; i < 200 && closed.length === 0; i++) connection.send({ type: "data", stream: i, text } as never);

  expect(closed).toEqual(["the peer has stalled: too many control messages wait for it"]);
});

test("a process that was stopped itself does not take its peer for gone", async () => {
  const [a, b] = socketPair(systemClock);
  let nowMs = 0;
  const timers: (() => void)[] = [];
  const clock = {
    now: () => nowMs,
    monotonic: () => nowMs,
    schedule: (_ms: number, action: () => void) => {
      timers.push(action);
      return () => {};
    },
  };
  const closed: string[] = [];
  new Connection<TestMessage, TestMessage>({
    socket: a,
    clock,
    parse: (value) => value as TestMessage,
    onMessage: () => {},
    onClose: (reason) => closed.push(reason),
    silenceTimeoutMs: 45_000,
  });
  nowMs = 600_000;
  timers.shift()?.();
  expect(closed).toEqual([]);
  nowMs += 10_000;
  timers.findLast(() => true)?.();
  expect(closed).toEqual([expect.stringMatching(/^nothing was heard for/)]);
  b.close(1000, "done");
});
