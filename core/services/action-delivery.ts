import {
  claimDeliveries,
  type DeliveryResult,
  type DueDelivery,
  delayDelivery,
  deleteOldDeliveries,
  endDelivery,
} from "../db/action-deliveries.ts";
import { type ActionEvent, writeActionMail } from "../domain/action-messages.ts";
import { buildStatusName, EvaluationKind, evaluationStatusName } from "../domain/states.ts";
import { concatBytes, fromUtf8, fromUtf8Lossy } from "../lib/bytes.ts";
import { DAY, HOUR, MINUTE, SECOND } from "../lib/clock.ts";
import { Semaphore } from "../lib/semaphore.ts";
import { redactUrl } from "../nix/flake-ref.ts";
import type { Logger } from "../ports/logger.ts";
import { type Mailer, MailRefusedError } from "../ports/mailer.ts";
import { type JsonSender, OutboundError } from "../ports/outbound.ts";
import type { ServiceDeps } from "./deps.ts";
import { actionTokenPlace, actionTypeName } from "./project-actions-rules.ts";

/** What actions go out with. */
export interface ActionPorts {
  readonly web: JsonSender;
  /** Null: the server sends no mail. */
  readonly mailer: Mailer | null;
}

export interface DeliveryDeps extends Pick<ServiceDeps, "db" | "clock" | "secrets" | "settings"> {
  readonly log: Logger;
  readonly actions: ActionPorts;
}

/** Sent side by side. */
const BATCH = 8;
/** Longer than an attempt may take: twenty mails, each of which has to be taken in time. */
const LEASE_MS: number = 10 * MINUTE;
const TIMEOUT_MS: number = 15 * SECOND;
const BODY_BYTES_MAX = 64 * 1024;
const ERROR_LENGTH_MAX = 1_000;
/** Between attempts, where another may help. */
const RETRIES_MS: readonly number[] = [10 * SECOND, MINUTE, 5 * MINUTE, 30 * MINUTE];
/** Of an action of which one delivery after the other fails. */
const PAUSE_MS: number = 5 * SECOND;
const PAUSE_MS_MAX: number = 30 * MINUTE;
/** Mails of one delivery. */
const MAILS_AT_ONCE = 5;
const KEEP = { keepMs: 30 * DAY, keepCount: 1_000, limit: 1_000 };
const MAIL_FAILED = "the mail server takes no mail now, or cannot be reached; this server's log holds the cause";
const UNEXPECTED = "this server met an unexpected error; its log holds the cause";
/** Statuses of HTTP after which the same request may be taken. */
const PASSING: readonly number[] = [408, 425, 429, 500, 502, 503, 504];

const KIND_NAMES = Object.fromEntries(Object.entries(EvaluationKind).map(([name, kind]) => [kind, name]));

/** Delivers some of what is due. Returns whether there may be more. */
export async function deliverActions(deps: DeliveryDeps): Promise<boolean> {
  const due = await claimDeliveries(deps.db, BATCH, LEASE_MS);
  await Promise.all(due.map((delivery) => deliver(deps, delivery)));
  return due.length === BATCH;
}

/** Deliveries are kept for a month, and a thousand of each action. */
export async function tidyDeliveries({ db }: Pick<DeliveryDeps, "db">): Promise<void> {
  await deleteOldDeliveries(db, KEEP);
}

async function deliver(deps: DeliveryDeps, delivery: DueDelivery): Promise<void> {
  const { result, mayRetry } = await attemptDelivery(deps, delivery);
  const pause = mayRetry ? RETRIES_MS[delivery.attempts - 1] : undefined;
  try {
    if (pause === undefined) await endDelivery(deps.db, delivery.id, result);
    else await delayDelivery(deps.db, delivery, { ms: pause, pauseMs: pauseOf(delivery), error: result.error_message });
  } catch (error) {
    // It comes again when nobody holds it any more.
    deps.log.error("what came of an action was not written down", { error, delivery: delivery.id });
  }
}

function pauseOf({ failures }: DueDelivery): number {
  return Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** Math.min(failures, 20));
}

export interface Attempt {
  readonly result: DeliveryResult;
  /** The same again may succeed. */
  readonly mayRetry: boolean;
}

/** Sends what the event is to say, once. It never rejects. */
export async function attemptDelivery(deps: DeliveryDeps, delivery: DueDelivery): Promise<Attempt> {
  const began = deps.clock.monotonic();
  const request_body = bodyOf(deps, delivery);
  const nothing = { request_body, response_status: null, response_body: null };
  const took = () => ({ duration_ms: Math.round(deps.clock.monotonic() - began) });
  try {
    if (actionTypeName(delivery.type) === "send_mail") {
      await sendMails(deps, delivery);
      return { result: { ...nothing, ...took(), success: true, error_message: null }, mayRetry: false };
    }
    const { status, text } = await sendRequest(deps, delivery, request_body);
    const success = status >= 200 && status < 300;
    const answer = { request_body, response_status: status, response_body: text };
    const error_message = success ? null : `it answered with status ${status}`;
    return { result: { ...answer, ...took(), success, error_message }, mayRetry: PASSING.includes(status) };
  } catch (error) {
    const words = wordsOf(error);
    if (words === null) deps.log.error("an action failed", { error, action: delivery.action_id });
    const isMail = actionTypeName(delivery.type) === "send_mail";
    const error_message = words ?? (isMail ? MAIL_FAILED : UNEXPECTED);
    const isFinal =
      error instanceof MailRefusedError || (error instanceof OutboundError && error.failure === "refused");
    return { result: { ...nothing, ...took(), success: false, error_message }, mayRetry: !isFinal };
  }
}

async function sendRequest(
  { actions, secrets }: DeliveryDeps,
  { id, action_id, event, config, token }: DueDelivery,
  body: string,
): Promise<{ readonly status: number; readonly text: string }> {
  const secret = token && fromUtf8(await secrets.open(actionTokenPlace(action_id), token));
  const answer = await actions.web.postJson(String(config.url), body, {
    timeoutMs: TIMEOUT_MS,
    idleTimeoutMs: TIMEOUT_MS,
    // What is longer is not read to its end.
    bytesMax: Number.MAX_SAFE_INTEGER,
    headers: {
      "x-gradient-event": event,
      // The same for every attempt: whoever gets it twice can tell.
      "x-gradient-delivery": id,
      ...(secret && { authorization: `Bearer ${secret}` }),
    },
  });
  return { status: answer.status, text: await beginningOf(answer) };
}

async function beginningOf({
  body,
  discard,
}: {
  readonly body: AsyncIterable<Uint8Array>;
  readonly discard: () => void;
}): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const part of body) {
      parts.push(part);
      length += part.length;
      if (length >= BODY_BYTES_MAX) break;
    }
  } catch {
    // The status has come, and says enough.
  } finally {
    discard();
  }
  // PostgreSQL's text holds no NUL.
  return fromUtf8Lossy(concatBytes(parts).subarray(0, BODY_BYTES_MAX)).replaceAll("\0", "\ufffd");
}

async function sendMails(deps: DeliveryDeps, delivery: DueDelivery): Promise<void> {
  const { mailer } = deps.actions;
  if (!mailer) throw new MailRefusedError("this server sends no mail");
  const { recipients, subject_template: template } = delivery.config;
  const text = writeActionMail(eventOf(deps, delivery), typeof template === "string" ? template : null);
  const places = new Semaphore(MAILS_AT_ONCE);
  const sent = (recipients as readonly string[]).map((to, index) =>
    places.run(() => mailer.send({ id: `${delivery.id}-${index}`, to, ...text })),
  );
  // Nobody goes without a mail because another's was refused.
  const failed = (await Promise.allSettled(sent)).find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
}

/** What a web request says, and what a mail is about. */
function bodyOf(deps: DeliveryDeps, delivery: DueDelivery): string {
  const { evaluation_id, project_id, repository, kind, build_id, derivation } = delivery.facts;
  const { status } = eventOf(deps, delivery);
  const evaluation_kind = KIND_NAMES[kind] ?? "Normal";
  return JSON.stringify(
    build_id === undefined
      ? { evaluation_id, project_id, repository: redactUrl(repository), status, evaluation_kind }
      : { build_id, evaluation_id, derivation_path: derivation, status, evaluation_kind },
  );
}

function eventOf({ settings }: Pick<DeliveryDeps, "settings">, delivery: DueDelivery): ActionEvent {
  const { evaluation_id: evaluationId, build_id: buildId, derivation, status } = delivery.facts;
  const { event, organization_name: organization, project_name: project } = delivery;
  return {
    event,
    organization,
    project,
    status: buildId === undefined ? evaluationStatusName(status) : buildStatusName(status),
    evaluationId,
    build: buildId === undefined ? null : { id: buildId, derivation: derivation ?? "" },
    link: `${settings.frontendUrl}/organization/${organization}/log/${evaluationId}`,
  };
}

/** What is for people. Of the mail server only what it says of the mail: how it is reached is the operator's. */
function wordsOf(error: unknown): string | null {
  const isForPeople = error instanceof OutboundError || error instanceof MailRefusedError;
  return isForPeople ? error.message.slice(0, ERROR_LENGTH_MAX) : null;
}

/** How often what is too old is removed. */
export const TIDY_INTERVAL_MS: number = HOUR;
