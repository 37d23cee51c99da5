// What the requests of these tests name, and what is there under these names.

export const PUBLIC = { organization: "open-org", cache: "open-cache" } as const;
export const STORE_PATH = "0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c-site";
export const BLOB = "{}\n";
export const BLOCKED: string = "3".repeat(32);
export const WORKER_ID = "550e8400-e29b-41d4-a716-446655440001";
