import { randomBytes } from "node:crypto";
import type { OrganizationDetail } from "#core/api/organizations.ts";
import { type Api, ApiError } from "./api.ts";
import type { DataFolder } from "./data-folder.ts";
import { QuickstartError } from "./problem.ts";

export interface Login {
  readonly username: string;
  readonly password: string;
}

export interface Account {
  readonly login: Login;
  readonly apiKey: string;
  /** With the API key. */
  readonly api: Api;
}

/** Kept in the data folder, mode 0600. */
export const LOGIN_FILE = "login.json";
const KEY_FILE = "api-key";
const KEY_NAME = "quickstart";
const USERNAME = "owner";

/** The names under which the quickstart keeps what it makes. */
export const ORGANIZATION = "quickstart";
export const CACHE = "main";

/** The first user, who owns everything else, and a key for programs. Both are made once and kept. */
export async function openAccount(api: Api, data: DataFolder): Promise<Account> {
  const login = await keptLogin(data);
  const token = await signIn(api, login);
  const kept = (await data.read(KEY_FILE))?.trim();
  const apiKey = kept && (await works(api.as(kept))) ? kept : await makeKey(api.as(token), data);
  return { login, apiKey, api: api.as(apiKey) };
}

/** Answers the organization's id. */
export async function openOrganization(api: Api): Promise<string> {
  await unlessThere(
    api.send("PUT", "/api/v1/orgs", {
      name: ORGANIZATION,
      display_name: "Quickstart",
      description: "Made by quickstart",
    }),
  );
  return (await api.get<OrganizationDetail>(`/api/v1/orgs/${ORGANIZATION}`)).id;
}

/** A cache that everybody reads who reaches the server (this machine alone). Answers its public key. */
export async function openCache(api: Api): Promise<string> {
  await unlessThere(
    api.send("PUT", "/api/v1/caches", {
      name: CACHE,
      display_name: "Main",
      description: "Made by quickstart",
      // Before cache.nixos.org, which has 40.
      priority: 30,
      public: true,
    }),
  );
  await unlessThere(api.send("POST", `/api/v1/orgs/${ORGANIZATION}/subscribe/${CACHE}`, { mode: "ReadWrite" }));
  return await api.get<string>(`/api/v1/caches/${CACHE}/public-key`);
}

async function keptLogin(data: DataFolder): Promise<Login> {
  const kept = await data.read(LOGIN_FILE);
  if (kept !== null) {
    try {
      const { username, password } = JSON.parse(kept) as Partial<Login>;
      if (typeof username === "string" && typeof password === "string") return { username, password };
    } catch {
      // Said below.
    }
    throw new QuickstartError(`${data.at(LOGIN_FILE)} holds no login: restore it, or start anew with --data DIR`);
  }
  const login = { username: USERNAME, password: makePassword() };
  // Kept before it is used: a run that is cut short leaves no account whose password nobody knows.
  await data.keep(LOGIN_FILE, `${JSON.stringify(login)}\n`);
  return login;
}

/** Has what the server asks for: upper and lower case, a digit, a special character, and no run of any kind. */
export function makePassword(): string {
  for (;;) {
    const password = `${randomBytes(15).toString("base64url")}-Gd7`;
    const codes = [...password].map((character) => character.charCodeAt(0));
    const isRun = (step: number, length: number) =>
      codes.some((_, i) => {
        const run = codes.slice(i, i + length);
        return run.length === length && run.every((code, j) => code === (run[0] as number) + j * step);
      });
    if (!isRun(0, 3) && !isRun(1, 4) && !/password/i.test(password)) return password;
  }
}

async function signIn(api: Api, login: Login): Promise<string> {
  const sign = () =>
    api.send<string>("POST", "/api/v1/auth/basic/login", { loginname: login.username, password: login.password });
  try {
    return await sign();
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
  }
  try {
    const user = { ...login, name: "Owner", email: `${login.username}@localhost` };
    await api.send("POST", "/api/v1/auth/basic/register", user);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 409) throw error;
    throw new QuickstartError(
      `the server knows a user ${login.username} with another password than the one in ${LOGIN_FILE}: restore that ` +
        "file, or start anew with --data DIR",
    );
  }
  return await sign();
}

async function works(api: Api): Promise<boolean> {
  try {
    await api.get("/api/v1/user");
    return true;
  } catch (error) {
    if (error instanceof ApiError && (error.status === 401 || error.status === 403)) return false;
    throw error;
  }
}

async function makeKey(session: Api, data: DataFolder): Promise<string> {
  const { available_permissions } = await session.get<{ available_permissions: { id: string }[] }>(
    "/api/v1/user/keys/permissions",
  );
  const order = { name: KEY_NAME, permissions: available_permissions.map(({ id }) => id) };
  const make = () => session.send<string>("POST", "/api/v1/user/keys", order);
  const key = await make().catch(async (error: unknown) => {
    if (!(error instanceof ApiError) || error.status !== 409) throw error;
    // Its text was lost, and it cannot be shown again.
    await session.send("DELETE", "/api/v1/user/keys", { name: KEY_NAME });
    return await make();
  });
  await data.keep(KEY_FILE, `${key}\n`);
  return key;
}

async function unlessThere(request: Promise<unknown>): Promise<void> {
  try {
    await request;
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 409) throw error;
  }
}
