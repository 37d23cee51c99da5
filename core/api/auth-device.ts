import * as v from "valibot";
import { nameText, secretText } from "./text.ts";

/** `POST /auth/cli/poll`. */
export const PollDeviceBody = v.object({ device_code: secretText }) satisfies v.GenericSchema<unknown, PollDeviceBody>;
export interface PollDeviceBody {
  readonly device_code: string;
}

/** `GET /auth/cli/info`. */
export const DeviceQuery = v.object({ user_code: nameText }) satisfies v.GenericSchema<unknown, DeviceQuery>;
export interface DeviceQuery {
  /** As it is shown to the person at the command line. */
  readonly user_code: string;
}

/** `POST /auth/cli/authorize` and `/deny`. */
export const AnswerDeviceBody = v.object({ user_code: nameText }) satisfies v.GenericSchema<unknown, DeviceQuery>;

/** `POST /auth/cli/start`. */
export interface DeviceStartView {
  readonly device_code: string;
  readonly user_code: string;
  readonly verification_uri: string;
  readonly verification_uri_complete: string;
  /** Seconds. */
  readonly expires_in: number;
  /** Seconds between two polls. */
  readonly interval: number;
}

/** `GET /auth/cli/info`: who asks to be let in. */
export interface DeviceView {
  readonly user_code: string;
  readonly expires_at: string;
  readonly user_agent: string | null;
  readonly ip: string;
}
