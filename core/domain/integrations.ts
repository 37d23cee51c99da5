import type { ForgeTypeText, IntegrationKindText } from "../api/integrations.ts";

/** Which way an integration goes: a forge calls the server, or the server calls a forge. Numbers of the database. */
export const IntegrationKind = { inbound: 0, outbound: 1 } as const satisfies Record<IntegrationKindText, number>;

export const ForgeType = {
  gitea: 0,
  forgejo: 1,
  gitlab: 2,
  github: 3,
} as const satisfies Record<ForgeTypeText, number>;

const KIND_NAMES: readonly IntegrationKindText[] = ["inbound", "outbound"];
const FORGE_NAMES: readonly ForgeTypeText[] = ["gitea", "forgejo", "gitlab", "github"];

/** The name on the API of a number in the database, which allows no others. */
export function integrationKindName(kind: number): IntegrationKindText {
  return KIND_NAMES[kind] as IntegrationKindText;
}

export function forgeTypeName(forgeType: number): ForgeTypeText {
  return FORGE_NAMES[forgeType] as ForgeTypeText;
}
