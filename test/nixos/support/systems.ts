import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Service, System } from "./evaluate.ts";

const SNIPPETS = join(import.meta.dirname, "../snippets");

/** The text of the documentation, to the letter. */
export function snippet(name: string): string {
  return readFileSync(join(SNIPPETS, `${name}.txt`), "utf8");
}

/** A system with the server's module and these texts, each as the body of a module of its own. */
export function withServer(...texts: readonly string[]): string {
  return withModules(["default"], texts);
}

/** A system with the worker's module and these texts. */
export function withWorker(...texts: readonly string[]): string {
  return withModules(["gradient-worker"], texts);
}

export function withModules(names: readonly string[], texts: readonly string[]): string {
  const modules = names.map((name) => `inputs.gradient.nixosModules.${name}`);
  const bodies = texts.map((text) => `({ inputs, lib, ... }: {\n${text}\n})`);
  return `{ inputs, ... }: { imports = [ ${[...modules, ...bodies].join("\n")} ]; }`;
}

/** A server that lacks nothing, and a worker of a server elsewhere. */
export const MINIMAL: string = snippet("minimal");
export const REMOTE_WORKER = `services.gradient.worker = {
  enable = true;
  serverUrl = "wss://gradient.example.com/proto";
  peersFile = "/run/secrets/peers";
};`;

/** A system that is there, with all assertions true. */
export function sound(system: System | null): System {
  if (!system) throw new Error("the system is refused");
  if (system.failed.length > 0) throw new Error(system.failed.join("\n"));
  return system;
}

export function unitOf(system: System | null, name: string): Service {
  const service = sound(system).services[name];
  if (!service) throw new Error(`there is no unit ${name}`);
  return service;
}

export function credentialsOf({ serviceConfig }: Service): Record<string, string> {
  const written = (serviceConfig.LoadCredential ?? []) as readonly string[];
  const entries = written.map((entry) => entry.split(/:(.*)/s).slice(0, 2));
  return Object.fromEntries(entries) as Record<string, string>;
}

/**
 * The environment as systemd gives it to the unit, with its credentials in a folder. `contents` are those that must not
 * be just any text.
 */
export function startedEnvironment(
  service: Service,
  folder: string,
  contents: Readonly<Record<string, string>> = {},
): Record<string, string> {
  mkdirSync(folder, { recursive: true });
  for (const name of Object.keys(credentialsOf(service))) {
    writeFileSync(
      join(folder, name),
      contents[name] ?? "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    );
  }
  const expanded = Object.entries(service.environment).map(([name, value]) => [
    name,
    value.replace(/%(.)/g, (whole, letter: string) => {
      if (letter === "%") return "%";
      if (letter === "d") return folder;
      throw new Error(`${name} holds the specifier ${whole}`);
    }),
  ]);
  return Object.fromEntries(expanded) as Record<string, string>;
}
