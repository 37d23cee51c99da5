import { expect, test } from "vitest";
import { isHandingOver, statusLine } from "./work-status.ts";

const BUILD = { kind: "build" } as const;
const RESULT = { kind: "build", builderEnded: true } as const;
const EVALUATION = { kind: "evaluation", builderEnded: false } as const;
const IDLE = { isConnected: true, isStopping: false, running: [] };

test.each([
  [IDLE, "connected to a server; nothing runs"],
  [{ ...IDLE, isConnected: false }, "no server is connected, trying again; nothing runs"],
  [
    { ...IDLE, running: [BUILD, BUILD, EVALUATION, RESULT] },
    "connected to a server; 2 builds, 1 evaluation, 1 result on the way to the server",
  ],
  [{ ...IDLE, isStopping: true, running: [BUILD] }, "stopping when what runs is done; connected to a server; 1 build"],
  [{ ...IDLE, workers: 2 }, "connected to a server; 2 workers behind this relay; nothing runs"],
  [{ ...IDLE, workers: 0 }, "connected to a server; no worker behind this relay; nothing runs"],
])("what a worker does is one line for people: %o", (state, line) => {
  expect(statusLine(state)).toBe(line);
});

test("only a stop that waits for nothing but results asks for more time", () => {
  const stopping = { ...IDLE, isStopping: true };
  expect(isHandingOver({ ...stopping, running: [RESULT, RESULT] })).toBe(true);
  for (const other of [BUILD, EVALUATION]) expect(isHandingOver({ ...stopping, running: [RESULT, other] })).toBe(false);
  expect(isHandingOver(stopping)).toBe(false);
  expect(isHandingOver({ ...IDLE, running: [RESULT] })).toBe(false);
});
