import { keyMayCreate } from "../domain/access.ts";
import { type Actor, type ActorUser, requireUser } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import type { CreationGate } from "./deps.ts";

/** The user, when the operator and the key at hand allow them to create `what` ("organizations"). */
export function requireCreator(actor: Actor, gate: CreationGate, what: string): ActorUser {
  const user = requireUser(actor);
  if (gate === "none") {
    throw new DomainError(
      "creation_disabled",
      `Creating ${what} is turned off on this server: they are declared in its configuration`,
    );
  }
  if (gate === "superusers" && !user.superuser) {
    throw new DomainError("superuser_required", `Only superusers may create ${what} on this server`);
  }
  if (!keyMayCreate(actor.key)) {
    throw new DomainError("forbidden", `Creating ${what} takes a key without a pin that holds \`manageOrgSettings\``);
  }
  return user;
}
