import { expect } from "vitest";
import type { DeploymentView, HostView } from "#core/api/hosts.ts";
import { type Fleet, PROJECT } from "./fleet.ts";
import { type Host, isWhole } from "./host.ts";

export function viewOf({ gradient }: Fleet, name: string): Promise<HostView> {
  return gradient.api.request("GET", `/projects/${PROJECT}/hosts/${name}`);
}

/** Newest first. */
export async function historyOf({ gradient }: Fleet, name: string): Promise<readonly DeploymentView[]> {
  const path = `/projects/${PROJECT}/hosts/${name}/history`;
  return (await gradient.api.request<{ items: DeploymentView[] }>("GET", path)).items;
}

/** The names of a run's steps in their order. */
export function stepsOf(run: DeploymentView | null | undefined): string[] {
  return (run?.steps ?? []).toSorted((a, b) => a.sequence - b.sequence).map(({ step }) => step);
}

/**
 * The host runs this system and starts it at the next boot, nothing of it is half made, and the server's view is the
 * truth.
 */
export async function expectSettled(fleet: Fleet, host: Host, path: string): Promise<void> {
  await expectRuns(host, path);
  const [view, present] = await Promise.all([viewOf(fleet, host.name), host.present()]);
  expect(view).toMatchObject({ known: true, present: { store_path: path }, booted_path: present.booted });
}

/** As `expectSettled`, where the server need not know. */
export async function expectRuns(host: Host, path: string): Promise<void> {
  expect(await host.present()).toMatchObject({ profile: path, current: path, bootDefault: path });
  expect(await isWhole(host, path), `${path} is whole`).toBe(true);
  const last = (await host.switches()).at(-1);
  expect(last, "the last switch script came to a good end").toMatch(/^end \S+ \S+ 0$/);
}
