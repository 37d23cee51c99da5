import { type Context, Hono } from "hono";
import { HoldBody, HostReportBody, WantedQuery } from "#core/api/hosts.ts";
import { PageQuery } from "#core/api/pages.ts";
import { success } from "#core/http/envelope.ts";
import {
  forgetHost,
  type HoldDeps,
  holdDeployment,
  listProjectHolds,
  releaseDeployment,
  releaseFailedHost,
} from "#core/services/deployments-holds.ts";
import { awaitWanted, type HostAddress, type WantedDeps } from "#core/services/deployments-wanted.ts";
import { FleetWatch, type FleetWatchDeps } from "#core/services/deployments-watch.ts";
import { getHost, listHostHistory, listOrganizationHosts, listProjectHosts } from "#core/services/hosts.ts";
import { type HostReportDeps, reportDeployment } from "#core/services/hosts-report.ts";
import { StreamPlaces } from "./builds-streams.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { parseId, readJson, readQuery } from "./parse.ts";

export type HostDeps = WantedDeps & FleetWatchDeps & HostReportDeps & HoldDeps;

/** Hosts that one server lets wait at a time: each is an open connection and a few hundred bytes. */
const WAITING_MAX = 2_000;
/** One key may be that of a whole fleet. */
const CLIENT_WAITING_MAX = 1_000;

/** What hosts are to run, and what they do run. */
export function hostRoutes(
  deps: HostDeps,
  { clientWaitingMax = CLIENT_WAITING_MAX }: { readonly clientWaitingMax?: number } = {},
): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const watch = new FleetWatch(deps);
  const places = new StreamPlaces(WAITING_MAX);

  app.get("/orgs/:organization/hosts", signedIn, async (c) => {
    const { organization } = c.req.param();
    return c.json(success(await listOrganizationHosts(deps, c.get("actor"), organization, readQuery(c, PageQuery))));
  });

  app.get("/projects/:organization/:project/hosts", signedIn, async (c) => {
    return c.json(success(await listProjectHosts(deps, c.get("actor"), c.req.param(), readQuery(c, PageQuery))));
  });

  app.get("/projects/:organization/:project/hosts/:host", signedIn, async (c) => {
    return c.json(success(await getHost(deps, c.get("actor"), addressOf(c))));
  });

  app.delete("/projects/:organization/:project/hosts/:host", signedIn, async (c) => {
    await forgetHost(deps, c.get("actor"), addressOf(c));
    return c.json(success("Host forgotten"));
  });

  app.get("/projects/:organization/:project/hosts/:host/wanted", async (c) => {
    const query = readQuery(c, WantedQuery);
    const mayWait = (query.wait ?? 0) > 0 && query.seen_state !== undefined;
    const leave = mayWait ? places.of(clientOf(c), clientWaitingMax).take() : () => {};
    try {
      const options = { query, watch, signal: c.req.raw.signal };
      return c.json(success(await awaitWanted(deps, c.get("actor"), addressOf(c), options)));
    } finally {
      leave();
    }
  });

  app.post("/projects/:organization/:project/hosts/:host/reports", signedIn, async (c) => {
    const body = await readJson(c, HostReportBody);
    return c.json(success(await reportDeployment(deps, c.get("actor"), addressOf(c), body)));
  });

  app.get("/projects/:organization/:project/hosts/:host/history", signedIn, async (c) => {
    return c.json(success(await listHostHistory(deps, c.get("actor"), addressOf(c), readQuery(c, PageQuery))));
  });

  app.post("/projects/:organization/:project/hosts/:host/release", signedIn, async (c) => {
    await releaseFailedHost(deps, c.get("actor"), addressOf(c));
    return c.json(success("Host released"));
  });

  app.get("/projects/:organization/:project/deployments", signedIn, async (c) => {
    return c.json(success(await listProjectHolds(deps, c.get("actor"), c.req.param(), readQuery(c, PageQuery))));
  });

  app.post("/projects/:organization/:project/deployments/:build/hold", signedIn, async (c) => {
    const body = await readJson(c, HoldBody);
    await holdDeployment(deps, c.get("actor"), deploymentOf(c), body);
    return c.json(success("Commit held"));
  });

  app.post("/projects/:organization/:project/deployments/:build/release", signedIn, async (c) => {
    await releaseDeployment(deps, c.get("actor"), deploymentOf(c));
    return c.json(success("Commit released"));
  });

  return app;
}

function projectOf(c: Context<AppEnv>) {
  return { organization: c.req.param("organization") ?? "", project: c.req.param("project") ?? "" };
}

function addressOf(c: Context<AppEnv>): HostAddress {
  return { ...projectOf(c), host: c.req.param("host") ?? "" };
}

function deploymentOf(c: Context<AppEnv>) {
  return { ...projectOf(c), build: parseId(c.req.param("build") ?? "", "build id") };
}

/** Who is signed in, wherever they are; else an address, or of IPv6 the network that one host has. */
function clientOf(c: Context<AppEnv>): string {
  return c.get("actor").user?.id ?? c.get("client").network;
}
