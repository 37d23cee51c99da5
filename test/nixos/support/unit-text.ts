import type { Service } from "./evaluate.ts";

/**
 * The unit as NixOS writes it. Its programs are replaced by one that is there, since systemd's own checks look for
 * them, and what it waits for is left out: those units are of the machine.
 */
export function unitText(service: Service, program: string): string {
  const line = (name: string, value: unknown): string[] => {
    if (value === null || value === undefined) return [];
    if (Array.isArray(value)) return value.flatMap((one) => line(name, one));
    return [`${name}=${/^Exec/.test(name) ? program : value}`];
  };
  const settings = Object.entries(service.serviceConfig).flatMap(([name, value]) => line(name, value));
  return [
    "[Unit]",
    `Description=${service.description}`,
    "[Service]",
    ...Object.entries(service.environment).map(([name, value]) => `Environment=${JSON.stringify(`${name}=${value}`)}`),
    ...(service.serviceConfig.ExecStart === undefined ? [`ExecStart=${program}`] : []),
    ...settings,
    "[Install]",
    ...service.wantedBy.map((target) => `WantedBy=${target}`),
    "",
  ].join("\n");
}
