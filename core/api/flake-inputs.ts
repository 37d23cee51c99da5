import * as v from "valibot";
import { nameText, text } from "./text.ts";

const url = v.nullable(text(2_000));

/** `POST /projects/{organization}/{project}/flake-inputs`. Without a URL the newest state of the input is taken. */
export const AddFlakeInputBody = v.object({
  input_name: nameText,
  url: v.optional(url, null),
}) satisfies v.GenericSchema<unknown, AddFlakeInputBody>;
export interface AddFlakeInputBody {
  readonly input_name: string;
  readonly url: string | null;
}

/** What is absent stays. */
export const ChangeFlakeInputBody = v.object({
  input_name: v.optional(nameText),
  url: v.optional(url),
}) satisfies v.GenericSchema<unknown, ChangeFlakeInputBody>;
export interface ChangeFlakeInputBody {
  readonly input_name?: string | undefined;
  readonly url?: string | null | undefined;
}

export interface FlakeInputView {
  readonly id: string;
  readonly project: string;
  readonly input_name: string;
  /** Null: tracked. Passwords in it are shown to who may edit the project only. */
  readonly url: string | null;
  readonly created_at: string;
  readonly updated_at: string;
}
