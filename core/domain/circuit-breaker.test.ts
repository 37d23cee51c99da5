import { expect, test } from "vitest";
import { CircuitBreaker } from "./circuit-breaker.ts";

function breaker() {
  const clock = { now: 0 };
  return { clock, circuit: new CircuitBreaker(() => clock.now) };
}

test("five failures in a row open it, a success in between begins anew", () => {
  const { circuit } = breaker();
  for (let i = 0; i < 4; i++) expect(circuit.failed({ hopeless: false })).toBe(false);
  circuit.succeeded();
  for (let i = 0; i < 4; i++) expect(circuit.failed({ hopeless: false })).toBe(false);
  expect(circuit.enter()).toBe(true);
  expect(circuit.failed({ hopeless: false })).toBe(true);
  expect(circuit.enter()).toBe(false);
});

test("a hopeless failure opens it at once", () => {
  const { circuit } = breaker();
  expect(circuit.failed({ hopeless: true })).toBe(true);
  expect(circuit.enter()).toBe(false);
});

test("after 30 s one is let through; its failure keeps it open as long again, its success closes it", () => {
  const { clock, circuit } = breaker();
  circuit.failed({ hopeless: true });
  clock.now = 29_999;
  expect(circuit.enter()).toBe(false);
  clock.now = 30_000;
  expect([circuit.enter(), circuit.enter()]).toEqual([true, false]);
  expect(circuit.failed({ hopeless: false })).toBe(false);
  clock.now = 59_999;
  expect(circuit.enter()).toBe(false);
  clock.now = 60_000;
  expect(circuit.enter()).toBe(true);
  circuit.succeeded();
  expect([circuit.closed, circuit.enter(), circuit.enter()]).toEqual([true, true, true]);
});

test("a trial that was given up leaves room for the next", () => {
  const { clock, circuit } = breaker();
  circuit.failed({ hopeless: true });
  clock.now = 30_000;
  expect(circuit.enter()).toBe(true);
  circuit.abandoned();
  expect(circuit.enter()).toBe(true);
});
