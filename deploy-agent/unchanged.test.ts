import { rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { NEW, OLD, withDeployRoot } from "#test/support/deploy-root.ts";

const root = await withDeployRoot();
beforeEach(() => root.reset());
afterAll(() => root[Symbol.asyncDispose]());

const FAILED = (name: string) => `${name}.service loaded failed failed Something\n`;
const last = () => root.reports.at(-1);

describe("a host that has what is wanted is looked at all the same", () => {
  test("a unit that fails after the deployment makes it unhealthy, and its recovery healthy again", async () => {
    root.write("failed-units", FAILED("always"));
    expect(await root.run()).toMatchObject({ code: 0, json: { end: "deployed" } });
    expect(await root.run()).toMatchObject({ code: 0, json: { end: "up-to-date", failed_units: [] } });
    expect(last()).toMatchObject({ step: "unchanged", health: "healthy", failed_units: [], reason: null });

    root.write("failed-units", FAILED("always") + FAILED("web"));
    const ill = await root.run();
    expect(ill).toMatchObject({ code: 0, json: { end: "up-to-date", failed_units: ["web.service"] } });
    expect(ill.stderr).toContain("the host is not healthy");
    expect(last()).toMatchObject({
      step: "unchanged",
      health: "unhealthy",
      failed_units: ["web.service"],
      reason: "units failed: web.service",
      exit_code: 0,
    });
    expect(root.links).toEqual({ profile: NEW, running: NEW });
    expect(root.read("switches").trim()).toBe(`switch ${NEW}`);

    root.write("failed-units", FAILED("always"));
    await root.run();
    expect(last()).toMatchObject({ health: "healthy", failed_units: [] });
  });

  test("the operator's commands count", async () => {
    expect(await root.run()).toMatchObject({ json: { end: "deployed" } });
    const marker = join(root.path, "ready");
    root.set("HEALTH_COMMANDS", JSON.stringify([`test -e ${marker}`]));
    expect(await root.run()).toMatchObject({ code: 0, json: { end: "up-to-date" } });
    expect(last()).toMatchObject({ health: "unhealthy", reason: `\`test -e ${marker}\` ended with 1` });
    root.write("ready", "");
    await root.run();
    expect(last()).toMatchObject({ health: "healthy" });
    rmSync(marker);
  });

  test("of a system that came otherwise, what has failed by the first look is not its fault", async () => {
    root.offer(OLD, 1);
    root.write("failed-units", FAILED("always"));
    expect(await root.run()).toMatchObject({ json: { end: "up-to-date" } });
    expect(last()).toMatchObject({ health: "healthy" });
    root.write("failed-units", FAILED("always") + FAILED("web") + FAILED("gradient-deploy-resume"));
    await root.run();
    expect(last()).toMatchObject({ health: "unhealthy", failed_units: ["web.service"] });
  });
});
