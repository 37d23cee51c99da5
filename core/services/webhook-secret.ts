import type { WebhookSecretStateView, WebhookSecretView } from "../api/organizations.ts";
import { hasWebhookSecret, updateOrganization } from "../db/organizations.ts";
import { inTransaction } from "../db/transaction.ts";
import type { Actor } from "../domain/actor.ts";
import { toHex, utf8 } from "../lib/bytes.ts";
import { requireOrganization } from "./access.ts";
import { auditAuthor, recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";
import type { SecretPlace } from "./secret-box.ts";

const SECRET_BYTES = 32;

export function webhookSecretPlace(organizationId: string): SecretPlace {
  return { table: "organization", column: "webhook_secret", id: organizationId };
}

export async function getWebhookSecretState(
  { db, settings }: Pick<ServiceDeps, "db" | "settings">,
  actor: Actor,
  name: string,
): Promise<WebhookSecretStateView> {
  const { organization } = await requireOrganization({ db }, actor, name, "manageIntegrations");
  return { ...urlsOf(settings.serveUrl, organization.name), has_secret: await hasWebhookSecret(db, organization.id) };
}

/** The new secret. It is shown here once; what signed with the one before is refused from now on. */
export async function replaceWebhookSecret(
  { db, random, secrets, settings }: Pick<ServiceDeps, "db" | "random" | "secrets" | "settings">,
  actor: Actor,
  name: string,
): Promise<WebhookSecretView> {
  const { organization } = await requireOrganization({ db }, actor, name, "manageIntegrations", { unmanaged: true });
  const secret = toHex(random(new Uint8Array(SECRET_BYTES)));
  const sealed = await secrets.seal(webhookSecretPlace(organization.id), utf8(secret));
  const event = "organization.webhook_secret.replace";
  await inTransaction(db, async (trx) => {
    await updateOrganization(trx, organization.id, { webhook_secret: sealed });
    await recordAudit(trx, { ...auditAuthor(actor), event, organizationId: organization.id });
  });
  return { ...urlsOf(settings.serveUrl, organization.name), secret };
}

/** No forge is believed any more that has no integration of its own. */
export async function deleteWebhookSecret({ db }: Pick<ServiceDeps, "db">, actor: Actor, name: string): Promise<void> {
  const { organization } = await requireOrganization({ db }, actor, name, "manageIntegrations", { unmanaged: true });
  const event = "organization.webhook_secret.delete";
  await inTransaction(db, async (trx) => {
    await updateOrganization(trx, organization.id, { webhook_secret: null });
    await recordAudit(trx, { ...auditAuthor(actor), event, organizationId: organization.id });
  });
}

function urlsOf(serveUrl: string, organizationName: string): Pick<WebhookSecretView, "webhook_url" | "webhook_urls"> {
  const url = (forge: string) => `${serveUrl}/api/v1/hooks/${forge}/${organizationName}`;
  const webhook_urls = { gitea: url("gitea"), forgejo: url("forgejo"), gitlab: url("gitlab"), github: url("github") };
  return { webhook_url: webhook_urls.gitea, webhook_urls };
}
