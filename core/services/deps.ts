import type { Kysely } from "kysely";
import type { Database } from "../db/schema.ts";
import type { Bytes } from "../lib/bytes.ts";
import type { Clock } from "../lib/clock.ts";
import type { RandomBytes } from "../lib/ids.ts";
import type { Logger } from "../ports/logger.ts";
import type { Notifier } from "../ports/notifier.ts";
import type { PasswordHasher } from "../ports/password-hasher.ts";
import type { SecretBox } from "./secret-box.ts";

/** Who may create organizations, or caches. */
export type CreationGate = "none" | "superusers" | "everyone";

/** What of the configuration decides in services. Read once at start, checked there. */
export interface ServiceSettings {
  readonly version: string;
  /** Origin under which clients reach the API, without a trailing slash: its host names signing keys. */
  readonly serveUrl: string;
  /** Origin of the web interface, without a trailing slash: links for people begin with it. */
  readonly frontendUrl: string;
  /** Browsers send the session's cookie over TLS only. */
  readonly secureCookie: boolean;
  /** Contents of the JWT secret file, outer white space removed; at least 32 bytes. */
  readonly jwtSecret: Bytes;
  readonly registrationEnabled: boolean;
  /** Null: the server sends no mail. */
  readonly mail: MailSettings | null;
  /** Null: nobody signs in by an identity provider. */
  readonly oidc: OidcMode | null;
  readonly createOrganization: CreationGate;
  readonly createCache: CreationGate;
  /** Whether everybody who is signed in sees all connected workers; absent: superusers alone do. */
  readonly globalStatsPublic?: boolean;
}

export interface MailSettings {
  /** Nobody signs in with a password whose e-mail address was not shown to be theirs. */
  readonly verificationRequired: boolean;
}

export interface OidcMode {
  /** Nobody registers or signs in with a password. */
  readonly required: boolean;
  /** The provider's logo. */
  readonly iconUrl: string | null;
}

/** What services work with. A service names the part it needs (`Pick<ServiceDeps, "db">`). */
export interface ServiceDeps {
  readonly db: Kysely<Database>;
  readonly clock: Clock;
  readonly random: RandomBytes;
  readonly log: Logger;
  readonly notifier: Notifier;
  readonly passwords: PasswordHasher;
  readonly secrets: SecretBox;
  readonly settings: ServiceSettings;
}
