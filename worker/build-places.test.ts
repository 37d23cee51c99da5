import { expect, test } from "vitest";
import type { Clock } from "#core/lib/clock.ts";
import { BuildPlaces } from "./build-places.ts";

/** Time stands still until it is told to pass. */
function begin({ places = 2, askedMax = 0, preparedMax = 2 } = {}) {
  let nowMs = 0;
  let timers: { readonly at: number; readonly action: () => void }[] = [];
  const clock: Clock = {
    now: () => nowMs,
    monotonic: () => nowMs,
    schedule: (ms, action) => {
      const timer = { at: nowMs + ms, action };
      timers.push(timer);
      return () => {
        timers = timers.filter((one) => one !== timer);
      };
    },
  };
  const pass = (ms: number) => {
    nowMs += ms;
    const due = timers.filter(({ at }) => at <= nowMs);
    timers = timers.filter(({ at }) => at > nowMs);
    for (const { action } of due) action();
  };
  const begun: string[] = [];
  const prepared: string[] = [];
  const givenBack: string[] = [];
  const builds = new BuildPlaces({
    clock,
    places: () => places,
    askedMax: () => askedMax,
    preparedMax,
    giveBack: (id) => {
      givenBack.push(id);
      builds.left(id);
    },
  });
  const arrive = (...ids: string[]) => {
    for (const id of ids) {
      void builds.arrived(id).then(() => prepared.push(id));
      void builds.mayBegin(id).then(() => begun.push(id));
    }
  };
  /** Builds one that takes so long, and delivers it in as long. */
  const build = (id: string, ms: number) => {
    arrive(id);
    pass(ms);
    builds.builderEnded(id);
    pass(ms);
    builds.left(id);
  };
  return { builds, prepared, begun, givenBack, arrive, build, pass };
}

test("a worker of which nothing is known asks for as many builds as it has places, and no more", () => {
  const { builds, arrive } = begin();
  expect(builds.ask()).toBe(2);
  expect(builds.ask()).toBe(0);
  arrive("a", "b");
  expect(builds.ask()).toBe(0);
  expect(builds.hasRoom).toBe(false);
});

test("what was asked for in a session that is over is asked for again", () => {
  const { builds } = begin();
  expect(builds.ask()).toBe(2);
  builds.forgetAsked();
  expect(builds.ask()).toBe(2);
});

test("while builds are quick more are asked for than can begin, a place-full at a time, in their order", async () => {
  const { builds, begun, arrive, build, pass } = begin();
  build("first", 10);
  expect(builds.ask()).toBe(2);
  arrive("a", "b");
  expect(builds.ask()).toBe(2);
  arrive("c", "d");
  expect(builds.ask()).toBe(2);
  arrive("e", "f");
  expect(builds.ask()).toBe(0);
  pass(10);
  await Promise.resolve();
  expect(begun).toEqual(["first", "a", "b"]);
  builds.builderEnded("a");
  await Promise.resolve();
  expect(begun).toEqual(["first", "a", "b", "c"]);
  // One alone is not worth an answer.
  expect(builds.ask()).toBe(0);
  builds.builderEnded("b");
  expect(builds.ask()).toBe(2);
});

test("a build that waits for one that takes its time goes back to the server, and no more are asked for", async () => {
  const { builds, begun, givenBack, arrive, build, pass } = begin({ places: 1 });
  build("first", 10);
  builds.ask();
  arrive("long");
  builds.ask();
  arrive("waits");
  expect(builds.waiting).toEqual(["waits"]);
  pass(2_000);
  await Promise.resolve();
  expect(givenBack).toEqual(["waits"]);
  expect(begun).toEqual(["first", "long"]);
  expect(builds.ask()).toBe(0);
  builds.builderEnded("long");
  expect(builds.ask()).toBe(1);
});

test("deliveries that keep up hold no builds back, and those that do not hold them all back", () => {
  const { builds, arrive, build, pass } = begin({ places: 1 });
  build("first", 10);
  for (const id of ["a", "b", "c", "d"]) {
    builds.forgetAsked();
    arrive(id);
    pass(5);
    builds.builderEnded(id);
  }
  arrive("e");
  expect(builds.waiting).toEqual([]);
  builds.builderEnded("e");
  pass(300);
  arrive("f");
  expect(builds.waiting).toEqual(["f"]);
  for (const id of ["a", "b", "c"]) builds.left(id);
  expect(builds.waiting).toEqual(["f"]);
  builds.left("d");
  expect(builds.waiting).toEqual([]);
});

test("a build that ended in whatever way leaves its place to the next", async () => {
  const { builds, begun, arrive } = begin({ places: 1 });
  arrive("a");
  builds.left("a");
  expect(builds.ask()).toBe(1);
  arrive("b");
  await Promise.resolve();
  expect(begun).toEqual(["a", "b"]);
});

test("the quicker builds are, the more are asked for at one time, where the server takes it", () => {
  const quick = begin({ askedMax: 16 });
  quick.build("first", 2);
  expect(quick.builds.ask()).toBe(16);
  const slower = begin({ askedMax: 16 });
  slower.build("first", 20);
  // Two places for 100 ms: ten builds, and two that begin.
  expect(slower.builds.ask()).toBe(12);
  const slow = begin({ askedMax: 16 });
  slow.build("first", 200);
  expect(slow.builds.ask()).toBe(6);
});

test("a build that takes longer than those before it keeps others from being asked for", () => {
  const { builds, build, arrive, pass } = begin({ askedMax: 16 });
  build("first", 2);
  expect(builds.ask()).toBe(16);
  arrive(...Array.from({ length: 16 }, (_, n) => String(n)));
  pass(100);
  for (const id of ["0", "2", "3", "4"]) builds.builderEnded(id);
  // One runs for 100 ms now: two place-fulls ahead are enough, and there are more.
  expect(builds.ask()).toBe(0);
});

test("two builds that wait are prepared, and the others when their turn comes", async () => {
  const { builds, prepared, begun, arrive } = begin({ places: 1 });
  arrive("a", "b", "c", "d");
  await Promise.resolve();
  expect(prepared).toEqual(["a", "b", "c"]);
  builds.builderEnded("a");
  await Promise.resolve();
  expect(prepared).toEqual(["a", "b", "c", "d"]);
  expect(begun).toEqual(["a", "b"]);
});

test("where there are no connections to spare nothing is prepared without a place", async () => {
  const { builds, prepared, arrive } = begin({ places: 1, preparedMax: 0 });
  arrive("a", "b");
  await Promise.resolve();
  expect(prepared).toEqual(["a"]);
  builds.builderEnded("a");
  await Promise.resolve();
  expect(prepared).toEqual(["a", "b"]);
});
