import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nixAvailable } from "../support/nix.ts";
import { type Fleet, PROJECT, type Published, withFleet } from "./support/fleet.ts";
import { isWhole } from "./support/host.ts";
import { type Death, dieAt, eventsOf, type Moment, noteEvents, putBack } from "./support/kill-points.ts";
import { expectSettled } from "./support/server-view.ts";

const nix = nixAvailable();
/** Every moment in both ways takes minutes; otherwise each kind of event is met once, in one way or the other. */
const ALL = process.env.GRADIENT_TEST_DEPLOY_KILLS === "all";

interface Story {
  readonly title: string;
  readonly host: string;
  /** Whether the new system's switch fails. */
  readonly fails: boolean;
  /** Before this event it is what the other story tells. */
  readonly from: string;
}

const STORIES: readonly Story[] = [
  { title: "an update", host: "alpha", fails: false, from: "GET alpha/wanted asked" },
  { title: "an update that fails and is rolled back", host: "beta", fails: true, from: "switch to new begins" },
];

describe.skipIf(!nix.ok)("an agent that dies leaves a whole system, and its next run comes to the same end", () => {
  let fleet: Fleet;
  let old: Published;
  let wanted: Published;
  beforeAll(async () => {
    const hosts = STORIES.map(({ host }) => host);
    fleet = await withFleet({ label: "old", hosts });
    // What fails on one is no matter of the other here.
    await fleet.gradient.api.request("PATCH", `/projects/${PROJECT}`, { deploy_hold: false });
    old = await fleet.evaluate();
    wanted = await fleet.publish({ label: "new", hosts });
  });
  afterAll(() => fleet?.[Symbol.asyncDispose]());

  test.each(STORIES)("in the middle of $title", { timeout: 600_000 }, async ({ host: name, fails, from }) => {
    const paths = { old: old.systems[name] as string, wanted: wanted.systems[name] as string };
    const end = fails ? paths.old : paths.wanted;
    const host = await fleet.hostWith(name, paths.old);
    await noteEvents(host, fleet.network);
    if (fails) await writeFile(join(host.root, "behaviour/new.fails"), "");
    const { events, run } = await eventsOf(host);
    expect(run.end).toBe(fails ? "rolled-back" : "deployed");
    await expectSettled(fleet, host, end);
    expect(events.length).toBeGreaterThan(10);
    for (const [moment, death] of chosen(events, from)) {
      const at = `${death} when «${moment.event}» for the time ${moment.time}`;
      await putBack(host, paths.old);
      await fleet.gradient.api.request("POST", `/projects/${PROJECT}/hosts/${name}/release`, {});
      const died = await dieAt(host, moment, death);
      expect(died.code, at).toBe(null);
      const { profile, current, bootDefault } = await host.present();
      for (const path of new Set([profile, current, bootDefault])) {
        expect([paths.old, paths.wanted], at).toContain(path);
        expect(await isWhole(host, path as string), at).toBe(true);
      }
      const next = await host.run();
      await expectSettled(fleet, host, end).catch((error: unknown) => {
        throw new Error(`${at}: ${died.output}\nthe next run: ${next.output}`, { cause: error });
      });
    }
  });
});

function* chosen(events: readonly string[], from: string): Generator<readonly [moment: Moment, death: Death]> {
  const met = new Map<string, number>();
  let chosenCount = 0;
  for (const [index, event] of events.entries()) {
    const time = (met.get(event) ?? 0) + 1;
    met.set(event, time);
    // How often it asks whether a switch still runs is a matter of time.
    if (index < events.indexOf(from) || event.includes("systemctl show")) continue;
    const moment = { event, time };
    const isBetweenProfileAndSwitch = time === 1 && /^nix-env .* has ended$/.test(event);
    if (ALL || isBetweenProfileAndSwitch) yield* [[moment, "killed"] as const, [moment, "power"] as const];
    else if (time === 1) yield [moment, chosenCount++ % 2 === 0 ? "killed" : "power"];
  }
}
