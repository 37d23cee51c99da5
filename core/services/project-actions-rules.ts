import { ACTION_TYPES, type ActionConfig, type ActionTypeName, type ActionView } from "../api/project-actions.ts";
import { naiveTime } from "../api/times.ts";
import type { ProjectActionRow, StoredActionConfig } from "../db/tables/actions.ts";
import { allowsOrganization } from "../domain/permissions.ts";
import { DomainError } from "../errors.ts";
import { assert } from "../lib/assert.ts";
import type { RandomBytes } from "../lib/ids.ts";
import type { SecretPlace } from "./secret-box.ts";

/** One address alone: what a mail server is given is not put together from parts. */
const ADDRESS = /^[^\s@<>,;:"()[\]\\]{1,64}@[^\s@<>,;:"()[\]\\]{1,190}$/;
const TOKEN_BYTES = 32;

export function actionTypeName(type: number): ActionTypeName {
  const name = ACTION_TYPES[type];
  assert(name !== undefined, `no type of action has the number ${type}`);
  return name;
}

export function actionTypeNumber(type: ActionTypeName): number {
  return ACTION_TYPES.indexOf(type);
}

/** Throws `unprocessable_entity` for what could never be delivered. */
export function checkActionConfig(config: ActionConfig, { mailIsOn }: { readonly mailIsOn: boolean }): void {
  switch (config.type) {
    case "send_mail": {
      if (!mailIsOn) throw refused("this server sends no mail: its operator has to configure a mail server first");
      if (config.recipients.length === 0) throw refused("config.recipients: name whom to write to");
      const wrong = config.recipients.find((address) => !ADDRESS.test(address));
      if (wrong !== undefined) throw refused(`config.recipients: ${JSON.stringify(wrong)} is no e-mail address`);
      return;
    }
    case "send_web_request": {
      const url = URL.canParse(config.url) ? new URL(config.url) : null;
      if (!url || !/^https?:$/.test(url.protocol)) throw refused("config.url: write a whole https:// or http:// URL");
      if (url.username || url.password) throw refused("config.url: give a `token` instead of a user and a password");
      if (config.token !== null && !/^[\x21-\x7e]+$/.test(config.token)) {
        throw refused("config.token: it may hold printable ASCII characters only, and no space");
      }
    }
  }
}

/** Without its type and without secrets; its keys in the order of the API, so that equal settings are equal text. */
export function storedActionConfig(config: ActionConfig): StoredActionConfig {
  if (config.type === "send_web_request") return { url: config.url };
  return { recipients: config.recipients, subject_template: config.subject_template };
}

/** What a web request shows of itself: easily told from other tokens. */
export function newActionToken(random: RandomBytes): string {
  const bytes = random(new Uint8Array(TOKEN_BYTES));
  const base64 = btoa(String.fromCharCode(...bytes));
  return `gat_${base64.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "")}`;
}

export function actionTokenPlace(id: string): SecretPlace {
  return { table: "project_action", column: "token", id };
}

/** Whoever knows the address of a web request may often send to it: it is for who may manage actions. */
export function viewAction(row: ProjectActionRow, { mask }: { readonly mask: number }): ActionView {
  const type = actionTypeName(row.type);
  const { url } = row.config;
  const hidden = typeof url === "string" && !allowsOrganization(mask, "manageActions");
  return {
    id: row.id,
    name: row.name,
    action_type: type,
    config: { type, ...row.config, ...(hidden && { url: hiddenUrl(url) }) },
    events: row.events,
    active: row.active,
    last_fired_at: row.last_fired_at && naiveTime(row.last_fired_at),
    created_by: row.created_by,
    created_at: naiveTime(row.created_at),
    updated_at: naiveTime(row.updated_at),
  };
}

function hiddenUrl(url: string): string {
  return URL.canParse(url) ? `${new URL(url).origin}/***` : "***";
}

function refused(message: string): DomainError {
  return new DomainError("unprocessable_entity", message);
}
