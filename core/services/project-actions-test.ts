import type { ActionTypeName } from "../api/project-actions.ts";
import { endDelivery, insertTestDelivery } from "../db/action-deliveries.ts";
import type { EventFacts } from "../db/tables/actions.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { EvaluationKind, EvaluationStatus } from "../domain/states.ts";
import { DomainError } from "../errors.ts";
import { MINUTE } from "../lib/clock.ts";
import { uuidV7 } from "../lib/ids.ts";
import type { BucketShape, TokenBuckets } from "../lib/token-buckets.ts";
import { requireProject } from "./access.ts";
import { attemptDelivery, type DeliveryDeps } from "./action-delivery.ts";
import type { ServiceDeps } from "./deps.ts";
import { requireAction } from "./project-actions.ts";
import { actionTypeName } from "./project-actions-rules.ts";
import type { ProjectName } from "./projects.ts";

const EVENT = "evaluation.completed";
const LEASE_MS: number = 10 * MINUTE;
/** As often as links are mailed: whose mail server it is, and who gets the mails, is not for one person to say. */
export const MAIL_TESTS: BucketShape = { refillMs: MINUTE, burst: 3 };
const SENT: readonly ActionTypeName[] = ["send_mail", "send_web_request"];

/**
 * Does what the action does, once and at once, for an evaluation that never was. It is among the deliveries. Throws
 * `service_unavailable` with the reason when it fails, `too_many_requests` for mails soon after others.
 */
export async function testProjectAction(
  deps: DeliveryDeps & Pick<ServiceDeps, "random"> & { readonly mailTests: Pick<TokenBuckets, "take"> },
  actor: Actor,
  name: ProjectName,
  actionId: string,
): Promise<void> {
  const action = await requireAction(deps, actor, name, { id: actionId, need: "manageActions" });
  if (!SENT.includes(actionTypeName(action.type))) {
    throw new DomainError("unprocessable_entity", "Actions of this type have nothing to be tried");
  }
  if (actionTypeName(action.type) === "send_mail" && deps.mailTests.take(requireUser(actor).id) > 0) {
    throw new DomainError("too_many_requests", "Mails were sent for your tests just now: try again in a minute");
  }
  const { project, organization } = await requireProject(deps, actor, name, "manageActions");
  const now = deps.clock.now();
  const facts: EventFacts = {
    evaluation_id: uuidV7(now, deps.random),
    project_id: project.id,
    repository: project.repository,
    kind: EvaluationKind.Normal,
    status: EvaluationStatus.Completed,
  };
  const id = uuidV7(now, deps.random);
  await insertTestDelivery(deps.db, { id, action_id: action.id, event: EVENT, facts, leaseMs: LEASE_MS });
  const { result } = await attemptDelivery(deps, {
    id,
    action_id: action.id,
    event: EVENT,
    facts,
    attempts: 1,
    name: action.name,
    type: action.type,
    config: action.config,
    token: action.token,
    failures: action.failures,
    project_name: project.name,
    organization_name: organization.name,
  });
  await endDelivery(deps.db, id, result);
  if (!result.success) throw new DomainError("service_unavailable", `The action failed: ${result.error_message}`);
}
