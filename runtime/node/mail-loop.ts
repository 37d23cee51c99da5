import { HOUR, SECOND, sleep } from "#core/lib/clock.ts";
import type { Mailer } from "#core/ports/mailer.ts";
import type { Notifier } from "#core/ports/notifier.ts";
import { deliverMails, isFullBatch, type MailDeliveryDeps, tidyMails } from "#core/services/mail-delivery.ts";
import { Wakeable } from "./wakeable.ts";

/** For what was delayed, and where word of a mail was lost. */
const LOOK_INTERVAL_MS: number = 10 * SECOND;
const TIDY_INTERVAL_MS: number = HOUR;

export interface AccountLoopDeps extends Omit<MailDeliveryDeps, "mailer"> {
  readonly notifier: Notifier;
  /** Null: the server sends no mail. Rows of mails wait until it does again. */
  readonly mailer: Mailer | null;
}

/** Sends mails, and removes what people did not answer in time, until it is stopped. It never rejects. */
export async function keepAccounts({ mailer, ...deps }: AccountLoopDeps, signal: AbortSignal): Promise<void> {
  await Promise.all([keepTidyingAccounts(deps, signal), mailer && keepSendingMails({ ...deps, mailer }, signal)]);
}

/** Sends the mails that are rows, until it is stopped. It never rejects. Idle it is a look into an empty index. */
export async function keepSendingMails(
  deps: MailDeliveryDeps & { readonly notifier: Notifier },
  signal: AbortSignal,
): Promise<void> {
  using waiting = new Wakeable(deps, "mail");
  while (!signal.aborted) {
    const sent = await deliverMails(deps).catch((error: unknown) => {
      deps.log.error("mails were not looked at; it is tried again", { error });
      return 0;
    });
    if (!isFullBatch(sent)) await waiting.wait(LOOK_INTERVAL_MS, signal);
  }
}

async function keepTidyingAccounts(
  deps: Pick<MailDeliveryDeps, "db" | "clock" | "log">,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await tidyMails(deps, signal).catch((error: unknown) => {
      deps.log.warn("old links and device codes were not removed; it is tried again", { error });
    });
    await sleep(deps.clock, TIDY_INTERVAL_MS, signal);
  }
}
