import { createServer } from "node:net";
import { join } from "node:path";
import { SERVICE_OPTIONS } from "../node-options.ts";
import { Api, ApiError } from "./api.ts";
import type { DataFolder } from "./data-folder.ts";
import { QuickstartError } from "./problem.ts";
import { Service } from "./service.ts";

export interface ServerOptions {
  /** The clone. */
  readonly root: string;
  readonly port: number;
  /** The repository that the person named: the server may connect to it on this machine as well. */
  readonly repositoryUrl: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

const ADDRESS = "127.0.0.1";
/** The first start makes a database. */
const START_MS_MAX = 120_000;
const STOP_MS = 32_000;

/** Throws `QuickstartError` when somebody else listens there. */
export async function requireFreePort(port: number): Promise<void> {
  const probe = createServer();
  const error = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
    probe.once("error", resolve);
    probe.listen(port, ADDRESS, () => probe.close(() => resolve(null)));
  });
  if (error === null) return;
  if (error.code === "EADDRINUSE") {
    throw new QuickstartError(`port ${port} is in use by another program: end it, or choose another one with --port N`);
  }
  throw new QuickstartError(`port ${port} cannot be used (${error.message}): choose another one with --port N`);
}

/** Starts the server as in production, and waits until it answers. */
export async function startServer(
  data: DataFolder,
  options: ServerOptions,
): Promise<{ readonly service: Service; readonly url: string }> {
  const { root, port, repositoryUrl, environment, signal } = options;
  const url = `http://${ADDRESS}:${port}`;
  const service = Service.start({
    name: "the server",
    command: process.execPath,
    args: [...SERVICE_OPTIONS, join(root, "runtime", "node", "main.ts")],
    environment: {
      ...environment,
      GRADIENT_IP: ADDRESS,
      GRADIENT_PORT: String(port),
      GRADIENT_SERVE_URL: url,
      GRADIENT_BASE_PATH: data.at("server"),
      GRADIENT_ALLOW_LOCAL_SOURCES: "true",
      ...(isOnThisMachine(repositoryUrl) ? { GRADIENT_OUTBOUND_ALLOW: "127.0.0.0/8,::1/128" } : {}),
    },
    folder: root,
    logPath: join(await data.makeFolder("logs"), "server.log"),
    deathSignal: "TERM",
    stopMs: STOP_MS,
  });
  try {
    const api = new Api(url, signal);
    await service.waitFor(() => isAlive(api), START_MS_MAX, signal);
    return { service, url };
  } catch (error) {
    await service.stop();
    throw error;
  }
}

/** Whether a repository is served from this machine; without that the server never connects to it. */
export function isOnThisMachine(url: string): boolean {
  const place =
    /^(?:git\+)?(?:https?|ssh):\/\/([^/?]*)/i.exec(url)?.[1] ?? /^[^:/]+@(?:\[[^\]]*\]|[^:/]+)(?=:)/.exec(url)?.[0];
  const host = place
    ?.slice(place.lastIndexOf("@") + 1)
    .replace(/:\d+$/, "")
    .toLowerCase();
  return host !== undefined && /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/.test(host);
}

async function isAlive(api: Api): Promise<true | null> {
  try {
    await api.get("/api/v1/health");
    return true;
  } catch (error) {
    if (error instanceof QuickstartError || error instanceof ApiError) return null;
    throw error;
  }
}
