import { DomainError, type ErrorCode } from "../errors.ts";

export interface Success<T> {
  readonly error: false;
  readonly message: T;
}

export interface Failure {
  readonly error: true;
  readonly code: ErrorCode;
  readonly message: string;
}

/** One status per code: a new code does not compile until it has one. */
export const ERROR_STATUS = {
  bad_request: 400,
  validation: 400,
  invalid_name: 400,
  invalid_email: 400,
  invalid_password: 400,
  invalid_username: 400,
  registration_disabled: 400,
  oauth_disabled: 400,
  invalid_oauth_code: 400,
  repository_unreachable: 400,
  invalid_allowed_ip: 400,
  cli_auth_pending: 400,
  cli_auth_expired: 400,
  cli_auth_denied: 400,
  unauthorized: 401,
  invalid_credentials: 401,
  oauth_required: 401,
  forbidden: 403,
  forbidden_source_ip: 403,
  superuser_required: 403,
  creation_disabled: 403,
  not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  already_exists: 409,
  gone: 410,
  payload_too_large: 413,
  unsupported_media_type: 415,
  unprocessable_entity: 422,
  too_many_requests: 429,
  internal: 500,
  service_unavailable: 503,
} as const satisfies Record<ErrorCode, number>;

/** Of a failure nobody foresaw. What it was stays in the log: it can carry SQL, paths and tokens. */
export const INTERNAL_ERROR: DomainError = new DomainError(
  "internal",
  "The server met an unexpected error; its log holds the cause under this request's id",
);

/** Of every address that leads nowhere. */
export const NOT_FOUND: DomainError = new DomainError("not_found", "Not Found");

export function success<T>(message: T): Success<T> {
  return { error: false, message };
}

export function failure(error: DomainError): Failure {
  return { error: true, code: error.code, message: error.message };
}

/** A failure as a whole answer; `headers` are added to it. */
export function failureResponse(error: DomainError, headers: Readonly<Record<string, string>> = {}): Response {
  const response = Response.json(failure(error), { status: ERROR_STATUS[error.code], headers });
  // RFC 9110 section 15.5.2: a 401 names the scheme to use.
  if (response.status === 401 && !response.headers.has("www-authenticate")) {
    response.headers.set("www-authenticate", "Bearer");
  }
  return response;
}
