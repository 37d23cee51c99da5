import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { type IpNetwork, parseIpNetwork } from "#core/domain/ip-address.ts";
import type { Mail } from "#core/ports/mailer.ts";
import { deliverActions } from "#core/services/action-delivery.ts";
import { type AppDeps, createApp } from "#handlers/app.ts";
import { createOutbound } from "#runtime/node/outbound.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import { insertCacheOf, insertProjectRow, newId } from "../support/rows.ts";

export interface Received {
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface ActionProject {
  readonly id: string;
  readonly name: string;
  /** Of its actions. */
  readonly path: string;
}

export interface ActionsBench extends AsyncDisposable {
  /** Without mail. */
  readonly api: BuildsApi;
  /** With mail, and with a way to this machine. */
  readonly deps: AppDeps;
  /** Where somebody listens. */
  readonly url: string;
  /** What that says; a redirect leads to itself. */
  answer: { status: number; body: string };
  /** What sending a mail fails with. */
  mailError: Error | null;
  readonly received: Received[];
  readonly mails: Mail[];
  readonly ask: BuildsApi["ask"];
  project(): Promise<ActionProject>;
  /** A web request to the listener, as a body. */
  hook(events?: readonly string[]): Record<string, unknown>;
  deliveries(path: string, id: string): ReturnType<BuildsApi["ask"]>;
  /** Whatever waits between attempts waits no more. */
  deliverAll(): Promise<void>;
  forget(): void;
}

/** The application with somebody who listens, and with mails that go nowhere. */
export async function withActions(): Promise<ActionsBench> {
  const api = await withBuildsApi();
  const { db, organizationId } = api;
  await insertCacheOf(db, organizationId);
  const listener = createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    bench.received.push({ headers: request.headers, body });
    response.writeHead(bench.answer.status, { location: bench.url }).end(bench.answer.body);
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(listener.address() as AddressInfo).port}/hook`;
  const outbound = createOutbound({ allowed: [parseIpNetwork("127.0.0.1/32") as IpNetwork], privateAllowed: false });
  const send = async (mail: Mail) => {
    if (bench.mailError) throw bench.mailError;
    bench.mails.push(mail);
  };
  const settings = { ...api.deps.settings, mail: { verificationRequired: false } };
  const deps = { ...api.deps, settings, actions: { web: outbound, mailer: { send } } };
  const app = createApp(deps);
  const ask: BuildsApi["ask"] = async (method, path, user = api.admin, body) => {
    const response = await app.request(`http://127.0.0.1:3000/api/v1${path}`, {
      method,
      headers: {
        ...(user && { authorization: `Bearer ${user.token}` }),
        ...(body !== undefined && { "content-type": "application/json" }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, text, ...JSON.parse(text) };
  };
  const bench: ActionsBench = {
    ...{ api, deps, url, ask },
    answer: { status: 200, body: "thanks" },
    mailError: null,
    received: [],
    mails: [],
    async project() {
      const name = `p-${newId()}`;
      const id = await insertProjectRow(db, { organizationId, name });
      return { id, name, path: `/projects/acme/${name}/actions` };
    },
    hook: (events = []) => ({ name: "hook", config: { type: "send_web_request", url }, events }),
    deliveries: (path, id) => ask("GET", `${path}/${id}/deliveries`),
    async deliverAll() {
      await db.updateTable("project_action").set({ paused_until: null }).execute();
      const pending = db.updateTable("action_delivery").where("delivered_at", "is", null);
      await pending.set({ due_at: new Date(0) }).execute();
      while (await deliverActions(deps));
    },
    forget() {
      Object.assign(bench, { answer: { status: 200, body: "thanks" }, mailError: null });
      bench.received.length = 0;
      bench.mails.length = 0;
    },
    async [Symbol.asyncDispose]() {
      outbound.close();
      listener.closeAllConnections();
      await new Promise((resolve) => listener.close(resolve));
      await api[Symbol.asyncDispose]();
    },
  };
  return bench;
}
