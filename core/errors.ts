/**
 * Every failure the domain reports, by stable code: the `code` field of the API's envelope. Statuses live in
 * `core/http/envelope.ts`, in a table that does not compile while a code is missing from it.
 */
export type ErrorCode =
  | "bad_request"
  | "validation"
  | "invalid_name"
  | "invalid_email"
  | "invalid_password"
  | "invalid_username"
  | "registration_disabled"
  | "oauth_disabled"
  | "invalid_oauth_code"
  | "repository_unreachable"
  | "invalid_allowed_ip"
  | "cli_auth_pending"
  | "cli_auth_expired"
  | "cli_auth_denied"
  | "unauthorized"
  | "invalid_credentials"
  | "oauth_required"
  | "forbidden"
  | "forbidden_source_ip"
  | "superuser_required"
  | "creation_disabled"
  | "not_found"
  | "method_not_allowed"
  | "conflict"
  | "already_exists"
  | "gone"
  | "payload_too_large"
  | "unsupported_media_type"
  | "unprocessable_entity"
  | "too_many_requests"
  | "internal"
  | "service_unavailable";

/**
 * The message is shown to the client: it says what was wrong and what to do, and carries no secret and no internals.
 */
export class DomainError extends Error {
  override readonly name = "DomainError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
