import type { Sender } from "../db/sent-nars.ts";
