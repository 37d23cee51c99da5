import { expect } from "vitest";
import { type Fleet, PROJECT } from "./fleet.ts";
import { type Host, isWhole } from "./host.ts";

/** What `GET /projects/{organization}/{project}/hosts/{host}` says, as far as tests ask. */
export interface HostView {
  readonly host: string;
  readonly known: boolean;
  readonly state: "deploy" | "none" | "held" | "waiting";
  readonly reason: string | null;
  readonly wanted: { readonly store_path: string; readonly build_id: string; readonly commit: string } | null;
  readonly up_to_date: boolean | null;
  readonly present: { readonly store_path: string; readonly build_id: string | null } | null;
  readonly booted_path: string | null;
  readonly generation: number | null;
  readonly health: "healthy" | "unhealthy" | "unknown";
  readonly failed_units: readonly string[];
  readonly health_reason: string | null;
  readonly last_contact_at: string | null;
  readonly failed_paths: readonly { readonly store_path: string; readonly reason: string | null }[];
  readonly last_run: RunView | null;
}

export interface RunView {
  readonly id: string;
  readonly mode: string;
  readonly step: string;
  readonly reason: string | null;
  readonly store_path: string | null;
  readonly exit_code: number | null;
  readonly ended_at: string | null;
  readonly steps: readonly { readonly sequence: number; readonly step: string }[];
}

export function viewOf({ gradient }: Fleet, name: string): Promise<HostView> {
  return gradient.api.request("GET", `/projects/${PROJECT}/hosts/${name}`);
}

/** Newest first. */
export async function historyOf({ gradient }: Fleet, name: string): Promise<readonly RunView[]> {
  const path = `/projects/${PROJECT}/hosts/${name}/history`;
  return (await gradient.api.request<{ items: RunView[] }>("GET", path)).items;
}

/** The names of a run's steps in their order. */
export function stepsOf(run: RunView | null | undefined): string[] {
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
